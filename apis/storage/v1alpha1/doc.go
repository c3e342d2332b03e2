// Package v1alpha1 holds the two kinds of open-local: NodeLocalStorage says what
// a node's disks are for and what they hold, NodeLocalStorageInitConfig says it
// for the whole cluster. It knows how the kinds look, not what is done with them.
//
// +k8s:deepcopy-gen=package
// +groupName=csi.aliyun.com
package v1alpha1
