package orphans_test

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	kubefake "k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/utils/clock"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
	"github.com/open-local/open-local/pkg/client/clientset/versioned/fake"
	informers "github.com/open-local/open-local/pkg/client/informers/externalversions"
	"github.com/open-local/open-local/pkg/orphans"
	"github.com/open-local/open-local/pkg/volume"
)

const (
	age    = 10 * time.Minute
	uid    = "5b1b7e2c-0000-4000-8000-000000000001"
	handle = "local-" + uid
)

// A cluster is an API server with a Finder at work on it, within a synctest bubble.
type cluster struct {
	t    *testing.T
	core *kubefake.Clientset
	ours *fake.Clientset
	stop func()
	dumb atomic.Bool // nobody is told of claims
}

func start(t *testing.T, objects ...runtime.Object) *cluster {
	t.Helper()
	var core, ours []runtime.Object
	for _, object := range objects {
		if _, ok := object.(*v1alpha1.NodeLocalStorage); ok {
			ours = append(ours, object)
		} else {
			core = append(core, object)
		}
	}
	c := &cluster{t: t, core: kubefake.NewClientset(core...), ours: fake.NewSimpleClientset(ours...)}
	c.core.PrependReactor("list", "persistentvolumeclaims", func(clienttesting.Action) (bool, runtime.Object, error) {
		return c.dumb.Load(), nil, errors.New("no answer")
	})
	c.run()
	return c
}

// run starts a Finder that knows nothing yet.
func (c *cluster) run() {
	c.t.Helper()
	reports := informers.NewSharedInformerFactory(c.ours, 0).Csi().V1alpha1().NodeLocalStorages().Informer()
	finder, err := orphans.New(orphans.Options{
		Kubernetes: c.core, Storage: c.ours, Reports: reports, Driver: volume.DefaultDriver, Age: age, Clock: clock.RealClock{},
	})
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(c.t.Context())
	c.stop = cancel
	go reports.RunWithContext(ctx)
	go func() {
		if err := finder.Run(ctx); err != nil {
			c.t.Error(err)
		}
	}()
	c.pass(time.Second)
}

// pass lets the bubble's time pass. No real time does.
func (c *cluster) pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// writes returns how many writes there were since it was last asked.
func (c *cluster) writes() int {
	count := 0
	for _, action := range c.ours.Actions() {
		if patch, is := action.(clienttesting.PatchAction); is {
			count++
			if patch.GetSubresource() != "" || !strings.Contains(string(patch.GetPatch()), `"uid"`) || strings.Contains(string(patch.GetPatch()), "spec") {
				c.t.Errorf("patched %q with %s", patch.GetSubresource(), patch.GetPatch())
			}
		}
	}
	c.ours.ClearActions()
	return count
}

func (c *cluster) nls(name string) *v1alpha1.NodeLocalStorage {
	c.t.Helper()
	nls, err := c.ours.CsiV1alpha1().NodeLocalStorages().Get(c.t.Context(), name, metav1.GetOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	return nls
}

// wantOrphans compares the orphans of n1.
func (c *cluster) wantOrphans(want ...string) {
	c.t.Helper()
	since, err := c.nls("n1").Orphaned()
	if err != nil {
		c.t.Fatal(err)
	}
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(since))); diff != "" {
		c.t.Errorf("orphans (-want +got):\n%s", diff)
	}
}

func (c *cluster) add(object runtime.Object) {
	c.t.Helper()
	var err error
	switch o := object.(type) {
	case *corev1.PersistentVolume:
		_, err = c.core.CoreV1().PersistentVolumes().Create(c.t.Context(), o, metav1.CreateOptions{})
	case *v1alpha1.NodeLocalStorage:
		_, err = c.ours.CsiV1alpha1().NodeLocalStorages().Create(c.t.Context(), o, metav1.CreateOptions{})
	}
	if err != nil {
		c.t.Fatal(err)
	}
	synctest.Wait()
}

