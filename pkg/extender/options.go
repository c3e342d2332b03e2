// Package extender is the scheduler's side of open-local: it tells kube-scheduler on
// which nodes the volumes of a pod fit together and how well, and tells the CSI
// controller in which volume group a claim was placed. It gathers what a pod asks and
// what happens to claims, volumes and nodes from the API server; what is free is
// arithmetic of ledger, and where things go is decided by allocator. It writes nothing
// to the API server and never touches a disk.
//
// One replica answers, the leader; others stand by and pass on what they are asked.
// Nothing is kept but in memory: after a restart or a change of the leader, reports,
// PersistentVolumes and pods say what is there, and the node selected on a claim says
// what was promised; those promises are made anew, pod by pod, before the first
// question is answered. Claims and VolumeSnapshotContents say what nodes may be at work on
// at that moment; room for that is kept before. What was only held is lost: a pod whose
// node is not yet on its claims is placed when that shows, and if the room has gone
// meanwhile the reservation is refused and the pod is scheduled again.
//
// A node whose last report is old is still answered for: what is free on it changes
// only by what is promised here, and the node refuses what does not fit. A node without
// any report is refused, and so is a group whose agent reports a fault.
package extender

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/clock"

	"github.com/open-local/open-local/pkg/allocator"
	"github.com/open-local/open-local/pkg/volume"
)

// Options configures a Scheduler.
type Options struct {
	Driver         string               // name of the CSI driver
	VolumePrefix   string               // --volume-name-prefix of csi-provisioner
	SnapshotPrefix string               // --snapshot-name-prefix of csi-snapshotter
	Prefer         allocator.Preference // which of several groups or nodes is better
	// AntiAffinity scores nodes for what pods do not ask for.
	AntiAffinity AntiAffinity
	// HoldTimeout is how long room is kept for a pod between the filter's answer and
	// the first sign of the scheduler's choice, and how long for a volume whose claim
	// is gone while it may be in the making.
	HoldTimeout time.Duration
	// HoldWait is how long the filter waits for others to choose when only what they
	// hold is in the way. It must stay below the scheduler's httpTimeout for the
	// extender, which is 5 s unless configured.
	HoldWait time.Duration
	// Caller is the common name of the certificate that may reserve.
	Caller string
	// ReserveTLS serves reservations, and must verify client certificates. Without
	// it there are none.
	ReserveTLS *tls.Config
	// VerbsTLS serves the scheduler's own questions, which are then not answered without
	// it. VerbsCaller is the common name of the certificate that may ask; where it is empty
	// anyone may, and else VerbsTLS must verify client certificates.
	VerbsTLS    *tls.Config
	VerbsCaller string
	Version     string // what /version answers
	// Replica is nil where there is no other extender.
	Replica Replica
	// Snapshots reads VolumeSnapshotContents and their classes, which may be absent. Claims made of
	// snapshots are refused where it is nil.
	Snapshots dynamic.Interface
	// Events are told on pods that wait why no node has room. None when nil.
	Events record.EventRecorder
	// Wake has the scheduler try pods again that an extender has refused: a change of
	// any object that it watches does. Nobody is woken when nil.
	Wake  func(context.Context) error
	Clock clock.Clock // the real one when nil
}

// The defaults of Options.
const (
	DefaultHoldTimeout = 30 * time.Second
	DefaultHoldWait    = 2 * time.Second
	DefaultCaller      = "open-local-csi-controller"
)

// lagWait is how long a verb waits for its caches to show what the scheduler has seen
// already: a pod and its claims are often created and scheduled within milliseconds.
const lagWait = time.Second

// promiseFactor times HoldTimeout is how long a promise lasts whose claim does not show
// the node, when it was made together with another's that did.
const promiseFactor = 10

// Validate reports every mistake at once.
func (o Options) Validate() error {
	var errs []error
	if o.Driver == "" {
		errs = append(errs, errors.New("the driver's name is empty"))
	}
	if o.VolumePrefix == "" {
		errs = append(errs, errors.New("the volume name prefix is empty"))
	}
	if o.SnapshotPrefix == "" {
		errs = append(errs, errors.New("the snapshot name prefix is empty"))
	}
	if _, err := allocator.PreferenceNamed(string(o.Prefer)); err != nil {
		errs = append(errs, err)
	}
	if o.HoldTimeout <= 0 {
		errs = append(errs, fmt.Errorf("the hold timeout is %s, it must be above zero", o.HoldTimeout))
	}
	if o.HoldWait < 0 || o.HoldWait >= o.HoldTimeout {
		errs = append(errs, fmt.Errorf("the hold wait is %s, it must be from zero to below the hold timeout of %s", o.HoldWait, o.HoldTimeout))
	}
	if o.ReserveTLS != nil && o.Caller == "" {
		errs = append(errs, errors.New("the name of the caller that may reserve is empty"))
	}
	return errors.Join(errs...)
}

// volumeOf returns the name by which the volume of the claim with that UID is counted.
func (o *Options) volumeOf(uid string) string {
	return volume.NameOf(volume.ForClaim(o.VolumePrefix, uid))
}
