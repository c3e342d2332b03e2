package driver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"k8s.io/klog/v2"

	"github.com/open-local/open-local/pkg/lvm"
	"github.com/open-local/open-local/pkg/provision"
	"github.com/open-local/open-local/pkg/volume"
)

// inlineVolumes makes and removes the volumes that stand in pods themselves:
// *provision.Provisioner.
type inlineVolumes interface {
	Ensure(ctx context.Context, spec provision.Spec) (provision.Volume, error)
	RemoveInline(ctx context.Context, id string, proven bool) error
}

// inline is an inline volume that a pod is to have. Its attributes come from whoever
// may create a pod, so nothing of them is used that was not found valid here; handle,
// pod and target path come from the kubelet.
type inline struct {
	handed
	pod  volume.Pod
	want volume.Inline
}

// parseInline reads the publishing of an inline volume. Every error is
// volume.ErrInvalid, or provision.ErrOutOfRange for a size that the file system is too
// large for.
func (n *Node) parseInline(req *csi.NodePublishVolumeRequest) (inline, error) {
	id, target := req.GetVolumeId(), req.GetTargetPath()
	v := inline{handed: handed{id: id, path: target}}
	if err := cmp.Or(volume.ValidID(id), validPath("target path", target)); err != nil {
		return v, err
	}
	if !volume.TargetIsOf(n.o.KubeletDir, target, id) {
		return v, fmt.Errorf("%w inline volume %s: %q is not where a kubelet that works in %s shows it", volume.ErrInvalid, id, target, n.o.KubeletDir)
	}
	var err error
	if v.pod, err = volume.ParsePod(req.GetVolumeContext()); err != nil {
		return v, err
	}
	if v.access, err = parseAccess(req.GetVolumeCapability()); err != nil {
		return v, err
	}
	if v.want, err = volume.ParseInline(req.GetVolumeContext()); err != nil {
		return v, err
	}
	v.access.readOnly = v.access.readOnly || req.GetReadonly()
	v.context = volume.Context{Kind: volume.LVM, Group: v.want.Group, Limits: v.want.Limits}
	return v, v.check()
}

// check checks what single values cannot.
func (v inline) check() error {
	least := smallest[v.access.fsType]
	switch {
	case volume.ForInline(v.pod.UID, volume.InlineName(v.path)) != v.id:
		return fmt.Errorf("%w inline volume %s: it is not one of pod %s with UID %s", volume.ErrInvalid, v.id, v.pod, v.pod.UID)
	case v.access.block:
		return fmt.Errorf("%w inline volume %s: it cannot be a block device", volume.ErrInvalid, v.id)
	case v.want.Size < least:
		return fmt.Errorf("%w: %s asked, %s needs at least %s", provision.ErrOutOfRange, v.want.Size, v.access.fsType, least)
	}
	return nil
}

// spec returns the volume as it is to be made.
func (v inline) spec(driver, cluster string) provision.Spec {
	tags := append(volume.OwnerTags(driver, cluster, "", ""), v.pod.Tag())
	return provision.Spec{
		ID: v.id, Kind: volume.LVM, Group: v.want.Group, OnlyGroup: v.want.Group, Size: v.want.Size, Layout: v.want.Layout,
		Tags: append(tags, volume.LimitTags(v.want.Limits)...),
	}
}

// publishInline makes an inline volume, formats it once and mounts it where its pod
// will see it. There is no staging: no other pod will ever use it.
func (n *Node) publishInline(ctx context.Context, req *csi.NodePublishVolumeRequest) error {
	v, err := n.parseInline(req)
	if err != nil {
		return err
	}
	done, err := n.shown(v)
	if err == nil && !done {
		err = n.makeInline(ctx, v)
	}
	if err != nil {
		return err
	}
	// What made and formatted the volume had no limit.
	return n.throttle(ctx, v.id, lvm.DevicePath(v.want.Group, volume.NameOf(v.id)), v.want.Limits, req.GetVolumeContext())
}

func (n *Node) makeInline(ctx context.Context, v inline) error {
	if _, err := n.o.Inline.Ensure(ctx, v.spec(n.o.Driver, n.o.Cluster)); err != nil {
		return explain(v, err)
	}
	device, err := n.device(ctx, v.handed)
	if err != nil {
		return err
	}
	return n.stage(ctx, v.handed, device)
}

// shown reports whether the volume is mounted already where its pod will see it. That
// something else is mounted there is found before anything is made.
func (n *Node) shown(v inline) (bool, error) {
	file, err := n.o.Files.Look(lvm.DevicePath(v.want.Group, volume.NameOf(v.id)))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	return n.mounted(v.path, file.Device)
}

// explain says what its author can do about an inline volume that cannot be made.
func explain(v inline, err error) error {
	switch {
	case errors.Is(err, provision.ErrUnmanaged):
		return fmt.Errorf("inline volume of pod %s: %w: %w; name one that the node's NodeLocalStorage lists as selected in volumeAttributes, or let the scheduler choose the node",
			v.pod, errInlineGroup, err)
	case errors.Is(err, provision.ErrConflict):
		return fmt.Errorf("inline volume of pod %s: %w; nothing of it is changed, and a pod made anew gets a volume of its own", v.pod, err)
	}
	return fmt.Errorf("inline volume of pod %s: %w", v.pod, err)
}

// unpublishInline removes an inline volume that its pod does not see any more. One that
// cannot be removed now does not keep its pod from ending: whoever looks for volumes
// without pods will find it.
func (n *Node) unpublishInline(ctx context.Context, id, target string) error {
	if !volume.IsInline(id) {
		return nil
	}
	if err := n.o.Throttler.Release(ctx, id); err != nil {
		return err
	}
	err := n.o.Inline.RemoveInline(ctx, id, volume.TargetIsOf(n.o.KubeletDir, target, id))
	if errors.Is(err, lvm.ErrGroupNotFound) || errors.Is(err, lvm.ErrProtected) {
		klog.FromContext(ctx).Error(err, "An inline volume stays behind")
		return nil
	}
	return err
}
