package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// +genclient
// +genclient:nonNamespaced
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,shortName=nlsc,path=nodelocalstorageinitconfigs

// NodeLocalStorageInitConfig says what the disks of every node are for. The
// controller follows the one it was told by name.
type NodeLocalStorageInitConfig struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +optional
	Spec NodeLocalStorageInitConfigSpec `json:"spec,omitempty"`
}

// NodeLocalStorageInitConfigSpec is GlobalConfig for every node, and for a node
// that entries of NodesConfig select, the last of those in its stead.
type NodeLocalStorageInitConfigSpec struct {
	// +optional
	GlobalConfig StorageSpec `json:"globalConfig,omitempty"`
	// +optional
	NodesConfig []NodeConfig `json:"nodesConfig,omitempty"`
}

// NodeConfig is for the nodes whose labels Selector matches.
type NodeConfig struct {
	// Selector matches no node when it is left out.
	// +optional
	Selector *metav1.LabelSelector `json:"selector,omitempty"`

	StorageSpec `json:",inline"`
}

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
// +kubebuilder:object:root=true

// NodeLocalStorageInitConfigList is a list of NodeLocalStorageInitConfig.
type NodeLocalStorageInitConfigList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []NodeLocalStorageInitConfig `json:"items"`
}
