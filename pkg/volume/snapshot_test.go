package volume_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/volume"
)

func TestParseSnapshotParameters(t *testing.T) {
	for name, test := range map[string]struct {
		params map[string]string
		want   volume.SnapshotPolicy
		bad    string // what the error says
	}{
		"a class that says nothing has the defaults": {
			want: volume.SnapshotPolicy{Space: 4 * capacity.GiB, Step: capacity.GiB, Threshold: 50},
		},
		"everything can be said": {
			params: map[string]string{
				"csi.aliyun.com/readonly": "true", "csi.aliyun.com/snapshot-initial-size": "64Mi",
				"csi.aliyun.com/snapshot-expansion-size": "1G", "csi.aliyun.com/snapshot-expansion-threshold": "70%",
			},
			want: volume.SnapshotPolicy{ReadOnly: true, Space: 64 * capacity.MiB, Step: 1e9, Threshold: 70},
		},
		"a share needs no sign":        {params: map[string]string{"csi.aliyun.com/snapshot-expansion-threshold": "70", "csi.aliyun.com/readonly": "false"}, want: volume.SnapshotPolicy{Space: 4 * capacity.GiB, Step: capacity.GiB, Threshold: 70}},
		"what csi-snapshotter adds":    {params: map[string]string{"csi.storage.k8s.io/volumesnapshot/name": "a"}, want: volume.DefaultSnapshotPolicy},
		"a key that is misspelt":       {params: map[string]string{"csi.aliyun.com/read-only": "true"}, bad: `"csi.aliyun.com/read-only": not known`},
		"neither true nor false":       {params: map[string]string{"csi.aliyun.com/readonly": "yes"}, bad: `"yes" is none of`},
		"an empty word":                {params: map[string]string{"csi.aliyun.com/readonly": ""}, bad: `"" is none of`},
		"no size":                      {params: map[string]string{"csi.aliyun.com/snapshot-initial-size": "0"}, bad: "above zero"},
		"half a byte":                  {params: map[string]string{"csi.aliyun.com/snapshot-initial-size": "500m"}, bad: "whole number"},
		"a size with a shell behind":   {params: map[string]string{"csi.aliyun.com/snapshot-expansion-size": "1Gi; reboot"}, bad: "is not a size"},
		"never":                        {params: map[string]string{"csi.aliyun.com/snapshot-expansion-threshold": "100%"}, bad: "from 1% to 99%"},
		"always":                       {params: map[string]string{"csi.aliyun.com/snapshot-expansion-threshold": "0"}, bad: "from 1% to 99%"},
		"not a number":                 {params: map[string]string{"csi.aliyun.com/snapshot-expansion-threshold": "half"}, bad: "from 1% to 99%"},
		"a parameter of another class": {params: map[string]string{"volumeType": "LVM"}, bad: `"volumeType": not known`},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := volume.ParseSnapshotParameters(test.params)
			if test.bad != "" {
				if !errors.Is(err, volume.ErrInvalid) || !strings.Contains(err.Error(), test.bad) {
					t.Errorf("got error %v, want one that says %q", err, test.bad)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("policy (-want +got):\n%s", diff)
			}
		})
	}
}

func TestSnapshotTags(t *testing.T) {
	for name, policy := range map[string]volume.SnapshotPolicy{
		"read-only": {ReadOnly: true, Step: 3, Threshold: 1},
		"copied":    {Step: capacity.GiB, Threshold: 99},
	} {
		t.Run(name, func(t *testing.T) {
			tags := append(policy.Tags(), volume.SourceSizeTag(7), volume.VolumeSnapshotTag("ns", "nightly"))
			want := policy
			want.Space = volume.DefaultSnapshotPolicy.Space // which is spent
			if diff := cmp.Diff(want, volume.SnapshotPolicyFromTags(tags)); diff != "" {
				t.Errorf("policy (-want +got):\n%s", diff)
			}
			if size, ok := volume.SourceSizeFromTags(tags); size != 7 || !ok {
				t.Errorf("size of the source: %d, %v", size, ok)
			}
			if namespace, snapshot, ok := volume.VolumeSnapshotFromTags(tags); namespace != "ns" || snapshot != "nightly" || !ok {
				t.Errorf("VolumeSnapshot %q/%q, %v", namespace, snapshot, ok)
			}
			for _, tag := range tags {
				if !volume.ValidTag(tag) {
					t.Errorf("LVM refuses the tag %q", tag)
				}
			}
		})
	}
	bad := []string{"open-local.grow=-1", "open-local.threshold=100", "open-local.readonly=yes", "open-local.source-size=x", "open-local.volumesnapshot=a"}
	if diff := cmp.Diff(volume.DefaultSnapshotPolicy, volume.SnapshotPolicyFromTags(bad)); diff != "" {
		t.Errorf("policy of tags that make no sense (-want +got):\n%s", diff)
	}
	if _, ok := volume.SourceSizeFromTags(bad); ok {
		t.Error("a size was read of what is none")
	}
	if _, _, ok := volume.VolumeSnapshotFromTags(bad); ok {
		t.Error("a VolumeSnapshot was read of what is none")
	}
}

func TestWhatCounts(t *testing.T) {
	const legacy = "local-0f6d4a43-2f39-4a0c-8f5f-6c6d1a1f0c11"
	for name, test := range map[string]struct {
		name string
		tags []string
		want bool
	}{
		"a volume":                             {"a", []string{volume.IDTag("a")}, true},
		"a snapshot":                           {"a", []string{volume.SnapshotTag("a"), volume.SourceTag("b")}, true},
		"what a clone is copied from":          {"a", []string{volume.SourceTag("b")}, true},
		"one of the first open-local":          {legacy, []string{"theirs"}, true},
		"one of nobody":                        {"root", nil, false},
		"a mark of ours that says nothing":     {legacy, []string{volume.DeletedTag}, false},
		"one whose tags contradict each other": {legacy, []string{volume.IDTag("a"), volume.IDTag("b")}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := volume.Counted(test.name, test.tags); got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

func TestASnapshotBeginsWithNoMoreThanItCanNeed(t *testing.T) {
	const mib, gib = capacity.MiB, capacity.GiB
	for name, test := range map[string]struct{ got, want capacity.Bytes }{
		"of a large volume":              {volume.DefaultSnapshotPolicy.SpaceFor(capacity.TiB), 4 * gib},
		"of a small one":                 {volume.DefaultSnapshotPolicy.SpaceFor(gib), capacity.SnapshotSpace(gib)},
		"of one whose size nobody knows": {volume.DefaultSnapshotPolicy.SpaceFor(0), 4 * gib},
		"for the copy of a large volume": {volume.CloneSpace(capacity.TiB), gib},
		"for the copy of a small one":    {volume.CloneSpace(8 * mib), capacity.SnapshotSpace(8 * mib)},
	} {
		if test.got != test.want {
			t.Errorf("%s: %s, want %s", name, test.got, test.want)
		}
	}
}
