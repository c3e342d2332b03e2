package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// NodeStorageInfo is everything the agent saw on the node. All sizes are bytes.
type NodeStorageInfo struct {
	// +optional
	DeviceInfos []DeviceInfo `json:"deviceInfo,omitempty"`
	// +optional
	VolumeGroups []VolumeGroup `json:"volumeGroups,omitempty"`
	// +optional
	MountPoints []MountPoint `json:"mountPoints,omitempty"`
	// Phase is Running once the agent has looked.
	// +optional
	Phase StoragePhase `json:"phase,omitempty"`
	// State sums up the health of the storage.
	// +optional
	State StorageState `json:"state,omitempty"`
}

// StoragePhase is how far the node's storage has come.
// +kubebuilder:validation:Enum=Pending;Running;Terminated
type StoragePhase string

// The values of StoragePhase.
const (
	NodeStoragePending    StoragePhase = "Pending"
	NodeStorageRunning    StoragePhase = "Running"
	NodeStorageTerminated StoragePhase = "Terminated"
)

// StorageState sums up the health of a node's storage.
type StorageState struct {
	// +optional
	Type StorageStateType `json:"type,omitempty"`
	// +kubebuilder:validation:Enum=True;False;Unknown
	// +optional
	Status metav1.ConditionStatus `json:"status,omitempty"`
	// LastHeartbeatTime is when the agent last wrote.
	// +optional
	LastHeartbeatTime *metav1.Time `json:"lastHeartbeatTime,omitempty"`
	// LastTransitionTime is when Type or Status last changed.
	// +optional
	LastTransitionTime *metav1.Time `json:"lastTransitionTime,omitempty"`
	// +optional
	Reason string `json:"reason,omitempty"`
	// +optional
	Message string `json:"message,omitempty"`
}

// StorageStateType is the sort of state a node's storage, or one item of it, is in.
// +kubebuilder:validation:Enum=DiskReady;DiskFull;DiskFault
type StorageStateType string

// The values of StorageStateType.
const (
	StorageReady StorageStateType = "DiskReady"
	StorageFull  StorageStateType = "DiskFull"
	StorageFault StorageStateType = "DiskFault"
)

// DeviceInfo is a block device of the node.
type DeviceInfo struct {
	// Name is the device's path, such as /dev/vdc.
	// +optional
	Name string `json:"name,omitempty"`
	// MediaType is ssd or hdd.
	// +optional
	MediaType string `json:"mediaType,omitempty"`
	// Total is the device's size in bytes.
	// +optional
	Total int64 `json:"total,omitempty"`
	// +optional
	ReadOnly bool `json:"readOnly,omitempty"`
	// +optional
	Condition StorageStateType `json:"condition,omitempty"`
	// ID is who the device is, whatever it is called after the next boot:
	// wwn-0x5000c500a1b2c3d4, nvme-eui.…, serial-…, dm-uuid-…, md-uuid-…, and for a
	// partition the same of its disk and then partuuid-…. It is empty when nothing
	// tells the device from another.
	// +optional
	ID string `json:"id,omitempty"`
	// WWN, Serial and Model are what the device says of itself.
	// +optional
	WWN string `json:"wwn,omitempty"`
	// +optional
	Serial string `json:"serial,omitempty"`
	// +optional
	Model string `json:"model,omitempty"`
	// Reason says in one word why the device is not offered to claims; it is empty when
	// it is.
	// +optional
	Reason string `json:"reason,omitempty"`
	// Message says the same to a person, as the end of a sentence that begins with the
	// device.
	// +optional
	Message string `json:"message,omitempty"`
	// VolumeID is the handle of the CSI volume that has the device.
	// +optional
	VolumeID string `json:"volumeID,omitempty"`
	// Contents stands for what is on a device that is not blank, at this moment. Who
	// wants that destroyed repeats it in resourceToBeInited.wipe.
	// +optional
	Contents string `json:"contents,omitempty"`
}

