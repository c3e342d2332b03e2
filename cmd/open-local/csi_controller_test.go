package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"

	"github.com/open-local/open-local/pkg/driver"
	"github.com/open-local/open-local/pkg/volume"
)

func TestWhatIsLeftBehindIsAnEventOfThePersistentVolume(t *testing.T) {
	const sentence = "If the node returns, `open-local orphans list n9` shows it"
	for name, test := range map[string]struct {
		naming map[string]types.UID
		was    driver.Place
		want   []string
	}{
		"a logical volume": {
			map[string]types.UID{"pv": "uid"}, driver.Place{Node: "n9", Kind: volume.LVM, Group: "pool"},
			[]string{"Warning VolumeLeftOnNode node n9 left the cluster: volume vol counts as deleted, and its data remains on the disks of that node (logical volume pool/vol). " + sentence},
		},
		"a device": {
			map[string]types.UID{"pv": "uid"}, driver.Place{Node: "n9", Kind: volume.Device},
			[]string{"Warning VolumeLeftOnNode node n9 left the cluster: volume vol counts as deleted, and its data remains on the disks of that node (Device). " + sentence},
		},
		"nothing names it": {nil, driver.Place{Node: "n9"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			events := record.NewFakeRecorder(10)
			leftBehind(events, func(string) map[string]types.UID { return test.naming })(t.Context(), "vol", test.was)
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
