package agent

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
	"github.com/open-local/open-local/pkg/lvm"
	"github.com/open-local/open-local/pkg/volume"
)

// orphansFound is the reason of the event about volumes without a PersistentVolume.
const orphansFound = "OrphanVolumes"

// orphans returns the volumes that stand here and that no PersistentVolume names, as the
// controller wrote on nls, ordered by handle. on says what file system is on which.
func (s sighting) orphans(nls *v1alpha1.NodeLocalStorage, driver string, on map[string]string) []v1alpha1.Orphan {
	since, err := nls.Orphaned()
	if err != nil || len(since) == 0 {
		return nil // it is for the controller to write what can be read
	}
	var all []v1alpha1.Orphan
	add := func(o v1alpha1.Orphan) {
		at, is := since[o.VolumeID]
		if !is {
			return
		}
		o.Since = metav1.NewTime(at).Rfc3339Copy()
		o.Reason, o.Message = v1alpha1.NoPersistentVolume, "no PersistentVolume has named it since "+o.Since.UTC().Format("2006-01-02 15:04 MST")
		all = append(all, o)
	}
	for _, g := range s.lvm.Groups {
		for _, v := range g.Volumes {
			if isVolume(v, driver) {
				add(logicalOrphan(v, on[handleOf(v)]))
			}
		}
	}
	for _, r := range s.holdings {
		add(withOwner(v1alpha1.Orphan{
			VolumeID: r.Volume, VolumeType: string(r.Kind), Path: r.Path, ID: r.ID, Total: int64(r.Size), Block: r.Block, FsType: on[r.Volume],
		}, r.Tags))
	}
	slices.SortFunc(all, byName(func(o v1alpha1.Orphan) string { return o.VolumeID }))
	return all
}

// isVolume reports whether v is a volume of ours that a PersistentVolume may name.
func isVolume(v lvm.Volume, driver string) bool {
	return oursHere(v, driver) && !v.IsSnapshot() && !v.HasTag(volume.DeletedTag) && !volume.IsInline(handleOf(v))
}

func logicalOrphan(v lvm.Volume, fsType string) v1alpha1.Orphan {
	o := v1alpha1.Orphan{VolumeID: handleOf(v), VolumeType: string(volume.LVM), VGName: v.Group, Total: int64(v.Size), FsType: fsType}
	if !v.Made.IsZero() {
		made := metav1.NewTime(v.Made).Rfc3339Copy()
		o.CreatedAt = &made
	}
	return withOwner(o, v.Tags)
}

// withOwner adds whose the volume was, as its tags say.
func withOwner(o v1alpha1.Orphan, tags []string) v1alpha1.Orphan {
	if namespace, name, ok := volume.ClaimFromTags(tags); ok {
		o.Claim = namespace + "/" + name
	}
	o.Cluster, _ = volume.ClusterFromTags(tags)
	return o
}

// lookAtOrphans finds out what file system is on volumes that became orphans, once for
// each: whoever adopts one has to say it.
func (a *Agent) lookAtOrphans(ctx context.Context, nls *v1alpha1.NodeLocalStorage) {
	now := map[string]string{}
	for _, o := range a.view.seen.orphans(nls, a.options.Driver, nil) {
		path := a.view.seen.deviceOf(o)
		if path == "" {
			continue
		}
		known, is := a.onOrphans[o.VolumeID]
		if !is {
			known = a.fileSystemOn(ctx, path)
		}
		now[o.VolumeID] = known
	}
	a.onOrphans = now
}

// deviceOf returns what the device of an orphan is called now that may hold a file system, or
// "" where there is none.
func (s sighting) deviceOf(o v1alpha1.Orphan) string {
	switch {
	case o.VolumeType == string(volume.LVM):
		return lvm.DevicePath(o.VGName, volume.NameOf(o.VolumeID))
	case o.VolumeType == string(volume.Device) && !o.Block:
		if i := slices.IndexFunc(s.disks, func(d disk) bool { return d.ID == o.ID }); i >= 0 {
			return s.disks[i].Path
		}
	}
	return ""
}

// fileSystemOn returns the type of the file system on a device, or "" when there is none
// or that cannot be told.
func (a *Agent) fileSystemOn(ctx context.Context, path string) string {
	evidence, err := a.host.Devices.Inspect(ctx, path)
	if err != nil {
		klog.FromContext(ctx).Error(err, "Could not tell what is on an orphan", "device", path)
		return ""
	}
	for _, signature := range evidence.Signatures {
		if slices.Contains(volume.FileSystems(), signature.Type) {
			return signature.Type
		}
	}
	return ""
}

// tellOrphans makes one event of all orphans that nls did not report yet.
func (a *Agent) tellOrphans(nls *v1alpha1.NodeLocalStorage, all []v1alpha1.Orphan) {
	var news []string
	for _, o := range all {
		same := func(old v1alpha1.Orphan) bool { return old.VolumeID == o.VolumeID }
		if !slices.ContainsFunc(nls.Status.Orphans, same) {
			news = append(news, o.VolumeID)
		}
	}
	if len(news) == 0 {
		return
	}
	message := fmt.Sprintf("%d volumes of open-local on this node are named by no PersistentVolume and are kept; `open-local orphans list` tells whose they were: %s",
		len(news), strings.Join(news, ", "))
	a.events.Event(nls, corev1.EventTypeWarning, orphansFound, cut(message, maxEvent))
}
