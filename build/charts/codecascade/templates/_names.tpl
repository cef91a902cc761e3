{{- /* Short enough for the name of a Service with a group and -http behind it. */}}
{{- define "codecascade.fullname" -}}
{{- include "codecascade.release" . | trunc 37 | trimSuffix "-" }}
{{- end }}

{{- define "codecascade.release" -}}
{{- if contains "codecascade" .Release.Name }}{{ .Release.Name }}{{ else }}{{ .Release.Name }}-codecascade{{ end }}
{{- end }}

{{- /* The name of one server: dict "root" "server". */}}
{{- define "codecascade.server" -}}
{{ include "codecascade.fullname" .root }}-{{ .server }}
{{- end }}

{{- /* Where one server's gRPC is reached: a name that stands for all its pods. */}}
{{- define "codecascade.address" -}}
{{ include "codecascade.server" . }}.{{ .root.Release.Namespace }}.svc:8001
{{- end }}

{{- /* The labels that selectors use. */}}
{{- define "codecascade.selector" -}}
app.kubernetes.io/name: codecascade
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .server }}
{{- end }}

{{- define "codecascade.labels" -}}
{{ include "codecascade.selector" . }}
app.kubernetes.io/part-of: codecascade
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- end }}

{{- /* dict "root" "image". */}}
{{- define "codecascade.image" -}}
{{ .image.repository }}{{ if .image.digest }}@{{ .image.digest }}{{ else }}:{{ .image.tag | default .root.Chart.AppVersion }}{{ end }}
{{- end }}

{{- /* The tier groups, complete: a YAML list of each group over tierDefaults. Read it with fromYamlArray. */}}
{{- define "codecascade.groups" -}}
{{- $groups := list }}
{{- range .Values.tierGroups }}
{{- $group := mergeOverwrite (deepCopy $.Values.tierDefaults) . }}
{{- if has $group.name (list "cascade" "sandbox") }}
{{- fail (printf "tierGroups: a group cannot be named %s" $group.name) }}
{{- end }}
{{- if and (gt (int $group.ranks) 1) (ne $group.runtime "tensorrt_llm") }}
{{- fail (printf "tierGroups: %s has ranks %d, with the runtime %s allowed is 1: it starts its own" $group.name (int $group.ranks) $group.runtime) }}
{{- end }}
{{- if and (gt (int $group.ranks) 1) (gt (len $group.tiers) 1) }}
{{- fail (printf "tierGroups: %s splits its engine over %d GPUs and has %d tiers, allowed is 1" $group.name (int $group.ranks) (len $group.tiers)) }}
{{- end }}
{{- if gt (int $group.ranks) (int $group.gpus) }}
{{- fail (printf "tierGroups: %s splits its engine over %d GPUs and has %d" $group.name (int $group.ranks) (int $group.gpus)) }}
{{- end }}
{{- $groups = append $groups $group }}
{{- end }}
{{- toYaml $groups }}
{{- end }}
