package extender

import (
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	extenderv1 "k8s.io/kube-scheduler/extender/v1"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
)

func TestFilter(t *testing.T) {
	fault := vg("pool", 100*gib)
	fault.Condition = v1alpha1.StorageFault
	unmanaged := nls("n1", vg("pool", 100*gib))
	unmanaged.Status.FilteredStorageInfo.VolumeGroups = nil
	pending := nls("n1")
	pending.Status.NodeStorageInfo.Phase = v1alpha1.NodeStoragePending
	ssd := vg("fast", 100*gib)
	ssd.PhysicalVolumes = []string{"/dev/nvme0n1p1", "/dev/nvme1n1"}
	fast := nls("n1", ssd, vg("pool", 100*gib))
	fast.Status.NodeStorageInfo.DeviceInfos = []v1alpha1.DeviceInfo{
		{Name: "/dev/nvme0n1", MediaType: "ssd"}, {Name: "/dev/nvme1n1", MediaType: "ssd"},
	}
	ephemeral := claim("p-scratch", 10*gib, "lvm")
	controller := true
	ephemeral.OwnerReferences = []metav1.OwnerReference{{UID: "uid-p", Controller: &controller}}
	withEphemeral := pod("p")
	withEphemeral.Spec.Volumes = []corev1.Volume{{Name: "scratch", VolumeSource: corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{}}}}

	for name, test := range map[string]struct {
		storage []*v1alpha1.NodeLocalStorage
		objects []kruntime.Object
		pod     *corev1.Pod
		fit     string
		reasons map[string]string
	}{
		"a pod without volumes passes": {
			pod: pod("p"),
			fit: "n1 n2",
		},
		"a claim goes where there is room": {
			storage: []*v1alpha1.NodeLocalStorage{nls("n1", vg("pool", 100*gib)), nls("n2", vg("pool", 30*gib, lv("x", 18*gib)))},
			objects: []kruntime.Object{claim("data", 20*gib, "lvm")},
			pod:     pod("p", "data"),
			fit:     "n1",
			reasons: map[string]string{"n2": "vg pool: wants 20Gi, 12Gi free"},
		},
		"a node without a report is refused alone": {
			storage: []*v1alpha1.NodeLocalStorage{nls("n1", vg("pool", 100*gib))},
			objects: []kruntime.Object{claim("data", 20*gib, "lvm")},
			pod:     pod("p", "data"),
			fit:     "n1",
			reasons: map[string]string{"n2": "never: node has no NodeLocalStorage report"},
		},
		"a node whose agent has not looked has no report": {
			storage: []*v1alpha1.NodeLocalStorage{pending, nls("n2", vg("pool", 100*gib))},
			objects: []kruntime.Object{claim("data", 20*gib, "lvm")},
			pod:     pod("p", "data"),
			fit:     "n2",
			reasons: map[string]string{"n1": "never: node has no NodeLocalStorage report"},
		},
		"a claim larger than any group never fits": {
			storage: []*v1alpha1.NodeLocalStorage{nls("n1", vg("pool", 10*gib)), nls("n2")},
			objects: []kruntime.Object{claim("data", 20*gib, "lvm")},
			pod:     pod("p", "data"),
			reasons: map[string]string{"n1": "never: vg pool: wants 20Gi, has 10Gi in all", "n2": "never: no managed volume group: wants 20Gi, 0 free"},
		},
		"a group that is not managed is not there": {
			storage: []*v1alpha1.NodeLocalStorage{unmanaged, nls("n2", vg("other", 100*gib))},
			objects: []kruntime.Object{claim("data", 20*gib, "named"), class("named", "vgName", "pool")},
			pod:     pod("p", "data"),
			reasons: map[string]string{"n1": `never: no managed volume group "pool": wants 20Gi, 0 free`, "n2": `never: no managed volume group "pool": wants 20Gi, 0 free`},
		},
		"a group in trouble takes nothing": {
			storage: []*v1alpha1.NodeLocalStorage{nls("n1", fault), nls("n2", vg("pool", 100*gib))},
			objects: []kruntime.Object{claim("data", 20*gib, "lvm")},
			pod:     pod("p", "data"),
			fit:     "n2",
			reasons: map[string]string{"n1": "never: vg pool: DiskFault: wants 20Gi, 100Gi free"},
		},
		"a medium is found through the group's disks": {
			storage: []*v1alpha1.NodeLocalStorage{fast, nls("n2", vg("pool", 100*gib))},
			objects: []kruntime.Object{claim("data", 20*gib, "ssd"), class("ssd", "mediaType", "ssd")},
			pod:     pod("p", "data"),
			fit:     "n1",
			reasons: map[string]string{"n2": "never: no managed volume group on ssd: wants 20Gi, 0 free"},
		},
		"two claims that fit only one way": {
			storage: []*v1alpha1.NodeLocalStorage{nls("n1", vg("a", 10*gib), vg("b", 6*gib)), nls("n2", vg("a", 15*gib))},
			objects: []kruntime.Object{claim("small", 6*gib, "lvm"), claim("large", 10*gib, "lvm")},
			pod:     pod("p", "small", "large"),
			fit:     "n1",
			reasons: map[string]string{"n2": "never: vg a: wants 6Gi more for default/small, 5Gi free"},
		},
		"inline volumes and claims are placed together": {
			storage: []*v1alpha1.NodeLocalStorage{nls("n1", vg("pool", 10*gib)), nls("n2", vg("pool", 11*gib))},
			objects: []kruntime.Object{claim("data", 10*gib, "lvm")},
			pod:     withInline(pod("p", "data"), "scratch", "vgName", "pool"),
			fit:     "n2",
			reasons: map[string]string{"n1": "never: vg pool: wants 10Gi more for default/data, 9Gi free"},
		},
		"an inline volume that asks for nonsense has no node": {
			storage: []*v1alpha1.NodeLocalStorage{nls("n1", vg("pool", 10*gib)), nls("n2", vg("pool", 11*gib))},
			pod:     withInline(pod("p"), "scratch", "vgName", "pool; reboot"),
			reasons: map[string]string{
				"n1": `never: volume "scratch" of the pod: invalid inline volume attribute "vgName": "pool; reboot" is not a name LVM accepts for a volume group (letters, digits and + _ . -, not first a hyphen)`,
				"n2": `never: volume "scratch" of the pod: invalid inline volume attribute "vgName": "pool; reboot" is not a name LVM accepts for a volume group (letters, digits and + _ . -, not first a hyphen)`,
			},
		},
		"a generic ephemeral claim is found by its name": {
			storage: []*v1alpha1.NodeLocalStorage{nls("n1", vg("pool", 5*gib)), nls("n2", vg("pool", 11*gib))},
			objects: []kruntime.Object{ephemeral},
			pod:     withEphemeral,
			fit:     "n2",
			reasons: map[string]string{"n1": "never: vg pool: wants 10Gi, has 5Gi in all"},
		},
		"a class with wrong parameters has no node": {
			storage: []*v1alpha1.NodeLocalStorage{nls("n1", vg("pool", 100*gib))},
			objects: []kruntime.Object{claim("data", gib, "bad"), class("bad", "iops", "many")},
			pod:     pod("p", "data"),
			reasons: map[string]string{
				"n1": `never: storage class "bad": invalid parameter "iops": "many" is not a quantity such as 1024 or 1Mi`,
				"n2": `never: storage class "bad": invalid parameter "iops": "many" is not a quantity such as 1024 or 1Mi`,
			},
		},
		"a class of whole devices, where there are none": {
			storage: []*v1alpha1.NodeLocalStorage{nls("n1", vg("pool", 100*gib)), nls("n2", vg("pool", 100*gib))},
			objects: []kruntime.Object{claim("data", gib, "device"), class("device", "volumeType", "Device")},
			pod:     pod("p", "data"),
			reasons: map[string]string{"n1": "never: no managed device: wants 1Gi, 0 free", "n2": "never: no managed device: wants 1Gi, 0 free"},
		},
		"a mount point as a block device": {
			storage: []*v1alpha1.NodeLocalStorage{nls("n1", vg("pool", 100*gib))},
			objects: []kruntime.Object{asBlock(claim("data", gib, "mount")), class("mount", "volumeType", "MountPoint")},
			pod:     pod("p", "data"),
			reasons: map[string]string{
				"n1": `never: invalid storage class "mount": claim default/data wants a block device, and a volume of type MountPoint is a file system`,
				"n2": `never: invalid storage class "mount": claim default/data wants a block device, and a volume of type MountPoint is a file system`,
			},
		},
		"claims that need no place pass": {
			objects: []kruntime.Object{
				claim("immediate", gib, "immediate"), claim("classless", gib, ""),
				claim("foreign", gib, "foreign"), foreign(class("foreign")), bound(claim("bound", gib, "lvm")),
			},
			pod: pod("p", "immediate", "classless", "foreign", "bound"),
			fit: "n1 n2",
		},
		"a claim that is named twice is one": {
			storage: []*v1alpha1.NodeLocalStorage{nls("n1", vg("pool", 10*gib)), nls("n2", vg("pool", 9*gib))},
			objects: []kruntime.Object{claim("data", 10*gib, "lvm")},
			pod:     pod("p", "data", "data"),
			fit:     "n1",
			reasons: map[string]string{"n2": "never: vg pool: wants 10Gi, has 9Gi in all"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			objects := append(test.objects, node("n1"), node("n2"), test.pod)
			for _, n := range test.storage {
				objects = append(objects, n)
			}
			w := newWorld(t, objects...)
			fit, reasons := w.filter(test.pod, "n1", "n2")
			if fit != test.fit {
				t.Errorf("fits on %q, want %q", fit, test.fit)
			}
			if test.reasons == nil {
				test.reasons = map[string]string{}
			}
			if diff := cmp.Diff(test.reasons, reasons); diff != "" {
				t.Errorf("reasons (-want +got):\n%s", diff)
			}
		})
	}
}