// reporting is the report of n1 with these volumes in one group.
func reporting(handles ...string) *v1alpha1.NodeLocalStorage {
	nls := &v1alpha1.NodeLocalStorage{ObjectMeta: metav1.ObjectMeta{Name: "n1", UID: "nls-n1"}}
	group := v1alpha1.VolumeGroup{Name: "pool"}
	for _, h := range handles {
		group.LogicalVolumes = append(group.LogicalVolumes, v1alpha1.LogicalVolume{Name: volume.NameOf(h), VGName: "pool", VolumeID: h})
	}
	nls.Status.NodeStorageInfo.VolumeGroups = []v1alpha1.VolumeGroup{group}
	return nls
}

func naming(name, driver, handle string) *corev1.PersistentVolume {
	pv := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: name}}
	pv.Spec.CSI = &corev1.CSIPersistentVolumeSource{Driver: driver, VolumeHandle: handle}
	return pv
}

func claim(phase corev1.PersistentVolumeClaimPhase, volumeName string) *corev1.PersistentVolumeClaim {
	c := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "data", UID: uid}}
	c.Spec.VolumeName, c.Status.Phase = volumeName, phase
	return c
}

func bubble(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, test)
}

func TestWhatIsAnOrphan(t *testing.T) {
	inline := volume.ForInline("pod", "data")
	deleted := reporting(handle)
	deleted.Status.NodeStorageInfo.VolumeGroups[0].LogicalVolumes[0].Deleted = true
	others := reporting()
	others.Status.NodeStorageInfo.VolumeGroups[0].LogicalVolumes = []v1alpha1.LogicalVolume{
		{Name: "theirs"}, {Name: "snap-1", SnapshotID: "snap-1", SourceVolumeID: handle},
	}
	wholes := reporting()
	wholes.Status.NodeStorageInfo.DeviceInfos = []v1alpha1.DeviceInfo{{Name: "/dev/vdb"}, {Name: "/dev/vdc", VolumeID: "device"}}
	wholes.Status.NodeStorageInfo.MountPoints = []v1alpha1.MountPoint{{Name: "/"}, {Name: "/mnt/a", VolumeID: "mount"}}
	for name, test := range map[string]struct {
		objects []runtime.Object
		want    []string
	}{
		"a volume that nobody names":                       {[]runtime.Object{reporting(handle)}, []string{handle}},
		"a volume with a PersistentVolume":                 {[]runtime.Object{reporting(handle), naming(handle, volume.DefaultDriver, handle)}, nil},
		"one with a PersistentVolume of another name":      {[]runtime.Object{reporting(handle), naming("mine", volume.DefaultDriver, handle)}, nil},
		"a PersistentVolume of another driver names it":    {[]runtime.Object{reporting(handle), naming(handle, "other.csi.example.com", handle)}, []string{handle}},
		"an inline volume":                                 {[]runtime.Object{reporting(inline)}, nil},
		"a volume that is deleted and stays for snapshots": {[]runtime.Object{deleted}, nil},
		"what is not ours, and snapshots":                  {[]runtime.Object{others}, nil},
		"whole devices and mount points":                   {[]runtime.Object{wholes}, []string{"device", "mount"}},
		"a volume whose claim still waits for it":          {[]runtime.Object{reporting(handle), claim(corev1.ClaimPending, "")}, nil},
		"a volume whose claim has it, as others know":      {[]runtime.Object{reporting(handle), claim(corev1.ClaimBound, handle)}, nil},
		"a volume whose claim lost its PersistentVolume":   {[]runtime.Object{reporting(handle), claim(corev1.ClaimLost, handle)}, []string{handle}},
		"one of a claim that is gone, among others":        {[]runtime.Object{reporting(handle, "local-other"), naming("local-other", volume.DefaultDriver, "local-other")}, []string{handle}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				c := start(t, test.objects...)
				c.pass(age - 2*time.Second)
				c.wantOrphans() // a volume is there before its PersistentVolume
				c.pass(age / 5)
				c.wantOrphans(test.want...)
			})
		})
	}
}

