{{- /* Cut, so that it fits into the name of a Service with a group and -http appended. */}}
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

{{- /* The address of one server's gRPC. The name resolves to all its pods. dict "root" "server". */}}
{{- define "codecascade.address" -}}
{{ include "codecascade.server" . }}.{{ .root.Release.Namespace }}.svc:8001
{{- end }}

{{- /* Where one server's supervisor says whether it is ready. dict "root" "server". */}}
{{- define "codecascade.healthUrl" -}}
http://{{ include "codecascade.server" . }}-http.{{ .root.Release.Namespace }}.svc:8003/health/ready
{{- end }}

{{- /* The labels that selectors use. dict "root" "server". */}}
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

{{- /* The reference of an image. dict "root" "image". */}}
{{- define "codecascade.image" -}}
{{ .image.repository }}{{ if .image.digest }}@{{ .image.digest }}{{ else }}:{{ .image.tag | default .root.Chart.AppVersion }}{{ end }}
{{- end }}

{{- /* The tier groups, each merged over tierDefaults: a YAML list. Read it with fromYamlArray. */}}
{{- define "codecascade.groups" -}}
{{- $groups := list }}
{{- range .Values.tierGroups }}
{{- $group := mergeOverwrite (deepCopy $.Values.tierDefaults) . }}
{{- if has $group.name (list "cascade" "gateway" "sandbox") }}
{{- fail (printf "tierGroups: a group is named %s, must not be cascade, gateway or sandbox" $group.name) }}
{{- end }}
{{- if and (gt (int $group.ranks) 1) (ne $group.runtime "tensorrt_llm") }}
{{- fail (printf "tierGroups: %s has ranks %d, must be 1 with the runtime %s, which starts its own ranks" $group.name (int $group.ranks) $group.runtime) }}
{{- end }}
{{- if and (gt (int $group.ranks) 1) (gt (len $group.tiers) 1) }}
{{- fail (printf "tierGroups: %s has ranks %d and %d tiers, must have 1 tier" $group.name (int $group.ranks) (len $group.tiers)) }}
{{- end }}
{{- if gt (int $group.ranks) (int $group.gpus) }}
{{- fail (printf "tierGroups: %s has ranks %d, must be %d or less, its gpus" $group.name (int $group.ranks) (int $group.gpus)) }}
{{- end }}
{{- $groups = append $groups $group }}
{{- end }}
{{- toYaml $groups }}
{{- end }}
