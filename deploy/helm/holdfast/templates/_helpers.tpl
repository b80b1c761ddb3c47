{{- define "holdfast.name" -}}
{{- if contains "holdfast" .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-holdfast" .Release.Name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "holdfast.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}{{ default (include "holdfast.name" .) .Values.serviceAccount.name }}{{ else }}{{ default "default" .Values.serviceAccount.name }}{{ end }}
{{- end }}

{{/* Of one component: dict "root" $ "component" "api" */}}
{{- define "holdfast.selector" -}}
app.kubernetes.io/name: holdfast
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "holdfast.labels" -}}
{{ include "holdfast.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{- define "holdfast.image" -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end }}

{{/* What cannot work is refused before anything is installed. */}}
{{- define "holdfast.check" -}}
{{- if not .Values.database.existingSecret }}
{{- fail "database.existingSecret is empty; make one: kubectl create secret generic holdfast-database --from-literal=DATABASE_URL=postgresql://..., and set database.existingSecret=holdfast-database" }}
{{- end }}
{{- if and .Values.worker.enabled (not .Values.app) }}
{{- fail "app is empty; it is your application as module:attribute, such as tasks:hf" }}
{{- end }}
{{- if le (int .Values.worker.terminationGracePeriodSeconds) (int (add .Values.worker.drainTimeout 5)) }}
{{- fail (printf "worker.drainTimeout is %v and worker.terminationGracePeriodSeconds %v; the grace period must be more than 5 s longer, or Kubernetes kills jobs that are still given time" .Values.worker.drainTimeout .Values.worker.terminationGracePeriodSeconds) }}
{{- end }}
{{- if le (int .Values.api.terminationGracePeriodSeconds) (int (add .Values.api.shutdownDelay 5)) }}
{{- fail (printf "api.shutdownDelay is %v and api.terminationGracePeriodSeconds %v; the grace period must be more than 5 s longer" .Values.api.shutdownDelay .Values.api.terminationGracePeriodSeconds) }}
{{- end }}
{{- end }}

{{- define "holdfast.env" -}}
- name: DATABASE_URL
  valueFrom:
    secretKeyRef:
      name: {{ .Values.database.existingSecret }}
      key: {{ .Values.database.key }}
- {name: HOME, value: /tmp}
- {name: HOLDFAST_RUN_DIR, value: /tmp/holdfast}
{{- range $name, $value := .Values.env }}
- {name: {{ $name }}, value: {{ $value | quote }}}
{{- end }}
{{- end }}

{{- define "holdfast.pod" -}}
serviceAccountName: {{ include "holdfast.serviceAccount" .root }}
automountServiceAccountToken: {{ not (empty .root.Values.serviceAccount.annotations) }}
securityContext: {{- toYaml .root.Values.podSecurityContext | nindent 2 }}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
volumes:
  - name: tmp
    emptyDir: {}
{{- end }}

{{- define "holdfast.container" -}}
image: {{ include "holdfast.image" .root }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
securityContext: {{- toYaml .root.Values.securityContext | nindent 2 }}
volumeMounts:
  - name: tmp
    mountPath: /tmp
{{- with .root.Values.envFrom }}
envFrom: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "holdfast.probes" -}}
startupProbe: {httpGet: {path: /startupz, port: {{ . }}}, periodSeconds: 2, failureThreshold: 60}
livenessProbe: {httpGet: {path: /livez, port: {{ . }}}, periodSeconds: 10, timeoutSeconds: 1, failureThreshold: 3}
readinessProbe: {httpGet: {path: /readyz, port: {{ . }}}, periodSeconds: 5, timeoutSeconds: 1, failureThreshold: 2}
{{- end }}
