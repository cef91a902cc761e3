{{- /* The deployment file, with what only the release knows: each tier's address and the path of the plans. */}}
{{- define "codecascade.deployment" -}}
{{- $family := required "family is not set: the model family, as in build/families" .Values.family }}
{{- $text := required "deployment is not set: --set-file deployment=FILE, as make plan-gpus ARGS=--render writes it" .Values.deployment }}
{{- $deployment := fromJson $text }}
{{- if hasKey $deployment "Error" }}{{ fail (printf "deployment is not a JSON object: %s" $deployment.Error) }}{{ end }}
{{- if ne (toString $deployment.family) $family }}
{{- fail (printf "deployment has the family %v, must be the release's, %s" $deployment.family $family) }}
{{- end }}
{{- $place := dict }}
{{- range include "codecascade.groups" . | fromYamlArray }}
{{- $group := .name }}
{{- range .tiers }}
{{- if hasKey $place . }}{{ fail (printf "tierGroups: tier %s is in two groups, %s and %s" . (get $place .) $group) }}{{ end }}
{{- $_ := set $place . $group }}
{{- end }}
{{- end }}
{{- $tiers := list }}
{{- range $deployment.tiers }}
{{- if not (hasKey $place .name) }}{{ fail (printf "tierGroups: tier %s of the deployment is in no group" .name) }}{{ end }}
{{- $url := include "codecascade.address" (dict "root" $ "server" (get $place .name)) }}
{{- $tiers = append $tiers (set . "url" $url) }}
{{- $place = omit $place .name }}
{{- end }}
{{- if $place }}{{ fail (printf "tierGroups: not in the deployment: %s" (join ", " (keys $place | sortAlpha))) }}{{ end }}
{{- $_ := set $deployment "tiers" $tiers }}
{{- $_ := set $deployment "plans" (printf "/etc/codecascade/plans/%s.json" $family) }}
{{- toPrettyJson $deployment }}
{{- end }}

{{- /* The plan file as given, checked here because the server would refuse a bad one only at its start. */}}
{{- define "codecascade.plans" -}}
{{- $text := required "plans is not set: --set-file plans=plans/<family>.json" .Values.plans }}
{{- $plans := fromJson $text }}
{{- if hasKey $plans "Error" }}{{ fail (printf "plans is not a JSON object: %s" $plans.Error) }}{{ end }}
{{- if ne (toString $plans.family) .Values.family }}
{{- fail (printf "plans has the family %v, must be the release's, %s" $plans.family .Values.family) }}
{{- end }}
{{- $tiers := list }}
{{- range .Values.tierGroups }}{{ $tiers = concat $tiers .tiers }}{{ end }}
{{- range $name, $plan := $plans.plans }}
{{- range $plan.steps }}
{{- if not (has .tier $tiers) }}{{ fail (printf "plans: plan %s names tier %s, which is not deployed" $name .tier) }}{{ end }}
{{- end }}
{{- end }}
{{- $text }}
{{- end }}