// twoNodes is a world with 100Gi on each of two nodes.
func twoNodes(t *testing.T, objects ...kruntime.Object) *world {
	t.Helper()
	return newWorld(t, append(objects, node("n1"), node("n2"), nls("n1", vg("pool", 100*gib)), nls("n2", vg("pool", 100*gib)))...)
}

func TestAPodWithoutVolumesOfOursGetsItsListBackUntouched(t *testing.T) {
	w := twoNodes(t)
	names := []string{"n1", "unheard of"}
	r, err := w.s.Filter(w.ctx(), &extenderv1.ExtenderArgs{Pod: pod("unheard-of"), NodeNames: &names})
	if err != nil || r.NodeNames != &names {
		t.Errorf("got %v and %v, want the very same list", r, err)
	}
	scores, err := w.s.Prioritize(w.ctx(), &extenderv1.ExtenderArgs{Pod: pod("unheard-of"), NodeNames: &names})
	if err != nil || len(*scores) != 0 {
		t.Errorf("got scores %v and %v, want none", scores, err)
	}
}

func TestASchedulerThatSendsNodesGetsNodes(t *testing.T) {
	w := twoNodes(t, claim("data", 50*gib, "lvm"), pod("p", "data"), node("n3"))
	nodes := &corev1.NodeList{Items: []corev1.Node{*node("n3"), *node("n1"), *node("n2")}}
	r, err := w.s.Filter(w.ctx(), &extenderv1.ExtenderArgs{Pod: pod("p", "data"), Nodes: nodes})
	if err != nil {
		t.Fatal(err)
	}
	if r.NodeNames != nil || len(r.Nodes.Items) != 2 || r.Nodes.Items[0].Name != "n1" || r.Nodes.Items[1].Name != "n2" {
		t.Errorf("got %v, want the nodes n1 and n2", r)
	}
	if got := r.FailedAndUnresolvableNodes["n3"]; got != noReport {
		t.Errorf("n3 is refused with %q", got)
	}
}

