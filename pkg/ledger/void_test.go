package ledger

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/volume"
)

// twoDisks is a report of a node that offers disks, all but those that are taken off it.
func twoDisks(trouble string, without ...string) Report {
	r := Report{}
	for _, name := range []string{"/dev/sdb", "/dev/sdc"} {
		g := Group{Name: name, Kind: capacity.Device, Managed: true, Allocatable: 10 * gib, Available: 10 * gib}
		for _, gone := range without {
			if gone == name {
				g.Managed, g.Trouble = trouble != "", trouble
			}
		}
		r.Groups = append(r.Groups, g)
	}
	return r
}

// promisedIn is a ledger in which v is promised the first disk of n1.
func promisedIn(t *testing.T) (*Ledger, []volume.Claim) {
	t.Helper()
	l := New()
	l.Report("n1", twoDisks(""))
	claims := []volume.Claim{{Volume: "v", Size: 8 * gib, Kind: capacity.Device}}
	if !l.Promise("", claims, offer(l, "n1", "/dev/sdb"), start.Add(time.Minute)) {
		t.Fatal("there is no room")
	}
	return l, claims
}

func TestAPromiseIsVoidWhereNothingMayBePut(t *testing.T) {
	for name, test := range map[string]struct {
		then func(l *Ledger)
		void bool
	}{
		"the disk is offered":              {then: func(l *Ledger) { l.Report("n1", twoDisks("")) }},
		"the disk is not offered any more": {then: func(l *Ledger) { l.Report("n1", twoDisks("", "/dev/sdb")) }, void: true},
		"the disk is in trouble":           {then: func(l *Ledger) { l.Report("n1", twoDisks("Failing", "/dev/sdb")) }, void: true},
		"another disk is in trouble":       {then: func(l *Ledger) { l.Report("n1", twoDisks("Failing", "/dev/sdc")) }},
		"nobody reports on the node":       {then: func(l *Ledger) { l.Leave("n1") }},
		"the volume is made, and so is trouble": {void: false, then: func(l *Ledger) {
			r := twoDisks("Failing", "/dev/sdb")
			r.Groups[0].Volumes = []Volume{{Name: "v", Size: 10 * gib, Ours: true}}
			l.Report("n1", r)
		}},
		"the volume exists": {then: func(l *Ledger) {
			l.Exists("v", "n1", capacity.Spot{Group: "/dev/sdb", Size: 10 * gib})
			l.Report("n1", twoDisks("", "/dev/sdb"))
		}},
		"the trouble is over": {then: func(l *Ledger) {
			l.Report("n1", twoDisks("Failing", "/dev/sdb"))
			l.Report("n1", twoDisks(""))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			l, _ := promisedIn(t)
			test.then(l)
			place, counted := l.Where("v")
			if !counted || place.Void != test.void || place.Group != "/dev/sdb" {
				t.Errorf("got %+v, counted %t", place, counted)
			}
			if confirmed := l.Confirm("v", "n1"); confirmed == test.void && !place.Exists {
				t.Errorf("confirmed: %t", confirmed)
			}
		})
	}
}

// TestAVoidPromiseGoesOnToCountUntilItIsMoved has a disk fail that is promised, and then
// serve again.
func TestAVoidPromiseGoesOnToCountUntilItIsMoved(t *testing.T) {
	l, claims := promisedIn(t)
	l.Report("n1", twoDisks("", "/dev/sdb"))
	if refused := l.Hold("p", claims, []Offer{offer(l, "n1", "/dev/sdc")}, start.Add(time.Minute)); len(refused) > 0 {
		t.Fatal("the other disk is refused")
	}
	l.Report("n1", twoDisks(""))
	wantDisks(t, l, map[string]capacity.Bytes{"/dev/sdb": 0, "/dev/sdc": 10 * gib}) // the promise is good again
	l.Report("n1", twoDisks("", "/dev/sdb"))
	wantDisks(t, l, map[string]capacity.Bytes{"/dev/sdc": 0})
	if !l.ChooseForPod("p", "n1", start.Add(time.Minute)) {
		t.Fatal("nothing was held")
	}
	if place, _ := l.Where("v"); place.Group != "/dev/sdc" {
		t.Errorf("it is promised %s", place.Group)
	}
	l.Report("n1", twoDisks(""))
	wantDisks(t, l, map[string]capacity.Bytes{"/dev/sdb": 10 * gib, "/dev/sdc": 0})
}

