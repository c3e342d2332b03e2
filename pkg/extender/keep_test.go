package extender

import (
	"testing"
	"time"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corefake "k8s.io/client-go/kubernetes/fake"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
	"github.com/open-local/open-local/pkg/capacity"
	storagefake "github.com/open-local/open-local/pkg/client/clientset/versioned/fake"
	"github.com/open-local/open-local/pkg/volume"
)

func TestWhatIsReadOfAPodIsKept(t *testing.T) {
	o := withTemplate(withInline(pod("p", "a"), "s", "vgName", "pool"), "scratch")
	o.Spec.Volumes = append(o.Spec.Volumes,
		corev1.Volume{Name: "other", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
		corev1.Volume{Name: "foreign", VolumeSource: corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{Driver: "elsewhere.example"}}})
	o.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable, Message: "full"}}
	o.Status.Phase, o.ResourceVersion = corev1.PodFailed, "7"
	p := podOf(volume.DefaultDriver, o)
	if p.Key() != "default/p" || p.uid != "uid-p" || p.said != "full" || !p.ended || p.node != "" || !p.concerns() {
		t.Errorf("kept is %+v", p)
	}
	want := []podVolume{{claim: "default/a"}, {inline: &inline{name: "s", attributes: map[string]string{"vgName": "pool"}}}, {claim: "default/p-scratch", ephemeral: true}}
	if diff := cmp.Diff(want, p.volumes, cmp.AllowUnexported(podVolume{}, inline{})); diff != "" {
		t.Errorf("volumes (-want +got):\n%s", diff)
	}
	wantReference := &corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: "default", Name: "p", UID: "uid-p", ResourceVersion: "7"}
	if diff := cmp.Diff(wantReference, p.reference()); diff != "" {
		t.Errorf("reference (-want +got):\n%s", diff)
	}
	if p := podOf(volume.DefaultDriver, pod("plain")); p.concerns() {
		t.Errorf("a pod without volumes concerns us: %+v", p)
	}
}

func TestWhatIsReadOfAClaimIsKept(t *testing.T) {
	o := selected(claim("a", 3*gib, "lvm"), "n1")
	o.CreationTimestamp = metav1.NewTime(time.Unix(42, 0))
	c := claimOf(o)
	if c.Key() != "default/a" || c.uid() != "uid-a" || c.class() != "lvm" || c.selected() != "n1" || c.asked != 3*gib || c.wish() != 3*gib || c.created != 42 || c.rest != nil {
		t.Errorf("kept is %+v", c)
	}
	metav1.SetMetaDataAnnotation(&o.ObjectMeta, corev1.BetaStorageClassAnnotation, "older")
	o.Status.AllocatedResources = corev1.ResourceList{corev1.ResourceStorage: *resource.NewQuantity(int64(5*gib), resource.BinarySI)}
	o.OwnerReferences = []metav1.OwnerReference{{UID: "uid-other"}, {UID: "uid-p", Controller: ptr.To(true)}}
	o.Spec.DataSource = &corev1.TypedLocalObjectReference{Kind: "PersistentVolumeClaim", Name: "b"}
	c = claimOf(o)
	if c.class() != "older" || c.asked != 3*gib || c.wish() != 5*gib || c.more().owner != "uid-p" || c.more().source.Name != "b" {
		t.Errorf("kept is %+v and %+v", c, c.more())
	}
}

