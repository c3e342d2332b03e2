package main

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
	"github.com/open-local/open-local/pkg/orphans"
)

// snapshots returns the snapshots in reports that no VolumeSnapshotContent names and that
// are old enough to have one. Agents do not report them as orphans: nobody follows both.
func (o *orphansOptions) snapshots(ctx context.Context, reports []v1alpha1.NodeLocalStorage, now time.Time) ([]listedOrphan, error) {
	var found []listedOrphan
	for i := range reports {
		for _, group := range reports[i].Status.NodeStorageInfo.VolumeGroups {
			for j := range group.LogicalVolumes {
				v := &group.LogicalVolumes[j]
				if v.SnapshotID != "" && (v.CreatedAt == nil || now.Sub(v.CreatedAt.Time) >= orphans.DefaultAge) {
					found = append(found, listedOrphan{Node: reports[i].Name, Orphan: snapshotOrphan(v, group.Name)})
				}
			}
		}
	}
	if len(found) == 0 {
		return nil, nil
	}
	named, err := o.namedSnapshots(ctx)
	if err != nil {
		return nil, err
	}
	var without []listedOrphan
	for _, snapshot := range found {
		if !named[snapshot.VolumeID] {
			without = append(without, snapshot)
		}
	}
	return without, nil
}

func snapshotOrphan(v *v1alpha1.LogicalVolume, group string) v1alpha1.Orphan {
	o := v1alpha1.Orphan{
		VolumeID: v.SnapshotID, VolumeType: "Snapshot", VGName: group, Total: v.Total,
		Reason: "NoVolumeSnapshotContent", Message: "no VolumeSnapshotContent names this snapshot of " + v.SourceVolumeID,
	}
	if v.CreatedAt != nil {
		o.CreatedAt = &metav1.Time{Time: v.CreatedAt.Time}
	}
	return o
}

// namedSnapshots returns the handles of the snapshots that VolumeSnapshotContents name.
func (o *orphansOptions) namedSnapshots(ctx context.Context) (map[string]bool, error) {
	named := map[string]bool{}
	for options := (metav1.ListOptions{Limit: 500}); ; {
		contents, err := o.contents.List(ctx, options)
		switch {
		case apierrors.IsNotFound(err):
			return named, nil // nobody has the kind
		case err != nil:
			return nil, fmt.Errorf("reading which snapshots VolumeSnapshotContents name: %w", err)
		}
		for i := range contents.Items {
			for _, path := range [][]string{{"status", "snapshotHandle"}, {"spec", "source", "snapshotHandle"}} {
				if handle, is, err := unstructured.NestedString(contents.Items[i].Object, path...); is && err == nil {
					named[handle] = true
				}
			}
		}
		if options.Continue = contents.GetContinue(); options.Continue == "" {
			return named, nil
		}
	}
}