// TestWhereANodeMayBeAtWorkRoomIsKept moves a promise off a disk of which its node was told.
func TestWhereANodeMayBeAtWorkRoomIsKept(t *testing.T) {
	l, claims := promisedIn(t)
	l.Making("v", "n1", "first")
	l.Report("n1", twoDisks("", "/dev/sdb"))
	if !l.Promise("", claims, offer(l, "n1", "/dev/sdc"), start.Add(time.Minute)) {
		t.Fatal("there is no room")
	}
	l.Report("n1", twoDisks(""))
	wantDisks(t, l, map[string]capacity.Bytes{"/dev/sdb": 0, "/dev/sdc": 0})
	l.Confirm("v", "n1")
	l.Expire(start.Add(time.Minute))
	wantDisks(t, l, map[string]capacity.Bytes{"/dev/sdb": 10 * gib, "/dev/sdc": 0})
}

func TestWhatANodeRefusedIsForgottenIfNobodyAskedAgain(t *testing.T) {
	for name, test := range map[string]struct {
		before        func(l *Ledger)
		node, attempt string
		forgotten     bool
	}{
		"it was the last attempt":           {node: "n1", attempt: "first", forgotten: true},
		"it was asked for again":            {node: "n1", attempt: "first", before: func(l *Ledger) { l.Making("v", "n1", "second") }},
		"it was asked for on another node":  {node: "n1", attempt: "first", before: func(l *Ledger) { l.Making("v", "n2", "first") }},
		"another node refused":              {node: "n2", attempt: "first"},
		"nobody knows of an attempt":        {node: "n1", attempt: "first", before: func(l *Ledger) { l.Made("v") }},
		"its claim has shown no node since": {node: "n1", attempt: "first", forgotten: true, before: func(l *Ledger) { l.OldNews("v", "", start) }},
	} {
		t.Run(name, func(t *testing.T) {
			l, _ := promisedIn(t)
			l.Making("v", "n1", "first")
			if test.before != nil {
				test.before(l)
			}
			if forgotten := l.Refused("v", test.node, test.attempt); forgotten != test.forgotten {
				t.Errorf("forgotten: %t", forgotten)
			}
			if _, counted := l.Where("v"); counted == test.forgotten {
				t.Errorf("counted: %t", counted)
			}
			if again := l.Refused("v", test.node, test.attempt); again {
				t.Error("it was forgotten twice")
			}
		})
	}
}

// TestARefusalEndsNoMoreThanThePromise refuses a volume that stands all the same.
func TestARefusalEndsNoMoreThanThePromise(t *testing.T) {
	l, _ := promisedIn(t)
	l.Making("v", "n1", "first")
	l.Exists("v", "n1", capacity.Spot{Group: "/dev/sdb", Size: 10 * gib})
	l.Refused("v", "n1", "first")
	wantDisks(t, l, map[string]capacity.Bytes{"/dev/sdb": 0, "/dev/sdc": 10 * gib})
}

// wantDisks compares what n1 has free.
func wantDisks(t *testing.T, l *Ledger, want map[string]capacity.Bytes) {
	t.Helper()
	if diff := cmp.Diff(want, freeOf(look(l, "", "n1"))); diff != "" {
		t.Errorf("free (-want +got):\n%s", diff)
	}
}

// TestAPartitionIsNotTakenForADisk has two nodes that differ in nothing else.
func TestAPartitionIsNotTakenForADisk(t *testing.T) {
	l, disk, part := New(), twoDisks(""), twoDisks("")
	for i := range part.Groups {
		part.Groups[i].Partition = true
	}
	l.Report("n1", disk)
	l.Report("n2", part)
	for node, want := range map[string]bool{"n1": false, "n2": true} {
		if got := look(l, "", node).Groups[0].Partition; got != want {
			t.Errorf("%s has a partition: %t", node, got)
		}
	}
}