func TestWhatIsReadOfAVolumeIsKept(t *testing.T) {
	lvm, disk, shows, foreign, other := pv("a", "n1", "pool", gib), pv("b", "n1", "", gib), pv("c", "n1", "pool", gib), pv("d", "n1", "pool", gib), pv("e", "n1", "pool", gib)
	disk.Spec.CSI.VolumeAttributes = map[string]string{"volumeType": "Device", "Device": "/dev/vdb"}
	shows.Spec.CSI.VolumeAttributes[shownSnapshot] = "snap-1"
	foreign.Spec.CSI.Driver = "elsewhere.example"
	other.Spec.CSI.VolumeHandle = "handle"
	spot := func(group string) capacity.Spot { return capacity.Spot{Group: group, Size: gib} }
	for name, test := range map[string]struct {
		volume *corev1.PersistentVolume
		want   placed
		ours   bool
	}{
		"in a volume group":         {lvm, placed{name: "local-uid-a", node: "n1", kind: volume.LVM, spot: spot("pool")}, true},
		"a whole disk":              {disk, placed{name: "local-uid-b", node: "n1", kind: volume.Device, path: "/dev/vdb", spot: spot("/dev/vdb")}, true},
		"what shows a snapshot":     {shows, placed{name: "local-uid-c", node: "n1", kind: volume.LVM, spot: spot("pool"), shows: true}, true},
		"another driver's":          {foreign, placed{}, false},
		"a handle that is no name":  {other, placed{name: "handle", node: "n1", kind: volume.LVM, spot: spot("pool")}, true},
		"a volume of no driver":     {&corev1.PersistentVolume{}, placed{}, false},
		"a volume that is nowhere":  {func() *corev1.PersistentVolume { v := pv("a", "n1", "pool", gib); v.Spec.NodeAffinity = nil; return v }(), placed{name: "local-uid-a", kind: volume.LVM, spot: spot("pool")}, false},
		"a volume without a claim":  {func() *corev1.PersistentVolume { v := pv("a", "n1", "pool", gib); v.Spec.ClaimRef = nil; return v }(), placed{name: "local-uid-a", node: "n1", kind: volume.LVM, spot: spot("pool")}, true},
		"a volume without capacity": {func() *corev1.PersistentVolume { v := pv("a", "n1", "pool", 0); v.Spec.Capacity = nil; return v }(), placed{name: "local-uid-a", node: "n1", kind: volume.LVM, spot: capacity.Spot{Group: "pool"}}, true},
	} {
		t.Run(name, func(t *testing.T) {
			v := volumeOf(volume.DefaultDriver, test.volume)
			got, ours := v.placed()
			if diff := cmp.Diff(test.want, got, cmp.AllowUnexported(placed{})); diff != "" || ours != test.ours {
				t.Errorf("ours: %v; placed (-want +got):\n%s", ours, diff)
			}
		})
	}
	if v := volumeOf(volume.DefaultDriver, lvm); v.claim != "default/a" || v.claimUID() != "uid-a" {
		t.Errorf("of its claim is kept %+v", v)
	}
}

func TestNamesInSeveralRecordsAreKeptOnce(t *testing.T) {
	c, err := newCaches(volume.DefaultDriver, corefake.NewClientset(), storagefake.NewSimpleClientset(), clock.RealClock{})
	if err != nil {
		t.Fatal(err)
	}
	const uid = "12345678-1234-4234-8234-123456789012"
	bound, made := claim("a", gib, "lvm"), pv("a", "n1", "pool", gib)
	bound.UID, bound.Spec.VolumeName = uid, "local-"+uid
	made.Name, made.Spec.CSI.VolumeHandle, made.Spec.ClaimRef.UID = "local-"+uid, "local-"+uid, uid
	v := volumeOf(volume.DefaultDriver, made)
	c.volumes.Put(v)
	c.claims.Put(c.keepClaim(bound))
	kept, _ := c.claims.Get("default/a")
	p, r := c.keepPod(pod("p", "a")), c.keepReport(nls("n1", vg("pool", 100*gib, v1alpha1.LogicalVolume{Name: "local-" + uid, VolumeID: "local-" + uid, Total: int64(gib)})))
	for name, same := range map[string][2]string{
		"the volume's in the claim":  {kept.volume, v.Key()},
		"the volume's in a report":   {r.says.Groups[0].Volumes[0].Name, v.Key()},
		"the claim's in the volume":  {kept.Key(), v.claim},
		"the claim's in a pod":       {p.volumes[0].claim, kept.Key()},
		"the claim's UID in its own": {kept.uid(), v.Key()[len("local-"):]},
		"the claim's UID in the PV":  {v.claimUID(), v.Key()[len("local-"):]},
	} {
		if same[0] != same[1] || unsafe.StringData(same[0]) != unsafe.StringData(same[1]) {
			t.Errorf("%s: %q and %q are not the same", name, same[0], same[1])
		}
	}
}
