//go:build e2e

package e2e

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

const (
	driverName = "local.csi.aliyun.com"
	busybox    = "docker.io/library/busybox:1.36"
)

// class returns a StorageClass of open-local. Its name is made unique by the case.
func class(name string, parameters map[string]string) *storagev1.StorageClass {
	all := map[string]string{"volumeType": "LVM"}
	maps.Copy(all, parameters)
	return &storagev1.StorageClass{
		ObjectMeta:           metav1.ObjectMeta{Name: name},
		Provisioner:          driverName,
		Parameters:           all,
		ReclaimPolicy:        ptr.To(corev1.PersistentVolumeReclaimDelete),
		VolumeBindingMode:    ptr.To(storagev1.VolumeBindingWaitForFirstConsumer),
		AllowVolumeExpansion: ptr.To(true),
	}
}

// claim returns a claim of size of the class.
func claim(name, className, size string) *corev1.PersistentVolumeClaim {
	return &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes:      []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			StorageClassName: ptr.To(className),
			Resources: corev1.VolumeResourceRequirements{
				Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(size)},
			},
		},
	}
}

func blockClaim(name, className, size string) *corev1.PersistentVolumeClaim {
	c := claim(name, className, size)
	c.Spec.VolumeMode = ptr.To(corev1.PersistentVolumeBlock)
	return c
}

// A podOption changes a pod before it is created.
type podOption func(*corev1.PodSpec)

// pod returns a pod that runs a script of the shell in busybox.
func pod(name, script string, options ...podOption) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": name}},
		Spec: corev1.PodSpec{
			TerminationGracePeriodSeconds: ptr.To[int64](0),
			EnableServiceLinks:            ptr.To(false),
			// No case asks for a network, and without one of its own a pod starts in half the time.
			HostNetwork:                  true,
			AutomountServiceAccountToken: ptr.To(false),
			Containers: []corev1.Container{{
				Name:                     "main",
				Image:                    busybox,
				ImagePullPolicy:          corev1.PullIfNotPresent,
				Command:                  []string{"sh", "-ec", script},
				TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
			}},
		},
	}
	for _, option := range options {
		option(&p.Spec)
	}
	return p
}

// forever is a script for pods that only have to run.
const forever = "while :; do sleep 3600; done"

// once makes the pod's end its answer: Succeeded or Failed.
func once(spec *corev1.PodSpec) { spec.RestartPolicy = corev1.RestartPolicyNever }

func onNode(node string) podOption {
	return func(spec *corev1.PodSpec) {
		spec.NodeSelector = map[string]string{corev1.LabelHostname: node}
	}
}

// mounting mounts claims at /data, /data2, ... in that order.
func mounting(claims ...string) podOption {
	return func(spec *corev1.PodSpec) {
		for _, name := range claims {
			addVolume(spec, name)
			spec.Containers[0].VolumeMounts = append(spec.Containers[0].VolumeMounts,
				corev1.VolumeMount{Name: name, MountPath: dataPath(len(spec.Containers[0].VolumeMounts))})
		}
	}
}

func dataPath(n int) string {
	if n == 0 {
		return "/data"
	}
	return "/data" + string(rune('1'+n))
}

// device gives the pod a claim as the block device /dev/data.
func device(name string) podOption {
	return func(spec *corev1.PodSpec) {
		addVolume(spec, name)
		spec.Containers[0].VolumeDevices = []corev1.VolumeDevice{{Name: name, DevicePath: "/dev/data"}}
	}
}

func addVolume(spec *corev1.PodSpec, name string) {
	spec.Volumes = append(spec.Volumes, corev1.Volume{
		Name: name,
		VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: name},
		},
	})
}
