{{- /* Everything of one server with a Triton but its autoscaler. dict: that of podsOf, and args (Triton's flags). */}}
{{- define "codecascade.deploymentOf" -}}
{{ include "codecascade.podsOf" (set . "program" "triton") }}
---
{{ include "codecascade.servicesOf" . }}
{{- end }}

{{- /*
The Deployment of one server and its PodDisruptionBudget. dict:
  root, server (its name), program (triton or gateway: what its container runs), settings (replicas, resources, …),
  image (of .Values.images), env, mounts, volumes, init (YAML texts, may be empty), annotations (dict), gpus, gpuResource
*/}}
{{- define "codecascade.podsOf" -}}
{{- $name := include "codecascade.server" . }}
{{- $settings := .settings }}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ $name }}
  labels:
    {{- include "codecascade.labels" . | nindent 4 }}
spec:
  {{- if eq $settings.autoscaling.mode "none" }}
  replicas: {{ $settings.replicas }}
  {{- end }}
  strategy:
    {{- toYaml $settings.strategy | nindent 4 }}
  selector:
    matchLabels:
      {{- include "codecascade.selector" . | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "codecascade.labels" . | nindent 8 }}
      {{- with .annotations }}
      annotations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
    spec:
      serviceAccountName: {{ include "codecascade.fullname" .root }}
      automountServiceAccountToken: false
      enableServiceLinks: false # they would set variables that begin with CODECASCADE_, like settings
      terminationGracePeriodSeconds: {{ add (int $settings.drainSeconds) 20 }}
      {{- with .root.Values.images.pullSecrets }}
      imagePullSecrets:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $settings.runtimeClassName }}
      runtimeClassName: {{ . }}
      {{- end }}
      {{- with $settings.priorityClassName }}
      priorityClassName: {{ . }}
      {{- end }}
      {{- with $settings.nodeSelector }}
      nodeSelector:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $settings.tolerations }}
      tolerations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $settings.affinity }}
      affinity:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      topologySpreadConstraints:
        - maxSkew: 1
          topologyKey: kubernetes.io/hostname
          whenUnsatisfiable: ScheduleAnyway
          labelSelector:
            matchLabels:
              {{- include "codecascade.selector" . | nindent 14 }}
      securityContext:
        runAsNonRoot: true
        runAsUser: 10001
        runAsGroup: 10001
        fsGroup: 10001
        fsGroupChangePolicy: OnRootMismatch
        seccompProfile: {type: RuntimeDefault}
      {{- with .init }}
      initContainers:
        {{- . | nindent 8 }}
      {{- end }}
      containers:
        - name: {{ .program }}
          image: {{ include "codecascade.image" (dict "root" .root "image" .image) }}
          imagePullPolicy: {{ .image.pullPolicy }}
          {{- include (printf "codecascade.%s" .program) . | nindent 10 }}
          lifecycle:
            preStop:
              exec: {command: [sleep, "5"]} # until the Services no longer list this pod
          resources:
            {{- $resources := deepCopy $settings.resources }}
            {{- if .gpus }}
            {{- $gpu := dict .gpuResource (int .gpus) }}
            {{- $resources = mergeOverwrite $resources (dict "requests" $gpu "limits" $gpu) }}
            {{- end }}
            {{- toYaml $resources | nindent 12 }}
          securityContext:
            allowPrivilegeEscalation: false
            readOnlyRootFilesystem: true
            capabilities: {drop: [ALL]}
          volumeMounts:
            - {name: tmp, mountPath: /tmp}
            {{- if $settings.sharedMemory }}
            - {name: shm, mountPath: /dev/shm}
            {{- end }}
            {{- with .mounts }}
            {{- . | nindent 12 }}
            {{- end }}
      volumes:
        - name: tmp
          emptyDir: {sizeLimit: 1Gi}
        {{- with $settings.sharedMemory }}
        - name: shm # carries tensors to and from Python models
          emptyDir: {medium: Memory, sizeLimit: {{ . }}}
        {{- end }}
        {{- with .volumes }}
        {{- . | nindent 8 }}
        {{- end }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ $name }}
  labels:
    {{- include "codecascade.labels" . | nindent 4 }}
spec:
  {{- toYaml $settings.disruption | nindent 2 }}
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "codecascade.selector" . | nindent 6 }}
{{- end }}

{{- /* What a container with a Triton runs, and how it is asked whether it is well. dict: that of deploymentOf. */}}
{{- define "codecascade.triton" -}}
{{- $settings := .settings }}
args:
  - codecascade-triton
  {{- range concat .args $settings.extraArgs }}
  - {{ . | quote }}
  {{- end }}
env:
  - {name: CODECASCADE_DRAIN_S, value: {{ $settings.drainSeconds | quote }}}
  - {name: CODECASCADE_START_S, value: {{ $settings.startupSeconds | quote }}}
  {{- if ne .server "cascade" }}
  - {name: CODECASCADE_INNER_TOKEN, value: ""} # the network policy and TLS decide who calls this server
  {{- end }}
  {{- with .env }}
  {{- . | nindent 2 }}
  {{- end }}
ports:
  - {name: http, containerPort: 8000}
  - {name: grpc, containerPort: 8001}
  - {name: metrics, containerPort: 8002}
  - {name: health, containerPort: 8003} # the supervisor's: it asks the models, Triton does not
startupProbe:
  httpGet: {path: /health/ready, port: health}
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: {{ div (add (int $settings.startupSeconds) 4) 5 }}
readinessProbe:
  httpGet: {path: /health/ready, port: health}
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: 3
livenessProbe:
  httpGet: {path: /health/live, port: health}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
{{- end }}

{{- /* The Services of a server with a Triton. dict "root" "server". */}}
{{- define "codecascade.servicesOf" -}}
{{- $name := include "codecascade.server" . }}
apiVersion: v1
kind: Service
metadata:
  name: {{ $name }}
  labels:
    {{- include "codecascade.labels" . | nindent 4 }}
spec: # headless: a gRPC client resolves every pod and calls them in turn
  clusterIP: None
  selector:
    {{- include "codecascade.selector" . | nindent 4 }}
  ports:
    - {name: grpc, port: 8001, targetPort: grpc}
---
apiVersion: v1
kind: Service
metadata:
  name: {{ $name }}-http
  labels:
    {{- include "codecascade.labels" . | nindent 4 }}
    codecascade/metrics: "true"
spec:
  type: ClusterIP
  selector:
    {{- include "codecascade.selector" . | nindent 4 }}
  ports:
    - {name: http, port: 8000, targetPort: http}
    - {name: metrics, port: 8002, targetPort: metrics}
    - {name: health, port: 8003, targetPort: health}
{{- end }}

{{- /* Triton's flags for TLS: a JSON list. dict "folder" "clients" (whether clients need a certificate). */}}
{{- define "codecascade.tlsFlags" -}}
{{- $flags := list (printf "--grpc-server-cert=%s/tls.crt" .folder) (printf "--grpc-server-key=%s/tls.key" .folder) }}
{{- if .clients }}
{{- $flags = concat $flags (list "--grpc-use-ssl-mutual=true" (printf "--grpc-root-cert=%s/ca.crt" .folder)) }}
{{- else }}
{{- $flags = append $flags "--grpc-use-ssl=true" }}
{{- end }}
{{- toJson $flags }}
{{- end }}
