package v1alpha1_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"pgregory.net/rapid"
	"sigs.k8s.io/yaml"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
)

// usersConfig is a manifest as clusters have it.
const usersConfig = `
apiVersion: csi.aliyun.com/v1alpha1
kind: NodeLocalStorageInitConfig
metadata:
  name: open-local
spec:
  globalConfig:
    listConfig:
      vgs:
        include:
        - open-local-pool-[0-9]+
        - your-vg-name
    resourceToBeInited:
      vgs:
      - devices:
        - /dev/vdc
        name: open-local-pool-0
`

func TestTheUsersConfigIsReadAsItStands(t *testing.T) {
	var got v1alpha1.NodeLocalStorageInitConfig
	if err := yaml.UnmarshalStrict([]byte(usersConfig), &got); err != nil {
		t.Fatal(err)
	}
	want := v1alpha1.NodeLocalStorageInitConfig{
		TypeMeta:   metav1.TypeMeta{APIVersion: "csi.aliyun.com/v1alpha1", Kind: "NodeLocalStorageInitConfig"},
		ObjectMeta: metav1.ObjectMeta{Name: "open-local"},
		Spec: v1alpha1.NodeLocalStorageInitConfigSpec{GlobalConfig: v1alpha1.StorageSpec{
			ListConfig:         v1alpha1.ListConfig{VGs: v1alpha1.Selection{Include: []string{"open-local-pool-[0-9]+", "your-vg-name"}}},
			ResourceToBeInited: v1alpha1.ResourceToBeInited{VGs: []v1alpha1.VGToBeInited{{Name: "open-local-pool-0", Devices: []string{"/dev/vdc"}}}},
		}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("config (-want +got):\n%s", diff)
	}
}

// everyField is a NodeLocalStorage with every field of the contract, spelt as
// clients spell it.
const everyField = `
apiVersion: csi.aliyun.com/v1alpha1
kind: NodeLocalStorage
metadata:
  name: n1
  annotations:
    csi.aliyun.com/storage-reserved: '{"vgA":"100Gi","vgB":"10%"}'
spec:
  nodeName: n1
  spdkConfig: {deviceType: aio, rpcSocket: /var/tmp/spdk.sock}
  listConfig:
    vgs: {include: [a], exclude: [b]}
    mountPoints: {include: [/mnt/open-local/.*], exclude: [c]}
    devices: {include: [/dev/vd.*], exclude: [/dev/vda]}
  resourceToBeInited:
    vgs:
    - {name: a, devices: [/dev/vdc]}
    mountpoints:
    - {path: /mnt/open-local/d, device: /dev/vdd, fsType: ext4, options: [noatime]}
    wipe:
    - {id: wwn-0x1, contents: 3f2a}
status:
  nodeStorageInfo:
    deviceInfo:
    - {name: /dev/vdc, mediaType: ssd, total: 1, readOnly: true, condition: DiskReady, id: wwn-0x1, wwn: naa.1, serial: s, model: m, reason: HasSignature, message: carries ext4, volumeID: v, contents: 3f2a}
    volumeGroups:
    - name: a
      physicalVolumes: [/dev/vdc]
      physicalVolumesAvailable: [1]
      logicalVolumes:
      - name: v
        vgname: a
        total: 1
        readOnly: true
        condition: DiskFault
        volumeID: v
        deleted: true
        snapshotID: s
        sourceVolumeID: o
        sourceSize: 1
        createdAt: "2024-01-01T00:00:00.123456Z"
        restoreReadOnly: true
      total: 3
      available: 2
      allocatable: 1
      extentSize: 1
      missingPhysicalVolumes: [/dev/vdd]
      condition: DiskReady
    mountPoints:
    - {name: /mnt, total: 2, available: 1, fsType: ext4, isBind: true, options: [rw], device: /dev/vdd, readOnly: true, condition: DiskReady, id: fsuuid-1, reason: NotEmpty, message: is not empty, volumeID: v}
    phase: Running
    state:
      type: DiskReady
      status: "True"
      lastHeartbeatTime: "2024-01-01T00:00:00Z"
      lastTransitionTime: "2024-01-01T00:00:00Z"
      reason: r
      message: m
  filteredStorageInfo:
    volumeGroups: [a]
    mountPoints: [/mnt]
    devices: [/dev/vdc]
    updateStatusInfo: {lastUpdateTime: "2024-01-01T00:00:00Z", updateStatus: accepted, reason: r}
  conditions:
  - {type: SpecValid, status: "True", reason: Accepted, message: "", observedGeneration: 1, lastTransitionTime: "2024-01-01T00:00:00Z"}
  wiped:
  - {id: wwn-0x1, contents: 3f2a, device: /dev/vdc, time: "2024-01-01T00:00:00Z"}
  orphans:
  - {volumeID: v, volumeType: LVM, vgname: g, path: /dev/vdc, id: wwn-0x1, total: 1, fsType: ext4, block: true,
     createdAt: "2024-01-01T00:00:00Z", claim: ns/c, cluster: u, since: "2024-01-01T00:00:00Z", reason: NoPersistentVolume, message: m}
`

func TestEveryFieldOfTheContractIsSpeltAsClientsDo(t *testing.T) {
	var nls v1alpha1.NodeLocalStorage
	if err := yaml.UnmarshalStrict([]byte(everyField), &nls); err != nil {
		t.Fatal(err)
	}
	encoded, err := json.Marshal(nls)
	if err != nil {
		t.Fatal(err)
	}
	var got, want map[string]any
	if err := json.Unmarshal(encoded, &got); err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal([]byte(everyField), &want); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("written and read again (-want +got):\n%s", diff)
	}
	if unset := zeroFields(reflect.ValueOf(nls.Spec), "spec"); len(unset) > 0 {
		t.Errorf("fields that this test does not set: %v", unset)
	}
	if unset := zeroFields(reflect.ValueOf(nls.Status), "status"); len(unset) > 0 {
		t.Errorf("fields that this test does not set: %v", unset)
	}
}

