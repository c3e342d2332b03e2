package v1alpha1

import (
	"encoding/json"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// AnnotationOrphans says which volumes in the report no PersistentVolume names, and
// since when: a JSON object from volume handle to a time. The controller writes it, who
// knows all PersistentVolumes; the agent, who knows none, reports these volumes as
// orphans.
const AnnotationOrphans = "csi.aliyun.com/orphans"

// Orphan is a volume of open-local that stands on the node and that no PersistentVolume
// names. It is kept until somebody adopts or removes it.
type Orphan struct {
	// VolumeID is the handle of the CSI volume.
	VolumeID string `json:"volumeID"`
	// VolumeType is LVM, Device or MountPoint.
	VolumeType string `json:"volumeType"`
	// VGName is the volume group of one of type LVM.
	// +optional
	VGName string `json:"vgname,omitempty"`
	// Path is what the device was called when the volume got it, or where the file system
	// is mounted.
	// +optional
	Path string `json:"path,omitempty"`
	// ID is who the device or which file system it is.
	// +optional
	ID string `json:"id,omitempty"`
	// Total is the volume's size in bytes.
	Total int64 `json:"total"`
	// FsType is the file system on it; empty when there is none or it could not be told.
	// +optional
	FsType string `json:"fsType,omitempty"`
	// Block is true of a device that was handed out as it is.
	// +optional
	Block bool `json:"block,omitempty"`
	// CreatedAt is when the volume was made, where that is known.
	// +optional
	CreatedAt *metav1.Time `json:"createdAt,omitempty"`
	// Claim is the claim that it was made for, namespace/name, where that is known.
	// +optional
	Claim string `json:"claim,omitempty"`
	// Cluster is the identity of the cluster that it was made in, where that is known.
	// +optional
	Cluster string `json:"cluster,omitempty"`
	// Since is when it was first seen without a PersistentVolume.
	Since metav1.Time `json:"since"`
	// Reason says in one word why it is an orphan, and Message to a person.
	Reason  string `json:"reason"`
	Message string `json:"message"`
}

// NoPersistentVolume is the reason of an orphan that no PersistentVolume names.
const NoPersistentVolume = "NoPersistentVolume"

// Orphaned reads AnnotationOrphans.
func (n *NodeLocalStorage) Orphaned() (map[string]time.Time, error) {
	text := n.Annotations[AnnotationOrphans]
	if text == "" {
		return nil, nil
	}
	var since map[string]time.Time
	if err := json.Unmarshal([]byte(text), &since); err != nil {
		return nil, fmt.Errorf("reading annotation %s of node local storage %q: %w", AnnotationOrphans, n.Name, err)
	}
	return since, nil
}
