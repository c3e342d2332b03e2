package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
	"github.com/open-local/open-local/pkg/initplan"
)

// report writes the status if it says something new or is due for repetition.
func (a *Agent) report(ctx context.Context, nls *v1alpha1.NodeLocalStorage) {
	now := time.Now()
	status := a.status(nls)
	if sameReport(status, nls.Status) && now.Before(a.heartbeatDue(nls)) {
		a.writeAgain.succeeded()
		return
	}
	stamp(&status, nls.Status, metav1.NewTime(now).Rfc3339Copy()) // as the API server keeps it
	cached := a.cached()
	written, err := a.write(ctx, nls, status)
	if err != nil {
		if ctx.Err() == nil {
			a.writeAgain.failed(time.Now())
			klog.FromContext(ctx).Error(err, "Could not report, trying again", "after", a.writeAgain.step)
		}
		return
	}
	a.writeAgain.succeeded()
	a.written, a.wroteOver, a.wrote = written, cached, time.Now()
	a.metrics.writes.Inc()
	a.tellOrphans(nls, status.Orphans)
}

// status returns what is to be reported, without times.
func (a *Agent) status(nls *v1alpha1.NodeLocalStorage) v1alpha1.NodeLocalStorageStatus {
	status, problems := describe(a.view.seen, nls, a.options.Driver, missingGroups(a.view.problems))
	problems = append(problems, a.view.problems...)
	a.metrics.problems.Set(float64(len(problems)))
	if a.view.err != nil {
		if !a.view.seenOnce { // nothing to say about the node that is newer
			status = *nls.Status.DeepCopy()
			if status.NodeStorageInfo.Phase == "" {
				status.NodeStorageInfo.Phase = v1alpha1.NodeStoragePending
			}
		}
		state := &status.NodeStorageInfo.State
		state.Type, state.Status = v1alpha1.StorageFault, metav1.ConditionUnknown
		state.Reason, state.Message = lookFailed, cut(a.view.err.Error(), maxEvent)
	}
	if a.view.seenOnce {
		status.Orphans = a.view.seen.orphans(nls, a.options.Driver, a.onOrphans)
	}
	a.metrics.orphans.Set(float64(len(status.Orphans)))
	status.Conditions = conditions(problems, nls.Generation, a.view.err)
	status.Wiped = allWiped(nls.Status.Wiped, a.wiped)
	status.Conditions = append(status.Conditions, snapshotCondition(lostSnapshots(a.view.seen.lvm, a.options.Driver), nls.Generation)...)
	return status
}

// maxWiped is how much is remembered of what was wiped.
const maxWiped = 100

// allWiped adds what was wiped now to what was reported before.
func allWiped(before, now []v1alpha1.WipedDevice) []v1alpha1.WipedDevice {
	all := slices.Clone(before)
	for _, w := range now {
		same := func(old v1alpha1.WipedDevice) bool { return old.ID == w.ID && old.Contents == w.Contents }
		if !slices.ContainsFunc(before, same) {
			all = append(all, w)
		}
	}
	return all[max(0, len(all)-maxWiped):]
}

// write replaces the whole status of the very object that was looked at.
func (a *Agent) write(ctx context.Context, nls *v1alpha1.NodeLocalStorage, status v1alpha1.NodeLocalStorageStatus) (*v1alpha1.NodeLocalStorage, error) {
	patch, err := json.Marshal([]map[string]any{
		{"op": "test", "path": "/metadata/uid", "value": nls.UID},
		{"op": "add", "path": "/status", "value": status},
	})
	if err != nil {
		return nil, fmt.Errorf("encoding the status of node local storage %q: %w", nls.Name, err)
	}
	written, err := a.client.CsiV1alpha1().NodeLocalStorages().Patch(ctx, nls.Name, types.JSONPatchType, patch, metav1.PatchOptions{}, "status")
	if err != nil {
		return nil, fmt.Errorf("writing the status of node local storage %q: %w", nls.Name, err)
	}
	return written, nil
}

// heartbeatDue returns when the report in the object is old enough to be repeated.
func (a *Agent) heartbeatDue(nls *v1alpha1.NodeLocalStorage) time.Time {
	var last time.Time
	if in := nls.Status.NodeStorageInfo.State.LastHeartbeatTime; in != nil {
		// A clock that was set back must not silence the agent.
		last = earlier(in.Time, time.Now())
	}
	if a.written != nil && a.written.UID == nls.UID { // the cache may be behind
		last = later(last, a.wrote)
	}
	return last.Add(a.options.Heartbeat)
}

// sameReport reports whether a and b say the same of the node. Times are not
// compared, nor how full file systems are, which changes all the time.
func sameReport(a, b v1alpha1.NodeLocalStorageStatus) bool {
	return equality.Semantic.DeepEqual(timeless(a), timeless(b))
}

func timeless(status v1alpha1.NodeLocalStorageStatus) *v1alpha1.NodeLocalStorageStatus {
	s := status.DeepCopy()
	s.NodeStorageInfo.State.LastHeartbeatTime = nil
	s.NodeStorageInfo.State.LastTransitionTime = nil
	s.FilteredStorageInfo.UpdateStatus.LastUpdateTime = nil
	for i := range s.NodeStorageInfo.MountPoints {
		s.NodeStorageInfo.MountPoints[i].Available = 0
	}
	for i := range s.Conditions {
		s.Conditions[i].LastTransitionTime = metav1.Time{}
	}
	return s
}

// stamp sets the times of a status that is about to follow before.
func stamp(status *v1alpha1.NodeLocalStorageStatus, before v1alpha1.NodeLocalStorageStatus, now metav1.Time) {
	state, old := &status.NodeStorageInfo.State, before.NodeStorageInfo.State
	state.LastHeartbeatTime, state.LastTransitionTime = &now, old.LastTransitionTime
	if old.LastTransitionTime == nil || old.Type != state.Type || old.Status != state.Status {
		state.LastTransitionTime = &now
	}
	lists, oldLists := status.FilteredStorageInfo, before.FilteredStorageInfo
	lists.UpdateStatus.LastUpdateTime, oldLists.UpdateStatus.LastUpdateTime = nil, nil
	status.FilteredStorageInfo.UpdateStatus.LastUpdateTime = before.FilteredStorageInfo.UpdateStatus.LastUpdateTime
	if status.FilteredStorageInfo.UpdateStatus.LastUpdateTime == nil || !equality.Semantic.DeepEqual(lists, oldLists) {
		status.FilteredStorageInfo.UpdateStatus.LastUpdateTime = &now
	}
	keepTransitions(status.Conditions, before.Conditions, now)
}

// missingGroups returns the groups that were here and are to be remembered.
func missingGroups(problems []initplan.Problem) []string {
	var names []string
	for _, p := range problems {
		if p.Reason == initplan.GroupMissing {
			names = append(names, p.Object)
		}
	}
	return names
}
