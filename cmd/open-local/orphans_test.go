package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	kubefake "k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
	"github.com/open-local/open-local/pkg/client/clientset/versioned/fake"
	"github.com/open-local/open-local/pkg/directory"
	"github.com/open-local/open-local/pkg/volume"
)

const (
	claimUID = "5b1b7e2c-0000-4000-8000-000000000001"
	orphanID = "local-" + claimUID
)

// anOrphan is one that LVM has, with all that is known of it.
func anOrphan() v1alpha1.Orphan {
	made := metav1.NewTime(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	return v1alpha1.Orphan{
		VolumeID: orphanID, VolumeType: "LVM", VGName: "pool", Total: 4 * gib, FsType: "xfs", CreatedAt: &made, Claim: "default/data", Cluster: "cluster-1",
		Reason: v1alpha1.NoPersistentVolume, Message: "no PersistentVolume has named it since 2026-03-04 05:06 UTC",
	}
}

func reportOf(node string, all ...v1alpha1.Orphan) *v1alpha1.NodeLocalStorage {
	nls := &v1alpha1.NodeLocalStorage{ObjectMeta: metav1.ObjectMeta{Name: node}}
	nls.Status.Orphans = all
	return nls
}

// system is the namespace whose UID is the identity of the cluster.
func system(uid types.UID) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: metav1.NamespaceSystem, UID: uid}}
}

func orphanCommands(objects ...runtime.Object) *orphansOptions {
	var core, ours, contents []runtime.Object
	for _, object := range objects {
		switch object.(type) {
		case *v1alpha1.NodeLocalStorage:
			ours = append(ours, object)
		case *unstructured.Unstructured:
			contents = append(contents, object)
		default:
			core = append(core, object)
		}
	}
	other := dynamicfake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), map[schema.GroupVersionResource]string{directory.ContentResource: "VolumeSnapshotContentList"}, contents...)
	return &orphansOptions{
		driver: volume.DefaultDriver, wait: time.Second, core: kubefake.NewClientset(core...), storage: fake.NewSimpleClientset(ours...),
		contents: other.Resource(directory.ContentResource),
	}
}

// content names a snapshot, as csi-snapshotter or as a person writes it.
func content(name string, path ...string) *unstructured.Unstructured {
	object := map[string]any{"apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshotContent", "metadata": map[string]any{"name": name}}
	if err := unstructured.SetNestedField(object, name, path...); err != nil {
		panic(err)
	}
	return &unstructured.Unstructured{Object: object}
}

