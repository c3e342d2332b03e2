package extender

import (
	"context"
	"testing"
	"testing/synctest"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
)

// TestWhatIsMadeAnewWhileNobodyWatchesIsAnother has the API server end a watch, and objects
// deleted and made again under their names before all are listed: nobody is told that the
// first are gone.
func TestWhatIsMadeAnewWhileNobodyWatchesIsAnother(t *testing.T) {
	scratch := func(uid, node string) *corev1.Pod {
		p := withInline(pod("p"), "s", "vgName", "pool", "size", "30Gi")
		p.UID, p.Spec.NodeName = types.UID(uid), node
		return p
	}
	ended := func(p *corev1.Pod) *corev1.Pod { p.Status.Phase = corev1.PodSucceeded; return p }
	chosen := func(uid, node string) *corev1.PersistentVolumeClaim {
		c := claim("a", 30*gib, "lvm")
		if c.UID = types.UID(uid); node != "" {
			c = selected(c, node)
		}
		return c
	}
	handled := func(v *corev1.PersistentVolume, handle string) *corev1.PersistentVolume {
		v.Spec.CSI.VolumeHandle = handle
		return v
	}
	for name, test := range map[string]struct {
		kind        string
		before, now kruntime.Object
		then        string // is free when what was before no longer lingers
	}{
		"a pod that is on another node now takes room there": {
			"pods", scratch("uid-1", "n1"), scratch("uid-2", "n2"), "n1/pool=100Gi n2/pool=70Gi",
		},
		"a pod that is on the same node again takes its room once": {
			"pods", scratch("uid-1", "n1"), scratch("uid-2", "n1"), "n1/pool=70Gi n2/pool=100Gi",
		},
		"a pod that waits for a node takes none": {
			"pods", scratch("uid-1", "n1"), scratch("uid-2", ""), "n1/pool=100Gi n2/pool=100Gi",
		},
		"a pod that has ended already takes none": {
			"pods", scratch("uid-1", "n1"), ended(scratch("uid-2", "n1")), "n1/pool=100Gi n2/pool=100Gi",
		},
		"a pod that is still the same keeps its room": {
			"pods", scratch("uid-1", "n1"), scratch("uid-1", "n1"), "n1/pool=70Gi n2/pool=100Gi",
		},
		"a claim that has chosen another node has room there": {
			"persistentvolumeclaims", chosen("uid-1", "n1"), chosen("uid-2", "n2"), "n1/pool=100Gi n2/pool=70Gi",
		},
		"a claim that has chosen no node yet has none": {
			"persistentvolumeclaims", chosen("uid-1", "n1"), chosen("uid-2", ""), "n1/pool=100Gi n2/pool=100Gi",
		},
		"a volume of another node takes room there": {
			"persistentvolumes", pv("a", "n1", "pool", 30*gib), pv("a", "n2", "pool", 30*gib), "n1/pool=100Gi n2/pool=70Gi",
		},
		"a volume of another handle is another": {
			"persistentvolumes", pv("a", "n1", "pool", 30*gib), handled(pv("a", "n1", "pool", 20*gib), "other"), "n1/pool=80Gi n2/pool=100Gi",
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := openWorld(t, node("n1"), node("n2"), nls("n1", vg("pool", 100*gib)), nls("n2", vg("pool", 100*gib)))
				w.create(test.before)
				w.wantFree("n1/pool=70Gi n2/pool=100Gi")
				w.expire(test.kind)
				synctest.Wait()
				w.delete(test.before)
				w.create(test.now)
				if again := <-w.watches; again.resource != test.kind {
					t.Fatalf("%s are listed again", again.resource)
				}
				synctest.Wait()
				w.clock.Step(DefaultHoldTimeout)
				w.s.ledger.Expire(w.clock.Now())
				if got := w.free(); got != test.then {
					t.Errorf("free is %s, want %s", got, test.then)
				}
			})
		})
	}
}

// delete deletes an object that create made.
func (w *world) delete(obj kruntime.Object) {
	w.t.Helper()
	ctx, o := context.Background(), metav1.DeleteOptions{}
	var err error
	switch obj := obj.(type) {
	case *corev1.Pod:
		err = w.core.CoreV1().Pods(obj.Namespace).Delete(ctx, obj.Name, o)
	case *corev1.PersistentVolumeClaim:
		err = w.core.CoreV1().PersistentVolumeClaims(obj.Namespace).Delete(ctx, obj.Name, o)
	case *corev1.PersistentVolume:
		err = w.core.CoreV1().PersistentVolumes().Delete(ctx, obj.Name, o)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}
