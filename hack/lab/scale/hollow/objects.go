package hollow

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/utils/ptr"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
	"github.com/open-local/open-local/pkg/volume"
)

// podsOfNode is how many pods a node takes; volumesOfNode how many volumes beside those
// that stand.
const podsOfNode, volumesOfNode = 500, 1000

// Objects are what the API server knows of a node from the beginning.
type Objects struct {
	Node    *corev1.Node
	CSINode *storagev1.CSINode
	Storage *v1alpha1.NodeLocalStorage
	Volumes []*corev1.PersistentVolume
	Claims  []*corev1.PersistentVolumeClaim
}

// Objects returns those of node i. Its claims are of the class and in the namespace given.
func (f *Fleet) Objects(i int, driver, class, namespace string) Objects {
	node := f.nodes[i]
	o := Objects{Node: node.object(), CSINode: node.csiNode(driver), Storage: node.storage()}
	for _, g := range node.groups {
		for _, id := range g.held() {
			claim, pv := standing(node.Name, g.name, id, resource.NewQuantity(int64(g.volumes[id]), resource.BinarySI))
			claim.Namespace, claim.Spec.StorageClassName = namespace, &class
			pv.Spec.ClaimRef.Namespace, pv.Spec.StorageClassName = namespace, class
			pv.Spec.CSI.Driver, pv.Annotations = driver, map[string]string{"pv.kubernetes.io/provisioned-by": driver}
			o.Claims, o.Volumes = append(o.Claims, claim), append(o.Volumes, pv)
		}
	}
	return o
}

func born(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, UID: uuid.NewUUID(), CreationTimestamp: metav1.NewTime(time.Now().Truncate(time.Second)), Generation: 1}
}

func (n *Node) object() *corev1.Node {
	node := &corev1.Node{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Node"}, ObjectMeta: born(n.Name)}
	node.Labels = map[string]string{corev1.LabelHostname: n.Name, corev1.LabelOSStable: "linux", corev1.LabelArchStable: "amd64"}
	node.Status.Capacity = corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("64"), corev1.ResourceMemory: resource.MustParse("256Gi"),
		corev1.ResourcePods: *resource.NewQuantity(podsOfNode, resource.DecimalSI),
	}
	node.Status.Allocatable = node.Status.Capacity
	node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: n.Address().String()}, {Type: corev1.NodeHostName, Address: n.Name}}
	node.Status.Conditions = []corev1.NodeCondition{{
		Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "Hollow", LastHeartbeatTime: metav1.Now(), LastTransitionTime: metav1.Now(),
	}}
	return node
}

func (n *Node) csiNode(driver string) *storagev1.CSINode {
	o := &storagev1.CSINode{TypeMeta: metav1.TypeMeta{APIVersion: "storage.k8s.io/v1", Kind: "CSINode"}, ObjectMeta: born(n.Name)}
	o.Spec.Drivers = []storagev1.CSINodeDriver{{
		Name: driver, NodeID: n.Name, TopologyKeys: []string{volume.TopologyKey},
		Allocatable: &storagev1.VolumeNodeResources{Count: ptr.To[int32](volumesOfNode)},
	}}
	return o
}

func (n *Node) storage() *v1alpha1.NodeLocalStorage {
	o := &v1alpha1.NodeLocalStorage{TypeMeta: metav1.TypeMeta{APIVersion: v1alpha1.SchemeGroupVersion.String(), Kind: "NodeLocalStorage"}, ObjectMeta: born(n.Name)}
	o.Spec.NodeName = n.Name
	o.Spec.ListConfig.VGs.Include = []string{"open-local-pool-[0-9]+"}
	o.Status = n.Status()
	return o
}

// standing returns a volume and its claim as they are when both have long been bound.
func standing(node, group, id string, size *resource.Quantity) (*corev1.PersistentVolumeClaim, *corev1.PersistentVolume) {
	uid := id[len("local-"):]
	claim := &corev1.PersistentVolumeClaim{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PersistentVolumeClaim"}, ObjectMeta: born(fmt.Sprintf("standing-%s", uid))}
	claim.UID = types.UID(uid)
	claim.Finalizers = []string{"kubernetes.io/pvc-protection"}
	claim.Annotations = map[string]string{
		"pv.kubernetes.io/bind-completed": "yes", "pv.kubernetes.io/bound-by-controller": "yes", "volume.kubernetes.io/selected-node": node,
	}
	amount := corev1.ResourceList{corev1.ResourceStorage: *size}
	claim.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
	claim.Spec.Resources.Requests, claim.Spec.VolumeName, claim.Spec.VolumeMode = amount, id, ptr.To(corev1.PersistentVolumeFilesystem)
	claim.Status = corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimBound, AccessModes: claim.Spec.AccessModes, Capacity: amount}

	pv := &corev1.PersistentVolume{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PersistentVolume"}, ObjectMeta: born(id)}
	pv.Finalizers = []string{"kubernetes.io/pv-protection", "external-provisioner.volume.kubernetes.io/finalizer"}
	pv.Spec.Capacity, pv.Spec.AccessModes, pv.Spec.VolumeMode = amount, claim.Spec.AccessModes, claim.Spec.VolumeMode
	pv.Spec.PersistentVolumeReclaimPolicy = corev1.PersistentVolumeReclaimDelete
	pv.Spec.CSI = &corev1.CSIPersistentVolumeSource{
		VolumeHandle: id, FSType: volume.DefaultFS, VolumeAttributes: volume.Context{Kind: volume.LVM, Group: group}.Attributes(),
	}
	pv.Spec.ClaimRef = &corev1.ObjectReference{APIVersion: "v1", Kind: "PersistentVolumeClaim", Name: claim.Name, UID: claim.UID}
	pv.Spec.NodeAffinity = &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
		MatchExpressions: []corev1.NodeSelectorRequirement{{Key: volume.TopologyKey, Operator: corev1.NodeSelectorOpIn, Values: []string{node}}},
	}}}}
	pv.Status.Phase = corev1.VolumeBound
	return claim, pv
}