func TestWhatIsAnsweredIsHeldOnEveryNode(t *testing.T) {
	w := twoNodes(t, claim("a", 60*gib, "lvm"), claim("b", 60*gib, "lvm"), pod("a", "a"), pod("b", "b"))
	w.mustFit(pod("a", "a"), "n1 n2", "n1", "n2")
	w.wantFree("n1/pool=40Gi n2/pool=40Gi")
	w.mustFit(pod("a", "a"), "n1 n2", "n1", "n2") // its own hold is not in its way
	w.wantFree("n1/pool=40Gi n2/pool=40Gi")
}

// waiting starts a filter that has to wait for what others hold, and returns when it waits.
func (w *world) waiting(p *corev1.Pod, nodes ...string) (answer chan string) {
	w.t.Helper()
	answer = make(chan string, 1)
	go func() {
		fit, _ := w.filter(p, nodes...)
		answer <- fit
	}()
	deadline := time.After(patience)
	for !w.clock.HasWaiters() {
		select {
		case fit := <-answer:
			w.t.Fatalf("did not wait, but answered %q", fit)
		case <-deadline:
			w.t.Fatal("neither waits nor answers")
		default:
			runtime.Gosched()
		}
	}
	return answer
}

func (w *world) wantAnswer(answer chan string, want string) {
	w.t.Helper()
	select {
	case fit := <-answer:
		if fit != want {
			w.t.Errorf("fits on %q, want %q", fit, want)
		}
	case <-time.After(patience):
		w.t.Fatal("no answer")
	}
}

