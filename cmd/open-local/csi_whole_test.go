package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/open-local/open-local/pkg/exclusive"
	"github.com/open-local/open-local/pkg/provision"
	"github.com/open-local/open-local/pkg/volume"
)

func TestWhatIsKnownOfADiskVolume(t *testing.T) {
	k := known{provision.NewStanding(), exclusive.NewBook(t.TempDir())}
	tags := append(volume.OwnerTags(volume.DefaultDriver, "", "shop", "data"), volume.LimitTags(volume.Limits{IOPS: 7})...)
	if err := k.book.Put(exclusive.Record{Volume: "v", Kind: volume.Device, ID: "wwn-1", State: exclusive.Ready, Tags: tags}); err != nil {
		t.Fatal(err)
	}
	if namespace, name, ok := k.Claim("v"); !ok || namespace != "shop" || name != "data" {
		t.Errorf("it is for %s/%s, %t", namespace, name, ok)
	}
	if diff := cmp.Diff(volume.Limits{IOPS: 7}, k.Limits("v").Of(volume.Limits{})); diff != "" {
		t.Errorf("limits (-want +got):\n%s", diff)
	}
	if _, _, ok := k.Claim("other"); ok {
		t.Error("a volume that nobody knows is for somebody")
	}
	if diff := cmp.Diff(volume.LimitChange{}, k.Limits("other")); diff != "" {
		t.Errorf("limits of a volume that nobody knows (-want +got):\n%s", diff)
	}
}
