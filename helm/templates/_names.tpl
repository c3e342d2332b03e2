{{/* Names, labels and pieces that several templates share. */}}

{{- define "open-local.namespace" -}}
{{ .Values.namespace | default .Release.Namespace }}
{{- end }}

{{- define "open-local.labels" -}}
app.kubernetes.io/name: {{ .Values.name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.customLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Metadata of a namespaced object of one component: (list $ "agent"). */}}
{{- define "open-local.metadata" -}}
{{- $root := index . 0 -}}
{{- $component := printf "%s-%s" $root.Values.name (index . 1) -}}
name: {{ $component }}
namespace: {{ include "open-local.namespace" $root }}
labels:
  {{- include "open-local.labels" $root | nindent 2 }}
  app.kubernetes.io/component: {{ $component }}
{{- end }}

{{/* Metadata of a cluster-wide object of one component. */}}
{{- define "open-local.clusterMetadata" -}}
{{- $root := index . 0 -}}
{{- $component := printf "%s-%s" $root.Values.name (index . 1) -}}
name: {{ $component }}
labels:
  {{- include "open-local.labels" $root | nindent 2 }}
  app.kubernetes.io/component: {{ $component }}
{{- end }}

{{/* Labels of a pod of one component. The selector is the component alone: it can never change. */}}
{{- define "open-local.podLabels" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ $root.Values.name }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ printf "%s-%s" $root.Values.name (index . 1) }}
{{- with $root.Values.customLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Reference of an image: (list $ .Values.images.local). */}}
{{- define "open-local.image" -}}
{{- $root := index . 0 -}}
{{- $image := index . 1 -}}
{{- $registry := $root.Values.global.RegistryURL | default $image.registry -}}
{{- with $registry }}{{ . }}/{{ end }}{{ $image.image }}:{{ $image.tag | default $root.Chart.AppVersion }}
{{- end }}

{{/* A ServiceAccount and the binding of the ClusterRole of its name. */}}
{{- define "open-local.account" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  {{- include "open-local.metadata" . | nindent 2 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  {{- include "open-local.clusterMetadata" . | nindent 2 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: {{ $root.Values.name }}-{{ $component }}
subjects:
  - kind: ServiceAccount
    name: {{ $root.Values.name }}-{{ $component }}
    namespace: {{ include "open-local.namespace" $root }}
{{- end }}

{{/* The binding of the Role of a component's name to its ServiceAccount. */}}
{{- define "open-local.roleBinding" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  {{- include "open-local.metadata" . | nindent 2 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: Role
  name: {{ $root.Values.name }}-{{ $component }}
subjects:
  - kind: ServiceAccount
    name: {{ $root.Values.name }}-{{ $component }}
    namespace: {{ include "open-local.namespace" $root }}
{{- end }}

{{/* Where a pod of a component runs: (list $ .Values.agent). */}}
{{- define "open-local.placement" -}}
{{- $root := index . 0 -}}
{{- $values := index . 1 -}}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $root.Values.global.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* What a pod that touches no disk may do: nothing. */}}
{{- define "open-local.unprivilegedPod" -}}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  seccompProfile:
    type: RuntimeDefault
{{- end }}

{{- define "open-local.unprivilegedContainer" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end }}

{{/* Name of the Secret that holds the certificate of a component: (list $ "agent"). */}}
{{- define "open-local.tlsSecret" -}}
{{ (index . 0).Values.name }}-{{ index . 1 }}-tls
{{- end }}

{{/* Names under which the extender's Service is reached, the first being the one in its certificate's subject. */}}
{{- define "open-local.extenderNames" -}}
{{- $service := printf "%s-scheduler-extender" .Values.name -}}
{{- $namespace := include "open-local.namespace" . -}}
{{- list $service (printf "%s.%s" $service $namespace) (printf "%s.%s.svc" $service $namespace) (printf "%s.%s.svc.cluster.local" $service $namespace) | toJson -}}
{{- end }}

{{/* Not empty where kube-scheduler asks the extender over TLS. */}}
{{- define "open-local.schedulerTLS" -}}
{{- if and .Values.scheduler.tls.enabled (ne .Values.scheduler.mode "none") -}}
true
{{- end -}}
{{- end }}

{{/* Not empty where the cluster has snapshots, or the values say so. */}}
{{- define "open-local.snapshots" -}}
{{- $wanted := .Values.snapshots.enabled | toString -}}
{{- if or (eq $wanted "true") (and (eq $wanted "auto") (.Capabilities.APIVersions.Has "snapshot.storage.k8s.io/v1/VolumeSnapshotClass")) -}}
true
{{- end -}}
{{- end }}