func TestAPodWaitsForOthersToChoose(t *testing.T) {
	for name, test := range map[string]struct {
		then func(w *world)
		want string
	}{
		"and goes where they do not":                {func(w *world) { w.selectNode("a", "n1") }, "n2"},
		"or where one that is gone would have gone": {func(w *world) { w.deletePod("a") }, "n1 n2"},
		"or finds more room on another node":        {func(w *world) { w.report(nls("n2", vg("pool", 200*gib))) }, "n2"},
		"but not for ever":                          {func(w *world) { w.clock.Step(DefaultHoldWait) }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := twoNodes(t, claim("a", 60*gib, "lvm"), claim("b", 60*gib, "lvm"), pod("a", "a"), pod("b", "b"))
			w.mustFit(pod("a", "a"), "n1 n2", "n1", "n2")
			answer := w.waiting(pod("b", "b"), "n1", "n2")
			test.then(w)
			w.wantAnswer(answer, test.want)
		})
	}
}

func TestTheReasonSaysWhatOtherPodsHold(t *testing.T) {
	w := twoNodes(t, claim("a", 60*gib, "lvm"), claim("b", 60*gib, "lvm"), pod("a", "a"), pod("b", "b"))
	w.s.o.HoldWait = 0
	w.mustFit(pod("a", "a"), "n2", "n2")
	w.report(nls("n1", vg("pool", 100*gib, lv("x", 50*gib))))
	w.wantFree("n1/pool=50Gi n2/pool=40Gi")
	_, reasons := w.filter(pod("b", "b"), "n1", "n2")
	want := map[string]string{
		"n1": "vg pool: wants 60Gi, 50Gi free",
		"n2": "vg pool: wants 60Gi, 40Gi free, 60Gi held for pods that are being placed",
	}
	if diff := cmp.Diff(want, reasons); diff != "" {
		t.Errorf("reasons (-want +got):\n%s", diff)
	}
}

func TestAPodDoesNotWaitWhereThereIsNoRoomAnyway(t *testing.T) {
	w := twoNodes(t, claim("a", 60*gib, "lvm"), claim("b", 101*gib, "lvm"), pod("a", "a"), pod("b", "b"))
	w.mustFit(pod("a", "a"), "n1 n2", "n1", "n2")
	w.mustFit(pod("b", "b"), "", "n1", "n2")
}

func TestAHoldEndsByItself(t *testing.T) {
	w := twoNodes(t, claim("a", 60*gib, "lvm"), claim("b", 60*gib, "lvm"), pod("a", "a"), pod("b", "b"))
	w.mustFit(pod("a", "a"), "n1 n2", "n1", "n2")
	w.clock.Step(DefaultHoldTimeout)
	w.mustFit(pod("b", "b"), "n1 n2", "n1", "n2")
}

func TestAPodThatDoesNotExistHoldsNothing(t *testing.T) {
	w := twoNodes(t, claim("a", 60*gib, "lvm"), pod("p", "a"))
	forged := pod("p", "a")
	forged.UID = "another"
	for _, stranger := range []*corev1.Pod{pod("stranger", "a"), forged} {
		failed := make(chan error, 1)
		go func() {
			_, err := w.s.Filter(w.ctx(), &extenderv1.ExtenderArgs{Pod: stranger, NodeNames: &[]string{"n1"}})
			failed <- err
		}()
		for !w.clock.HasWaiters() {
			runtime.Gosched()
		}
		w.clock.Step(lagWait)
		if err := <-failed; !errors.Is(err, errLagging) {
			t.Errorf("got %v, want errLagging", err)
		}
	}
	w.wantFree("n1/pool=100Gi n2/pool=100Gi")
}

