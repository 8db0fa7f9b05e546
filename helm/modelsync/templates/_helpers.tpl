{{- define "modelsync.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "modelsync.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains (include "modelsync.name" .) .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "modelsync.name" .) | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "modelsync.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "modelsync.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "modelsync.selectorLabels" -}}
app.kubernetes.io/name: {{ include "modelsync.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* Labels of every object of the chart. */}}
{{- define "modelsync.labels" -}}
{{ include "modelsync.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: modelsync
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.labels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Name, namespace, labels and annotations of an object: (list $ suffix), such as (list . "-settings"). */}}
{{- define "modelsync.metadata" -}}
{{- $root := index . 0 -}}
name: {{ include "modelsync.fullname" $root }}{{ index . 1 }}
namespace: {{ $root.Release.Namespace }}
{{ include "modelsync.clusterMetadata" $root }}
{{- end -}}

{{/* Labels and annotations only, for objects without a namespace or with a differently formed name. */}}
{{- define "modelsync.clusterMetadata" -}}
labels:
  {{- include "modelsync.labels" . | nindent 2 }}
{{- with .Values.annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* One image for the operator and for the init container of models' pods; a digest needs no tag. */}}
{{- define "modelsync.image" -}}
{{- $image := .Values.image -}}
{{- $tag := default (ternary "" .Chart.AppVersion (ne $image.digest "")) $image.tag -}}
{{- $image.repository }}{{ with $tag }}:{{ . }}{{ end }}{{ with $image.digest }}@{{ . }}{{ end -}}
{{- end -}}

{{/* Operators for different namespaces do not compete, so each set of namespaces has its own lease, named as in the code. */}}
{{- define "modelsync.leaseName" -}}
{{- with .Values.watchNamespaces -}}
modelsync-{{ join "," (sortAlpha (uniq .)) | sha256sum | trunc 10 }}
{{- else -}}
modelsync
{{- end -}}
{{- end -}}
