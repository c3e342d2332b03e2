package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/record"

	"github.com/open-local/open-local/pkg/driver"
	"github.com/open-local/open-local/pkg/volume"
)

func TestWhatIsLeftBehindIsAnEventOfThePersistentVolume(t *testing.T) {
	const sentence = "If the node returns, `open-local orphans list n9` shows it"
	for name, test := range map[string]struct {
		naming []string
		was    driver.Place
		want   []string
	}{
		"a logical volume": {
			[]string{"pv"}, driver.Place{Node: "n9", Kind: volume.LVM, Group: "pool"},
			[]string{"Warning VolumeLeftOnNode node n9 left the cluster: volume vol counts as deleted, and its data remains on the disks of that node (logical volume pool/vol). " + sentence},
		},
		"a device": {
			[]string{"pv"}, driver.Place{Node: "n9", Kind: volume.Device},
			[]string{"Warning VolumeLeftOnNode node n9 left the cluster: volume vol counts as deleted, and its data remains on the disks of that node (Device). " + sentence},
		},
		"nothing names it": {nil, driver.Place{Node: "n9"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			events := record.NewFakeRecorder(10)
			pv := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "pv", UID: "uid"}}
			leftBehind(fake.NewClientset(pv), events, func(string) []string { return test.naming })(t.Context(), "vol", test.was)
			var got []string
			for len(events.Events) > 0 {
				got = append(got, <-events.Events)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAnEventIsOfThePersistentVolumeItself(t *testing.T) {
	core := fake.NewClientset(&corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "pv", UID: "uid"}})
	for name, want := range map[string]*corev1.ObjectReference{
		"pv":   {APIVersion: "v1", Kind: "PersistentVolume", Name: "pv", UID: "uid"},
		"gone": {APIVersion: "v1", Kind: "PersistentVolume", Name: "gone"},
	} {
		if diff := cmp.Diff(want, persistentVolume(t.Context(), core, name)); diff != "" {
			t.Errorf("about %s (-want +got):\n%s", name, diff)
		}
	}
}