func TestSnapshotsThatNobodyNamesAreListed(t *testing.T) {
	made := metav1.NewMicroTime(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	young := metav1.NowMicro()
	nls := reportOf("n1")
	nls.Status.NodeStorageInfo.VolumeGroups = []v1alpha1.VolumeGroup{{Name: "pool", LogicalVolumes: []v1alpha1.LogicalVolume{
		{Name: "data", VolumeID: "data", Total: gib},
		{Name: "snap-1", SnapshotID: "snap-1", SourceVolumeID: "data", Total: gib, CreatedAt: &made},
		{Name: "snap-2", SnapshotID: "snap-2", SourceVolumeID: "data", Total: gib, CreatedAt: &made},
		{Name: "snap-3", SnapshotID: "snap-3", SourceVolumeID: "data", Total: gib, CreatedAt: &made},
		{Name: "snap-4", SnapshotID: "snap-4", SourceVolumeID: "data", Total: gib, CreatedAt: &young},
		{Name: "clone", SourceVolumeID: "data", Total: gib},
	}}}
	var out strings.Builder
	o := orphanCommands(nls, content("snap-1", "status", "snapshotHandle"), content("snap-2", "spec", "source", "snapshotHandle"))
	if err := o.list(t.Context(), &out, "n1"); err != nil {
		t.Fatal(err)
	}
	want := `NODE   WHERE   VOLUME   SIZE   FILE SYSTEM   MADE               CLAIM   WHY
n1     pool    snap-3   1Gi    -             2026-01-02 03:04   -       no VolumeSnapshotContent names this snapshot of data
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("printed (-want +got):\n%s", diff)
	}
}

func TestOrphansAreListed(t *testing.T) {
	bare := v1alpha1.Orphan{VolumeID: "dev", VolumeType: "Device", Path: "/dev/sdb", Total: gib, Message: "no PersistentVolume has named it since yesterday"}
	for name, test := range map[string]struct {
		cluster types.UID
		node    string
		objects []runtime.Object
		want    string
	}{
		"none": {objects: []runtime.Object{reportOf("n1"), reportOf("n2")}, want: "no orphans\n"},
		"of all nodes": {
			cluster: "cluster-1", objects: []runtime.Object{reportOf("n1", anOrphan()), reportOf("n2", bare)},
			want: `NODE   WHERE      VOLUME                                       SIZE   FILE SYSTEM   MADE               CLAIM          WHY
n1     pool       local-5b1b7e2c-0000-4000-8000-000000000001   4Gi    xfs           2026-01-02 03:04   default/data   no PersistentVolume has named it since 2026-03-04 05:06 UTC
n2     /dev/sdb   dev                                          1Gi    -             -                  -              no PersistentVolume has named it since yesterday
`,
		},
		"of one node, of another cluster": {
			cluster: "cluster-2", node: "n1", objects: []runtime.Object{reportOf("n1", anOrphan()), reportOf("n2", bare)},
			want: `NODE   WHERE   VOLUME                                       SIZE   FILE SYSTEM   MADE               CLAIM          WHY
n1     pool    local-5b1b7e2c-0000-4000-8000-000000000001   4Gi    xfs           2026-01-02 03:04   default/data   made in another cluster; no PersistentVolume has named it since 2026-03-04 05:06 UTC
`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			if err := orphanCommands(append(test.objects, system(test.cluster))...).list(t.Context(), &out, test.node); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, out.String()); diff != "" {
				t.Errorf("printed (-want +got):\n%s", diff)
			}
		})
	}
}

func TestOrphansAreListedForPrograms(t *testing.T) {
	var out strings.Builder
	o := orphanCommands(reportOf("n1", anOrphan()))
	o.output = "json"
	if err := o.list(t.Context(), &out, ""); err != nil {
		t.Fatal(err)
	}
	var got []listedOrphan
	if err := json.Unmarshal([]byte(out.String()), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]listedOrphan{{Node: "n1", Orphan: anOrphan()}}, got); diff != "" {
		t.Errorf("printed (-want +got):\n%s", diff)
	}
}

// volumeNamed returns what the API server has of a PersistentVolume.
func (o *orphansOptions) volumeNamed(t *testing.T, name string) *corev1.PersistentVolume {
	t.Helper()
	pv, err := o.core.CoreV1().PersistentVolumes().Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	pv.TypeMeta, pv.ManagedFields = metav1.TypeMeta{}, nil // the fake's own
	return pv
}

// adoptedVolume is what becomes of anOrphan.
func adoptedVolume(change func(*corev1.PersistentVolume)) *corev1.PersistentVolume {
	pv := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: orphanID, Annotations: map[string]string{"pv.kubernetes.io/provisioned-by": volume.DefaultDriver}}}
	pv.Spec.Capacity = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("4Gi")}
	pv.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
	pv.Spec.PersistentVolumeReclaimPolicy = corev1.PersistentVolumeReclaimRetain
	pv.Spec.VolumeMode = new(corev1.PersistentVolumeFilesystem)
	pv.Spec.CSI = &corev1.CSIPersistentVolumeSource{
		Driver: volume.DefaultDriver, VolumeHandle: orphanID, FSType: "xfs", VolumeAttributes: map[string]string{"volumeType": "LVM", "vgName": "pool"},
	}
	pv.Spec.NodeAffinity = &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
		MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "kubernetes.io/hostname", Operator: corev1.NodeSelectorOpIn, Values: []string{"n1"}}},
	}}}}
	if change != nil {
		change(pv)
	}
	return pv
}

func TestAnOrphanIsAdopted(t *testing.T) {
	odd, blank, raw := anOrphan(), anOrphan(), anOrphan()
	odd.VolumeID, blank.FsType = "A volume", ""
	raw.VolumeType, raw.VGName, raw.Path, raw.FsType, raw.Block = "Device", "", "/dev/sdb", "", true
	raw.ID = "wwn-0x1"
	mount := raw
	mount.VolumeType, mount.Path, mount.Block, mount.ID = "MountPoint", "/mnt/a", false, ""
	for name, test := range map[string]struct {
		orphan v1alpha1.Orphan
		how    adoption
		want   *corev1.PersistentVolume
	}{
		"as the node found it": {anOrphan(), adoption{}, adoptedVolume(nil)},
		"for one claim, of a class": {anOrphan(), adoption{claim: "default/mine", class: "open-local-lvm"}, adoptedVolume(func(pv *corev1.PersistentVolume) {
			pv.Spec.StorageClassName = "open-local-lvm"
			pv.Spec.ClaimRef = &corev1.ObjectReference{APIVersion: "v1", Kind: "PersistentVolumeClaim", Namespace: "default", Name: "mine"}
		})},
		"as a block device": {blank, adoption{block: true}, adoptedVolume(func(pv *corev1.PersistentVolume) {
			pv.Spec.VolumeMode, pv.Spec.CSI.FSType = new(corev1.PersistentVolumeBlock), ""
		})},
		"with a file system that the node did not find": {blank, adoption{fsType: "ext3"}, adoptedVolume(func(pv *corev1.PersistentVolume) { pv.Spec.CSI.FSType = "ext3" })},
		"a device that was a block device": {raw, adoption{}, adoptedVolume(func(pv *corev1.PersistentVolume) {
			pv.Spec.VolumeMode, pv.Spec.CSI.FSType = new(corev1.PersistentVolumeBlock), ""
			pv.Spec.CSI.VolumeAttributes = map[string]string{"volumeType": "Device", "Device": "/dev/sdb", "csi.aliyun.com/identity": "wwn-0x1"}
		})},
		"a mount point": {mount, adoption{}, adoptedVolume(func(pv *corev1.PersistentVolume) {
			pv.Spec.CSI.FSType, pv.Spec.CSI.VolumeAttributes = "", map[string]string{"volumeType": "MountPoint", "MountPoint": "/mnt/a"}
		})},
		"with a handle that no object can be called": {odd, adoption{}, adoptedVolume(func(pv *corev1.PersistentVolume) {
			pv.Name, pv.Spec.CSI.VolumeHandle = "orphan-5414a52110ec574376d2347c89b74511", "A volume"
		})},
	} {
		t.Run(name, func(t *testing.T) {
			o := orphanCommands(reportOf("n1", test.orphan))
			o.adoption = test.how
			var out strings.Builder
			if err := o.adopt(t.Context(), &out, "n1", test.orphan.VolumeID); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, o.volumeNamed(t, test.want.Name)); diff != "" {
				t.Errorf("PersistentVolume (-want +got):\n%s", diff)
			}
			if !strings.Contains(out.String(), "made PersistentVolume "+test.want.Name) {
				t.Errorf("said %q", out.String())
			}
		})
	}
}

func TestWhatIsNotAnOrphanIsNeitherAdoptedNorRemoved(t *testing.T) {
	renamed := adoptedVolume(func(pv *corev1.PersistentVolume) { pv.Name = "renamed" })
	waiting := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "data", UID: claimUID}}
	for name, test := range map[string]struct {
		objects []runtime.Object
		how     adoption
		answer  string
		adopts  bool // else only removal is refused
		want    string
	}{
		"no report":                        {nil, adoption{}, "yes", true, `node "n1"`},
		"another volume":                   {[]runtime.Object{reportOf("n1")}, adoption{}, "yes", true, "is no orphan of node n1"},
		"a PersistentVolume names it now":  {[]runtime.Object{reportOf("n1", anOrphan()), renamed}, adoption{}, "yes", true, "PersistentVolume renamed"},
		"its claim waits for it":           {[]runtime.Object{reportOf("n1", anOrphan()), waiting}, adoption{}, "yes", true, "claim default/data waits"},
		"nobody says yes":                  {[]runtime.Object{reportOf("n1", anOrphan())}, adoption{}, "y\n", false, "nothing was removed"},
		"nobody says anything":             {[]runtime.Object{reportOf("n1", anOrphan())}, adoption{}, "", false, "nothing was removed"},
		"nothing is told of what is on it": {[]runtime.Object{reportOf("n1", func() v1alpha1.Orphan { o := anOrphan(); o.FsType = ""; return o }())}, adoption{}, "no", true, "say --block or --fs-type"},
		"two things are told":              {[]runtime.Object{reportOf("n1", anOrphan())}, adoption{block: true, fsType: "ext4"}, "no", true, "exclude each other"},
		"a claim without a namespace":      {[]runtime.Object{reportOf("n1", anOrphan())}, adoption{claim: "data"}, "no", true, "NAMESPACE/NAME"},
	} {
		t.Run(name, func(t *testing.T) {
			o := orphanCommands(test.objects...)
			o.adoption = test.how
			var out strings.Builder
			if test.adopts {
				if err := o.adopt(t.Context(), &out, "n1", orphanID); err == nil || !strings.Contains(err.Error(), test.want) {
					t.Errorf("adopting: got %v, want %q", err, test.want)
				}
			}
			if err := o.remove(t.Context(), strings.NewReader(test.answer), &out, "n1", orphanID); err == nil || test.answer == "yes" && !strings.Contains(err.Error(), test.want) {
				t.Errorf("removing: got %v, want %q", err, test.want)
			}
			volumes, err := o.core.CoreV1().PersistentVolumes().List(t.Context(), metav1.ListOptions{})
			if err != nil {
				t.Fatal(err)
			}
			for _, pv := range volumes.Items {
				if pv.Name != renamed.Name {
					t.Errorf("PersistentVolume %s was made", pv.Name)
				}
			}
		})
	}
}

func TestAnOrphanIsRemovedAsEveryVolumeIs(t *testing.T) {
	for name, test := range map[string]struct {
		claim     string
		namespace string
		named     string
		yes       bool
	}{
		"one whose claim is known, after a question": {"default/data", "default", "data", false},
		"one whose claim is not known, without":      {"", "default", orphanID, true},
	} {
		t.Run(name, func(t *testing.T) {
			orphan := anOrphan()
			orphan.Claim = test.claim
			// A claim of that name is there, and is another.
			o := orphanCommands(reportOf("n1", orphan), &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "data", UID: "new"}})
			o.yes = test.yes
			var made *corev1.PersistentVolume
			o.core.(*kubefake.Clientset).PrependReactor("create", "persistentvolumes", func(action clienttesting.Action) (bool, runtime.Object, error) {
				made = action.(clienttesting.CreateAction).GetObject().(*corev1.PersistentVolume)
				return true, made, nil // and it is deleted at once
			})
			var out strings.Builder
			if err := o.remove(t.Context(), strings.NewReader("yes\n"), &out, "n1", orphanID); err != nil {
				t.Fatal(err)
			}
			want := adoptedVolume(func(pv *corev1.PersistentVolume) {
				pv.Spec.CSI.FSType = ""
				pv.Spec.PersistentVolumeReclaimPolicy = corev1.PersistentVolumeReclaimDelete
				pv.Spec.ClaimRef = &corev1.ObjectReference{APIVersion: "v1", Kind: "PersistentVolumeClaim", Namespace: test.namespace, Name: test.named}
			})
			if diff := cmp.Diff(want, made, cmpopts.IgnoreFields(corev1.ObjectReference{}, "UID")); diff != "" {
				t.Errorf("PersistentVolume (-want +got):\n%s", diff)
			}
			if uid := made.Spec.ClaimRef.UID; len(uid) != len(claimUID) || uid == claimUID {
				t.Errorf("the claim has UID %q, want one that no claim has", uid)
			}
			if asked := strings.Contains(out.String(), "all data on it? Type yes:"); asked == test.yes {
				t.Errorf("said %q", out.String())
			}
			if !strings.HasSuffix(out.String(), "removed volume "+orphanID+" from node n1\n") {
				t.Errorf("said %q", out.String())
			}
		})
	}
}

func TestARemovalThatIsRefusedSaysWhyAndHowToGiveUp(t *testing.T) {
	o := orphanCommands(reportOf("n1", anOrphan()),
		&corev1.Event{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "a"}, Reason: "VolumeFailedDelete", Message: "it is in use", LastTimestamp: metav1.NewTime(time.Unix(2, 0))},
		&corev1.Event{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "b"}, Reason: "VolumeFailedDelete", Message: "earlier", LastTimestamp: metav1.NewTime(time.Unix(1, 0))},
	)
	o.yes, o.wait = true, 10*time.Millisecond
	var out strings.Builder
	err := o.remove(t.Context(), strings.NewReader(""), &out, "n1", orphanID)
	if err == nil {
		t.Fatal("it says that it removed what is still there")
	}
	for _, want := range []string{orphanID, "VolumeFailedDelete: it is in use", "kubectl patch pv " + orphanID} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not say %q", err, want)
		}
	}
}