func TestThePodOfTheServerCountsAndNotTheOneSent(t *testing.T) {
	w := twoNodes(t, claim("a", 60*gib, "lvm"), claim("others", 40*gib, "lvm"), pod("p", "a"))
	w.mustFit(pod("p", "others"), "n1", "n1")
	w.wantFree("n1/pool=40Gi n2/pool=100Gi")
}

func TestTheCachesMayLagBehindTheScheduler(t *testing.T) {
	w := twoNodes(t)
	answer := w.waiting(pod("p", "data"), "n1")
	w.create(pod("p", "data"))
	w.create(claim("data", 60*gib, "late"))
	w.create(class("late"))
	w.wantAnswer(answer, "n1")
	w.wantFree("n1/pool=40Gi n2/pool=100Gi")
}

func TestAClaimOfAnotherPodIsNotItsEphemeralOne(t *testing.T) {
	p := pod("p")
	p.Spec.Volumes = []corev1.Volume{{Name: "scratch", VolumeSource: corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{}}}}
	w := twoNodes(t, p, claim("p-scratch", gib, "lvm"))
	_, err := w.s.Filter(w.ctx(), &extenderv1.ExtenderArgs{Pod: p, NodeNames: &[]string{"n1"}})
	if err == nil || !strings.Contains(err.Error(), "was not created for pod default/p") {
		t.Errorf("got %v", err)
	}
}

func TestPrioritize(t *testing.T) {
	w := newWorld(t, node("n1"), node("n2"), node("n3"),
		nls("n1", vg("pool", 100*gib)), nls("n2", vg("pool", 100*gib, lv("x", 60*gib))),
		claim("a", 20*gib, "lvm"), pod("p", "a"))
	names := []string{"n1", "n2"}
	w.mustFit(pod("p", "a"), "n1 n2", "n1", "n2", "n3")
	score := func(names ...string) extenderv1.HostPriorityList {
		t.Helper()
		scores, err := w.s.Prioritize(w.ctx(), &extenderv1.ExtenderArgs{Pod: pod("p", "a"), NodeNames: &names})
		if err != nil {
			t.Fatal(err)
		}
		return *scores
	}
	want := extenderv1.HostPriorityList{{Host: "n1", Score: 2}, {Host: "n2", Score: 8}}
	if diff := cmp.Diff(want, score(names...)); diff != "" {
		t.Errorf("scores of what is held (-want +got):\n%s", diff)
	}
	w.wantFree("n1/pool=80Gi n2/pool=20Gi")
	if diff := cmp.Diff(want[1:], score("n2")); diff != "" {
		t.Errorf("scores of fewer nodes (-want +got):\n%s", diff)
	}
	w.wantFree("n1/pool=100Gi n2/pool=20Gi") // it will not land on n1
	w.deletePod("p")
	w.wantFree("n1/pool=100Gi n2/pool=40Gi")
}

func TestScoresWithoutAHoldAreOfWhatWouldBe(t *testing.T) {
	w := twoNodes(t, claim("a", 20*gib, "lvm"), pod("p", "a"))
	scores, err := w.s.Prioritize(w.ctx(), &extenderv1.ExtenderArgs{Pod: pod("p", "a"), NodeNames: &[]string{"n1", "n9"}})
	if err != nil {
		t.Fatal(err)
	}
	want := extenderv1.HostPriorityList{{Host: "n1", Score: 2}, {Host: "n9", Score: 0}}
	if diff := cmp.Diff(want, *scores); diff != "" {
		t.Errorf("scores (-want +got):\n%s", diff)
	}
}

func foreign(c *storagev1.StorageClass) *storagev1.StorageClass {
	c.Provisioner = "elsewhere.example"
	return c
}

func asBlock(pvc *corev1.PersistentVolumeClaim) *corev1.PersistentVolumeClaim {
	block := corev1.PersistentVolumeBlock
	pvc.Spec.VolumeMode = &block
	return pvc
}

func bound(pvc *corev1.PersistentVolumeClaim) *corev1.PersistentVolumeClaim {
	pvc.Spec.VolumeName = "somewhere"
	return pvc
}
