package v1alpha1

// StorageSpec is what a node's disks are for. It stands in the spec of a
// NodeLocalStorage and, for many nodes at once, in a NodeLocalStorageInitConfig.
type StorageSpec struct {
	// SPDKConfig is kept for clusters that set it; nothing reads it.
	// +optional
	SPDKConfig SPDKConfig `json:"spdkConfig,omitempty"`
	// ListConfig selects what open-local may hand out.
	// +optional
	ListConfig ListConfig `json:"listConfig,omitempty"`
	// ResourceToBeInited names what the agent makes out of blank devices.
	// +optional
	ResourceToBeInited ResourceToBeInited `json:"resourceToBeInited,omitempty"`
}

// SPDKConfig is accepted and kept.
type SPDKConfig struct {
	// +kubebuilder:validation:MaxLength=8
	// +optional
	DeviceType string `json:"deviceType,omitempty"`
	// +kubebuilder:validation:MaxLength=128
	// +optional
	RpcSocket string `json:"rpcSocket,omitempty"` //nolint:revive // the name existing clients compile against
}

// ListConfig selects, for each sort of storage, what open-local may hand out.
type ListConfig struct {
	// VGs selects volume groups by name.
	// +optional
	VGs Selection `json:"vgs,omitempty"`
	// MountPoints selects mounted file systems by path.
	// +optional
	MountPoints Selection `json:"mountPoints,omitempty"`
	// Devices selects whole disks and partitions by path.
	// +optional
	Devices Selection `json:"devices,omitempty"`
}

// Selection selects a name when one of Include matches the whole of it and none
// of Exclude does. An empty Include selects nothing.
type Selection struct {
	// Include holds regular expressions (RE2).
	// +kubebuilder:validation:MaxItems=50
	// +optional
	Include []string `json:"include,omitempty"`
	// Exclude holds regular expressions (RE2).
	// +kubebuilder:validation:MaxItems=50
	// +optional
	Exclude []string `json:"exclude,omitempty"`
}

// ResourceToBeInited names what the agent makes out of blank devices.
type ResourceToBeInited struct {
	// VGs are volume groups to create, and to extend when devices are added.
	// +kubebuilder:validation:MaxItems=50
	// +optional
	VGs []VGToBeInited `json:"vgs,omitempty"`
	// MountPoints are file systems to make once and to keep mounted.
	// +kubebuilder:validation:MaxItems=50
	// +optional
	MountPoints []MountPointToBeInited `json:"mountpoints,omitempty"`
	// Wipe names devices of which all that is on them is to be destroyed, once, for them
	// to be used again. Nothing else ever makes a device blank that is not.
	// +kubebuilder:validation:MaxItems=50
	// +optional
	Wipe []DeviceToBeWiped `json:"wipe,omitempty"`
}

// DeviceToBeWiped names one device by what it is and by what is on it, both as the
// report has them. A device on which anything has changed since is not touched.
type DeviceToBeWiped struct {
	// ID is deviceInfo[].id: who the device is.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	ID string `json:"id"`
	// Contents is deviceInfo[].contents: what is on it.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	Contents string `json:"contents"`
}

// VGToBeInited is a volume group that shall exist on the devices named.
type VGToBeInited struct {
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	Name string `json:"name"`
	// Devices are paths such as /dev/vdc.
	// +kubebuilder:validation:MaxItems=50
	Devices []string `json:"devices"`
}

// MountPointToBeInited is a file system that shall be mounted.
type MountPointToBeInited struct {
	// +kubebuilder:validation:MinLength=1
	Path string `json:"path"`
	// +kubebuilder:validation:MinLength=1
	Device string `json:"device"`
	// FsType is ext4 when left out.
	// +optional
	FsType string `json:"fsType,omitempty"`
	// +optional
	Options []string `json:"options,omitempty"`
}
