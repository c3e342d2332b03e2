package still

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
	"github.com/open-local/open-local/hack/lab/scale/hollow"
	"github.com/open-local/open-local/pkg/volume"
)

// A Cluster is nodes with volumes, all of them bound.
type Cluster struct {
	Fleet        *hollow.Fleet
	Nodes        int // of the fleet
	ClaimsPerPod int // of those that use them all; 0 for no pods
}

const class, namespace = "open-local-lvm", "default"

// Server returns what serves it.
func (c Cluster) Server(streams bool) *Server {
	system := &corev1.Namespace{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"}, ObjectMeta: metav1.ObjectMeta{Name: metav1.NamespaceSystem, UID: "00000000-0000-4000-8000-000000000000"}}
	s := &Server{Streams: streams, Singles: map[string]runtime.Object{"/api/v1/namespaces/" + metav1.NamespaceSystem: system}}
	s.Kinds = []Kind{
		{"/api/v1/nodes", c.Nodes, c.nodes, func(o []runtime.Object) runtime.Object { return &corev1.NodeList{Items: values[corev1.Node](o)} }},
		{"/api/v1/persistentvolumes", c.Nodes, c.volumes, func(o []runtime.Object) runtime.Object {
			return &corev1.PersistentVolumeList{Items: values[corev1.PersistentVolume](o)}
		}},
		{"/api/v1/persistentvolumeclaims", c.Nodes, c.claims, func(o []runtime.Object) runtime.Object {
			return &corev1.PersistentVolumeClaimList{Items: values[corev1.PersistentVolumeClaim](o)}
		}},
		{"/apis/" + v1alpha1.SchemeGroupVersion.String() + "/nodelocalstorages", c.Nodes, c.storages, func(o []runtime.Object) runtime.Object {
			return &v1alpha1.NodeLocalStorageList{Items: values[v1alpha1.NodeLocalStorage](o)}
		}},
		{"/apis/storage.k8s.io/v1/storageclasses", 1, c.classes, func(o []runtime.Object) runtime.Object {
			return &storagev1.StorageClassList{Items: values[storagev1.StorageClass](o)}
		}},
		{"/api/v1/pods", c.Nodes, c.pods, func(o []runtime.Object) runtime.Object { return &corev1.PodList{Items: values[corev1.Pod](o)} }},
	}
	return s
}

// values returns what the objects, which are pointers to T, point to.
func values[T any](objects []runtime.Object) []T {
	all := make([]T, 0, len(objects))
	for _, o := range objects {
		if pointer, ok := any(o).(*T); ok {
			all = append(all, *pointer)
		}
	}
	return all
}

func (c Cluster) of(i int) hollow.Objects {
	return c.Fleet.Objects(i, volume.DefaultDriver, class, namespace)
}

func (c Cluster) nodes(i int) []runtime.Object { return written("kubelet", c.of(i).Node) }

func (c Cluster) storages(i int) []runtime.Object { return written("open-local", c.of(i).Storage) }

func (c Cluster) volumes(i int) []runtime.Object {
	return written("csi-provisioner", c.of(i).Volumes...)
}

func (c Cluster) claims(i int) []runtime.Object {
	return written("kube-controller-manager", c.of(i).Claims...)
}

func (c Cluster) classes(int) []runtime.Object {
	o := &storagev1.StorageClass{TypeMeta: metav1.TypeMeta{APIVersion: "storage.k8s.io/v1", Kind: "StorageClass"}, ObjectMeta: metav1.ObjectMeta{Name: class}}
	o.Provisioner, o.Parameters = volume.DefaultDriver, map[string]string{"volumeType": "LVM"}
	o.VolumeBindingMode = ptr.To(storagev1.VolumeBindingWaitForFirstConsumer)
	return written("helm", o)
}

// pods returns those that run on a node and use its claims.
func (c Cluster) pods(i int) []runtime.Object {
	if c.ClaimsPerPod == 0 {
		if i > 0 {
			return nil
		}
		return written("kubelet", c.pod(0, 0, nil)) // there is always one
	}
	var all []*corev1.Pod
	for used := range slices.Chunk(c.of(i).Claims, c.ClaimsPerPod) {
		pod := c.pod(i, len(all), used)
		pod.Spec.NodeName = c.of(i).Node.Name
		all = append(all, pod)
	}
	return written("kubelet", all...)
}

// pod returns the j-th pod of node i.
func (c Cluster) pod(i, j int, claims []*corev1.PersistentVolumeClaim) *corev1.Pod {
	name := fmt.Sprintf("database-%05d-%03d", i, j)
	pod := &corev1.Pod{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}, ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace}}
	pod.UID = types.UID(fmt.Sprintf("11111111-0000-4000-%04x-%012x", j, i))
	pod.Labels = map[string]string{"app.kubernetes.io/name": "database", "statefulset.kubernetes.io/pod-name": name}
	container := corev1.Container{Name: "main", Image: "registry.example.org/database/server:v1.2.3", Command: []string{"/bin/server", "--serve"}}
	for i := range 10 {
		container.Env = append(container.Env, corev1.EnvVar{Name: fmt.Sprintf("VARIABLE_%d", i), Value: "a value of a common length"})
	}
	for i, claim := range claims {
		source := &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim.Name}
		pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: fmt.Sprintf("data-%d", i), VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: source}})
		container.VolumeMounts = append(container.VolumeMounts, corev1.VolumeMount{Name: fmt.Sprintf("data-%d", i), MountPath: fmt.Sprintf("/data/%d", i)})
	}
	pod.Spec.Containers = []corev1.Container{container}
	pod.Status.Phase, pod.Status.PodIP = corev1.PodRunning, "10.0.0.1"
	for _, kind := range []corev1.PodConditionType{corev1.PodScheduled, corev1.PodInitialized, corev1.ContainersReady, corev1.PodReady} {
		pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{Type: kind, Status: corev1.ConditionTrue})
	}
	return pod
}

// fields is what the API server keeps of who wrote what; of a volume it takes as much.
const fields = `{"f:metadata":{"f:annotations":{".":{},"f:pv.kubernetes.io/provisioned-by":{}},"f:finalizers":{".":{},"v:\"kubernetes.io/pv-protection\"":{}}},"f:spec":{"f:accessModes":{},"f:capacity":{".":{},"f:storage":{}},"f:claimRef":{".":{},"f:apiVersion":{},"f:kind":{},"f:name":{},"f:namespace":{},"f:resourceVersion":{},"f:uid":{}},"f:csi":{".":{},"f:driver":{},"f:fsType":{},"f:volumeAttributes":{".":{},"f:storage.kubernetes.io/csiProvisionerIdentity":{},"f:vgName":{},"f:volumeType":{}},"f:volumeHandle":{}},"f:nodeAffinity":{".":{},"f:required":{}},"f:persistentVolumeReclaimPolicy":{},"f:storageClassName":{},"f:volumeMode":{}}}`

// written gives objects what the API server adds.
func written[T interface {
	runtime.Object
	metav1.Object
}](manager string, objects ...T) []runtime.Object {
	all := make([]runtime.Object, 0, len(objects))
	for _, o := range objects {
		o.SetResourceVersion(version)
		o.SetManagedFields([]metav1.ManagedFieldsEntry{{
			Manager: manager, Operation: metav1.ManagedFieldsOperationUpdate, APIVersion: "v1", FieldsType: "FieldsV1", FieldsV1: metav1.NewFieldsV1(fields),
		}})
		all = append(all, o)
	}
	return all
}