// zeroFields names the fields of v, and of what is in it, that have no value.
func zeroFields(v reflect.Value, path string) []string {
	if v.Type() == reflect.TypeFor[metav1.Condition]() || v.Type() == reflect.TypeFor[*metav1.Time]() || v.Type() == reflect.TypeFor[metav1.Time]() ||
		v.Type() == reflect.TypeFor[*metav1.MicroTime]() {
		return nil
	}
	var zero []string
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			zero = append(zero, zeroFields(v.Field(i), path+"."+v.Type().Field(i).Name)...)
		}
	case reflect.Slice:
		if v.Len() == 0 {
			return []string{path}
		}
		zero = zeroFields(v.Index(0), path+"[0]")
	default:
		if v.IsZero() {
			zero = []string{path}
		}
	}
	return zero
}

func TestKindsAreKnownUnderTheirNames(t *testing.T) {
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	for kind, object := range map[string]runtime.Object{
		"NodeLocalStorage": &v1alpha1.NodeLocalStorage{}, "NodeLocalStorageList": &v1alpha1.NodeLocalStorageList{},
		"NodeLocalStorageInitConfig": &v1alpha1.NodeLocalStorageInitConfig{}, "NodeLocalStorageInitConfigList": &v1alpha1.NodeLocalStorageInitConfigList{},
	} {
		kinds, _, err := scheme.ObjectKinds(object)
		if err != nil || len(kinds) != 1 || kinds[0].String() != "csi.aliyun.com/v1alpha1, Kind="+kind {
			t.Errorf("%T is known as %v (%v)", object, kinds, err)
		}
	}
	if got := v1alpha1.Resource("nodelocalstorages").String(); got != "nodelocalstorages.csi.aliyun.com" {
		t.Errorf("resource %q", got)
	}
}