func TestAnOrphanIsWrittenOnceAndUntilItIsAdopted(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := start(t, reporting(handle))
		began := time.Now()
		c.pass(2 * age)
		c.wantOrphans(handle)
		if got := c.writes(); got != 1 {
			t.Errorf("%d writes, want 1", got)
		}
		since, err := c.nls("n1").Orphaned()
		if err != nil {
			t.Fatal(err)
		}
		if since[handle].Sub(began).Abs() > 2*time.Second {
			t.Errorf("an orphan since %s, and the test began at %s", since[handle], began)
		}
		c.pass(24 * time.Hour)
		if got := c.writes(); got != 0 {
			t.Errorf("%d writes while nothing changed", got)
		}

		c.add(naming("adopted", volume.DefaultDriver, handle))
		c.wantOrphans() // at once
		if _, is := c.nls("n1").Annotations[v1alpha1.AnnotationOrphans]; is {
			t.Error("the annotation is still there")
		}
	})
}

func TestAnOrphanOutlivesARestart(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := start(t, reporting(handle))
		c.pass(2 * age)
		c.writes()
		c.stop()
		c.pass(time.Hour)
		c.run()
		c.wantOrphans(handle)
		if got := c.writes(); got != 0 {
			t.Errorf("%d writes after a restart, nothing had changed", got)
		}
	})
}

func TestANodeThatComesBackShowsWhatIsLeft(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := start(t, naming(handle, volume.DefaultDriver, handle), reporting(handle))
		c.pass(2 * age)
		c.wantOrphans()

		ours := c.ours.CsiV1alpha1().NodeLocalStorages()
		if err := ours.Delete(t.Context(), "n1", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := c.core.CoreV1().PersistentVolumes().Delete(t.Context(), handle, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		c.pass(time.Hour)
		c.add(reporting(handle))
		c.pass(age / 2)
		c.wantOrphans()
		c.pass(age)
		c.wantOrphans(handle)
	})
}

func TestNobodyIsAnOrphanWhileTheAPIServerDoesNotTell(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := start(t, reporting(handle))
		c.dumb.Store(true)
		c.pass(3 * age)
		c.wantOrphans()
		c.dumb.Store(false)
		c.pass(2 * age)
		c.wantOrphans(handle)
	})
}

func TestAnAnnotationThatCannotBeReadIsReplaced(t *testing.T) {
	for name, test := range map[string]struct {
		text string
		nls  *v1alpha1.NodeLocalStorage
		want []string
	}{
		"nothing is an orphan": {"yes", reporting(), nil},
		"something is":         {"yes", reporting(handle), []string{handle}},
		"a volume that is not there any more": {
			`{"` + handle + `":"2026-01-01T00:00:00Z"}`, reporting(), nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				test.nls.Annotations = map[string]string{v1alpha1.AnnotationOrphans: test.text, v1alpha1.AnnotationStorageReserved: "kept"}
				c := start(t, test.nls)
				c.pass(2 * age)
				c.wantOrphans(test.want...)
				if got := c.nls("n1").Annotations[v1alpha1.AnnotationStorageReserved]; got != "kept" {
					t.Errorf("the annotation of somebody else is %q", got)
				}
			})
		})
	}
}

func TestMoreOrphansThanAnAnnotationHoldsAreCut(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var handles []string
		for i := range 1200 {
			handles = append(handles, volume.ForClaim("local", string(rune('a'+i%26))+strings.Repeat("x", i/26)))
		}
		c := start(t, reporting(handles...))
		c.pass(2 * age)
		var told map[string]time.Time
		if err := json.Unmarshal([]byte(c.nls("n1").Annotations[v1alpha1.AnnotationOrphans]), &told); err != nil {
			t.Fatal(err)
		}
		if len(told) != 1000 {
			t.Errorf("%d orphans are told, want 1000", len(told))
		}
		if got := c.writes(); got != 1 {
			t.Errorf("%d writes, want 1: always the same are told", got)
		}
	})
}
