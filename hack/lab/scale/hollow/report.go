package hollow

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
	"github.com/open-local/open-local/pkg/client/clientset/versioned"
)

// quiet is how long a node waits for more to happen before it reports, as agents do.
const quiet = 300 * time.Millisecond

// Status is what the node's agent would report at this moment.
func (n *Node) Status() v1alpha1.NodeLocalStorageStatus {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := metav1.Now().Rfc3339Copy()
	s := v1alpha1.NodeLocalStorageStatus{}
	s.NodeStorageInfo.Phase = v1alpha1.NodeStorageRunning
	s.NodeStorageInfo.State = v1alpha1.StorageState{Type: v1alpha1.StorageReady, Status: metav1.ConditionTrue, LastHeartbeatTime: &now, LastTransitionTime: &now}
	s.FilteredStorageInfo.UpdateStatus = v1alpha1.UpdateStatusInfo{Status: v1alpha1.UpdateAccepted, LastUpdateTime: &now}
	for i, g := range n.groups {
		device := fmt.Sprintf("/dev/vd%c", 'b'+i)
		s.NodeStorageInfo.DeviceInfos = append(s.NodeStorageInfo.DeviceInfos, v1alpha1.DeviceInfo{
			Name: device, MediaType: "ssd", Total: int64(g.size), Condition: v1alpha1.StorageReady,
		})
		vg := v1alpha1.VolumeGroup{
			Name: g.name, PhysicalVolumes: []string{device}, PhysicalVolumesAvailable: []int64{int64(g.free())},
			Total: int64(g.size), Available: int64(g.free()), Allocatable: int64(g.size), ExtentSize: int64(Extent), Condition: v1alpha1.StorageReady,
		}
		for _, id := range g.held() {
			vg.LogicalVolumes = append(vg.LogicalVolumes, v1alpha1.LogicalVolume{
				Name: id, VGName: g.name, Total: int64(g.volumes[id]), VolumeID: id, Condition: v1alpha1.StorageReady,
			})
		}
		s.NodeStorageInfo.VolumeGroups = append(s.NodeStorageInfo.VolumeGroups, vg)
		s.FilteredStorageInfo.VolumeGroups = append(s.FilteredStorageInfo.VolumeGroups, g.name)
	}
	return s
}

// Report writes the reports of nodes that change until ctx ends, with that many writers.
func (f *Fleet) Report(ctx context.Context, client versioned.Interface, writers int) {
	var done sync.WaitGroup
	for range writers {
		done.Go(func() {
			for {
				node, closed := f.changed.Get()
				if closed {
					return
				}
				if err := node.report(ctx, client); err != nil {
					f.changed.AddAfter(node, time.Second)
				}
				f.changed.Done(node)
			}
		})
	}
	<-ctx.Done()
	f.changed.ShutDown()
	done.Wait()
}

func (n *Node) report(ctx context.Context, client versioned.Interface) error {
	patch, err := json.Marshal([]map[string]any{{"op": "add", "path": "/status", "value": n.Status()}})
	if err != nil {
		return err
	}
	_, err = client.CsiV1alpha1().NodeLocalStorages().Patch(ctx, n.Name, types.JSONPatchType, patch, metav1.PatchOptions{}, "status")
	return err
}