// TestDefinitionsSayTheNames reads the definitions that the chart installs.
func TestDefinitionsSayTheNames(t *testing.T) {
	for plural, want := range map[string]struct{ short, columns string }{
		"nodelocalstorages": {"nls", "State .status.nodeStorageInfo.state.type; Phase .status.nodeStorageInfo.phase; " +
			"AgentUpdateAt .status.nodeStorageInfo.state.lastHeartbeatTime; " +
			"SchedulerUpdateAt .status.filteredStorageInfo.updateStatusInfo.lastUpdateTime; " +
			"SchedulerUpdateStatus .status.filteredStorageInfo.updateStatusInfo.updateStatus"},
		"nodelocalstorageinitconfigs": {"nlsc", ""},
	} {
		content, err := os.ReadFile(filepath.Join("../../../helm/crds", "csi.aliyun.com_"+plural+".yaml"))
		if err != nil {
			t.Fatal(err)
		}
		var definition struct {
			Spec struct {
				Scope string
				Names struct {
					Plural     string
					ShortNames []string
				}
				Versions []struct {
					Name                     string
					AdditionalPrinterColumns []struct{ Name, JSONPath string }
				}
			}
		}
		if err := yaml.Unmarshal(content, &definition); err != nil {
			t.Fatal(err)
		}
		spec := definition.Spec
		if spec.Scope != "Cluster" || spec.Names.Plural != plural || strings.Join(spec.Names.ShortNames, ",") != want.short || len(spec.Versions) != 1 {
			t.Errorf("definition %+v", spec)
			continue
		}
		var columns []string
		for _, c := range spec.Versions[0].AdditionalPrinterColumns {
			columns = append(columns, c.Name+" "+c.JSONPath)
		}
		if diff := cmp.Diff(want.columns, strings.Join(columns, "; ")); diff != "" {
			t.Errorf("columns of %s (-want +got):\n%s", plural, diff)
		}
	}
}

// TestObjectsSurviveTheWire draws objects at random, writes and reads them.
func TestObjectsSurviveTheWire(t *testing.T) {
	word := rapid.StringMatching(`[a-z/]{1,8}`)
	words := rapid.SliceOfN(word, 1, 3)
	selection := rapid.Custom(func(t *rapid.T) v1alpha1.Selection {
		return v1alpha1.Selection{Include: words.Draw(t, "include"), Exclude: words.Draw(t, "exclude")}
	})
	rapid.Check(t, func(t *rapid.T) {
		now := metav1.NewTime(time.Unix(rapid.Int64Range(0, 1<<32).Draw(t, "time"), 0))
		size := rapid.Int64Range(0, 1<<62)
		want := v1alpha1.NodeLocalStorage{
			ObjectMeta: metav1.ObjectMeta{Name: word.Draw(t, "name")},
			Spec: v1alpha1.NodeLocalStorageSpec{NodeName: word.Draw(t, "node"), StorageSpec: v1alpha1.StorageSpec{
				ListConfig:         v1alpha1.ListConfig{VGs: selection.Draw(t, "vgs"), Devices: selection.Draw(t, "devices"), MountPoints: selection.Draw(t, "mounts")},
				ResourceToBeInited: v1alpha1.ResourceToBeInited{VGs: []v1alpha1.VGToBeInited{{Name: word.Draw(t, "vg"), Devices: words.Draw(t, "of")}}},
			}},
			Status: v1alpha1.NodeLocalStorageStatus{NodeStorageInfo: v1alpha1.NodeStorageInfo{
				VolumeGroups: []v1alpha1.VolumeGroup{{Name: word.Draw(t, "group"), Total: size.Draw(t, "total"), Allocatable: size.Draw(t, "allocatable")}},
				State:        v1alpha1.StorageState{Type: v1alpha1.StorageFull, LastHeartbeatTime: &now},
			}},
		}
		encoded, err := json.Marshal(want.DeepCopy())
		if err != nil {
			t.Fatal(err)
		}
		var got v1alpha1.NodeLocalStorage
		if err := json.Unmarshal(encoded, &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("read again (-want +got):\n%s", diff)
		}
	})
}
