package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// +genclient
// +genclient:nonNamespaced
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=nls,path=nodelocalstorages
// +kubebuilder:printcolumn:name="State",type=string,JSONPath=`.status.nodeStorageInfo.state.type`
// +kubebuilder:printcolumn:name="Phase",type=string,JSONPath=`.status.nodeStorageInfo.phase`
// +kubebuilder:printcolumn:name="AgentUpdateAt",type=date,JSONPath=`.status.nodeStorageInfo.state.lastHeartbeatTime`
// +kubebuilder:printcolumn:name="SchedulerUpdateAt",type=date,JSONPath=`.status.filteredStorageInfo.updateStatusInfo.lastUpdateTime`
// +kubebuilder:printcolumn:name="SchedulerUpdateStatus",type=string,JSONPath=`.status.filteredStorageInfo.updateStatusInfo.updateStatus`

// NodeLocalStorage is the storage of one node; it has the node's name. Its spec
// is written by the controller, its status by the agent on that node.
type NodeLocalStorage struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +optional
	Spec NodeLocalStorageSpec `json:"spec,omitempty"`
	// +optional
	Status NodeLocalStorageStatus `json:"status,omitempty"`
}

// NodeLocalStorageSpec is what the disks of one node are for.
type NodeLocalStorageSpec struct {
	// NodeName is the name of the node.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	NodeName string `json:"nodeName,omitempty"`

	StorageSpec `json:",inline"`
}

// AnnotationStorageReserved keeps space of volume groups out of what is allocated:
// a JSON object from group name to a quantity ("100Gi") or a share ("10%").
const AnnotationStorageReserved = "csi.aliyun.com/storage-reserved"

// NodeLocalStorageStatus is what the agent last saw on the node.
type NodeLocalStorageStatus struct {
	// NodeStorageInfo is everything the node has.
	// +optional
	NodeStorageInfo NodeStorageInfo `json:"nodeStorageInfo,omitempty"`
	// FilteredStorageInfo names what the spec's listConfig selects of it. Only
	// these are ever allocated.
	// +optional
	FilteredStorageInfo FilteredStorageInfo `json:"filteredStorageInfo,omitempty"`
	// Conditions say what is wrong with the spec or with a device it names, and
	// what has been set right.
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// Wiped lists what was destroyed because resourceToBeInited.wipe asked for it. An
	// entry of the spec that stands here is done and is not done again.
	// +optional
	Wiped []WipedDevice `json:"wiped,omitempty"`
	// Orphans are volumes of open-local that no PersistentVolume names. Nothing removes
	// them by itself.
	// +optional
	Orphans []Orphan `json:"orphans,omitempty"`
}

// WipedDevice is an entry of resourceToBeInited.wipe that was carried out.
type WipedDevice struct {
	ID       string `json:"id"`
	Contents string `json:"contents"`
	// Device is what the device was called then.
	// +optional
	Device string `json:"device,omitempty"`
	// Time is when it was wiped.
	Time metav1.Time `json:"time"`
}

// FilteredStorageInfo names what is managed, and says when that was decided.
type FilteredStorageInfo struct {
	// +optional
	VolumeGroups []string `json:"volumeGroups,omitempty"`
	// +optional
	MountPoints []string `json:"mountPoints,omitempty"`
	// +optional
	Devices []string `json:"devices,omitempty"`
	// +optional
	UpdateStatus UpdateStatusInfo `json:"updateStatusInfo,omitempty"`
}

// UpdateStatusInfo says when the lists beside it were last made, and whether the
// spec could be read.
type UpdateStatusInfo struct {
	// +optional
	LastUpdateTime *metav1.Time `json:"lastUpdateTime,omitempty"`
	// +optional
	Status UpdateStatus `json:"updateStatus,omitempty"`
	// +optional
	Reason string `json:"reason,omitempty"`
}

// UpdateStatus says whether the lists follow from the spec.
// +kubebuilder:validation:Enum=pending;accepted;failed
type UpdateStatus string

// The values of UpdateStatus.
const (
	UpdatePending  UpdateStatus = "pending"
	UpdateAccepted UpdateStatus = "accepted"
	UpdateFailed   UpdateStatus = "failed"
)

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
// +kubebuilder:object:root=true

// NodeLocalStorageList is a list of NodeLocalStorage.
type NodeLocalStorageList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []NodeLocalStorage `json:"items"`
}