// VolumeGroup is an LVM volume group of the node.
type VolumeGroup struct {
	Name string `json:"name"`
	// PhysicalVolumes are the paths of the group's devices.
	// +optional
	PhysicalVolumes []string `json:"physicalVolumes,omitempty"`
	// PhysicalVolumesAvailable is what no logical volume has taken of each of
	// PhysicalVolumes, in their order, in bytes.
	// +optional
	PhysicalVolumesAvailable []int64 `json:"physicalVolumesAvailable,omitempty"`
	// +optional
	LogicalVolumes []LogicalVolume `json:"logicalVolumes,omitempty"`
	// Total is the size of all extents, in bytes.
	Total int64 `json:"total"`
	// Available is what no logical volume has taken, in bytes.
	Available int64 `json:"available"`
	// Allocatable is Total less what others than open-local have taken and less
	// what is reserved, in bytes: what volumes of open-local may ever fill.
	Allocatable int64 `json:"allocatable"`
	// ExtentSize is the unit of allocation, in bytes.
	// +optional
	ExtentSize int64 `json:"extentSize,omitempty"`
	// MissingPhysicalVolumes says which disks of the group are not there: as they were
	// called when they were last seen, or by the UUID that LVM gave them.
	// +optional
	MissingPhysicalVolumes []string `json:"missingPhysicalVolumes,omitempty"`
	// +optional
	Condition StorageStateType `json:"condition,omitempty"`
}

// LogicalVolume is a logical volume of the node.
type LogicalVolume struct {
	Name   string `json:"name"`
	VGName string `json:"vgname"`
	// Total is the volume's size in bytes.
	Total int64 `json:"total"`
	// VolumeID is the handle of the CSI volume, where the logical volume is one of
	// open-local's; it is empty for the volumes of others.
	// +optional
	VolumeID string `json:"volumeID,omitempty"`
	// Deleted is true of a volume that is deleted and stays because snapshots of it
	// stand.
	// +optional
	Deleted bool `json:"deleted,omitempty"`
	// SnapshotID is the handle of the CSI snapshot, where the logical volume is one of
	// open-local's; Total is then what it takes and not what it shows.
	// +optional
	SnapshotID string `json:"snapshotID,omitempty"`
	// SourceVolumeID is, of a snapshot, the handle of the volume it is of. What a clone
	// is copied from has it and no SnapshotID.
	// +optional
	SourceVolumeID string `json:"sourceVolumeID,omitempty"`
	// SourceSize is, of a snapshot, the size of that volume when it was made, in bytes.
	// +optional
	SourceSize int64 `json:"sourceSize,omitempty"`
	// CreatedAt is when the snapshot was made, where that is known.
	// +optional
	CreatedAt *metav1.MicroTime `json:"createdAt,omitempty"`
	// RestoreReadOnly is true of a snapshot which claims made of it show themselves.
	// +optional
	RestoreReadOnly bool `json:"restoreReadOnly,omitempty"`
	// +optional
	ReadOnly bool `json:"readOnly,omitempty"`
	// +optional
	Condition StorageStateType `json:"condition,omitempty"`
}

// Ours reports whether the logical volume is one of open-local's, of whatever sort.
func (v *LogicalVolume) Ours() bool {
	return v.VolumeID != "" || v.SnapshotID != "" || v.SourceVolumeID != ""
}

// MountPoint is a file system that is mounted on the node.
type MountPoint struct {
	// Name is the path.
	// +optional
	Name string `json:"name,omitempty"`
	// Total is the size of the file system in bytes.
	// +optional
	Total int64 `json:"total,omitempty"`
	// Available is what an unprivileged user may still write, in bytes.
	// +optional
	Available int64 `json:"available,omitempty"`
	// +optional
	FsType string `json:"fsType,omitempty"`
	// IsBind is true when a part of a file system is mounted and not its root.
	// +optional
	IsBind bool `json:"isBind,omitempty"`
	// +optional
	Options []string `json:"options,omitempty"`
	// Device is the path of the device below.
	// +optional
	Device string `json:"device,omitempty"`
	// +optional
	ReadOnly bool `json:"readOnly,omitempty"`
	// +optional
	Condition StorageStateType `json:"condition,omitempty"`
	// ID is which file system this is: fsuuid- and the UUID it was made with.
	// +optional
	ID string `json:"id,omitempty"`
	// Reason says in one word why the file system is not offered to claims; it is empty
	// when it is.
	// +optional
	Reason string `json:"reason,omitempty"`
	// Message says the same to a person, as the end of a sentence that begins with the
	// mount point.
	// +optional
	Message string `json:"message,omitempty"`
	// VolumeID is the handle of the CSI volume that has the mount point.
	// +optional
	VolumeID string `json:"volumeID,omitempty"`
}
