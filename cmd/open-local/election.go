package main

import (
	"cmp"
	"context"
	"errors"
	"os"
	"time"

	"github.com/spf13/pflag"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// An election lets one of several processes work at a time.
type election struct {
	enabled   bool
	id        string // the name of the Lease
	namespace string // of the Lease
	lease     time.Duration
	renew     time.Duration
	retry     time.Duration
}

// addFlags defines the flags of the election of one of several what.
func (e *election) addFlags(flags *pflag.FlagSet, what string) {
	flags.BoolVar(&e.enabled, "leader-election", e.enabled, "let only one of several "+what+" work")
	flags.StringVar(&e.id, "leader-election-id", e.id, "name of the Lease that says who works")
	flags.StringVar(&e.namespace, "leader-election-namespace", cmp.Or(os.Getenv("POD_NAMESPACE"), metav1.NamespaceSystem), "namespace of the Lease")
	flags.DurationVar(&e.lease, "leader-election-lease-duration", e.lease, "how long another waits before it takes over")
	flags.DurationVar(&e.renew, "leader-election-renew-deadline", e.renew, "how long the leader tries to renew before it gives up")
	flags.DurationVar(&e.retry, "leader-election-retry-period", e.retry, "how long to wait between tries")
}

// A leadership tells whoever works how it stands.
type leadership interface {
	// Leads reports whether this process leads, beyond doubt: its lease was renewed
	// within the deadline, so nobody can have taken over.
	Leads() bool
}

// candidate is this process in an election.
type candidate struct {
	ctx     context.Context //nolint:containedctx // when it ends, so does the lead
	elector *leaderelection.LeaderElector
	doubt   time.Duration // between the renewal deadline and the end of the lease
}

// Leads implements leadership.
func (c *candidate) Leads() bool {
	return c.ctx.Err() == nil && c.elector.IsLeader() && c.elector.Check(-c.doubt) == nil
}

// run calls work when this process leads, under the name that others know the leader by,
// and tells who does in changed, which may be nil. The one that lost the lead ends, and
// starts afresh.
func (e *election) run(
	ctx context.Context, client kubernetes.Interface, name string, changed func(leader string), work func(context.Context, leadership) error,
) error {
	result := make(chan error, 1)
	me := &candidate{ctx: ctx, doubt: e.lease - e.renew}
	if changed == nil {
		changed = func(string) {}
	}
	var err error
	me.elector, err = leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: &resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Namespace: e.namespace, Name: e.id},
			Client:     client.CoordinationV1(),
			LockConfig: resourcelock.ResourceLockConfig{Identity: name},
		},
		LeaseDuration: e.lease, RenewDeadline: e.renew, RetryPeriod: e.retry,
		ReleaseOnCancel: true,
		Name:            e.id,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(ctx context.Context) { result <- work(ctx, me) },
			OnStoppedLeading: func() {},
			OnNewLeader:      changed,
		},
	})
	if err != nil {
		return err
	}
	me.elector.Run(ctx)
	select {
	case err = <-result:
	default: // it never led, or ends just now
	}
	if err == nil && ctx.Err() == nil {
		err = errors.New("another process leads now")
	}
	return err
}

// processName is a name that no other process has, nor this one when it starts again.
func processName() (string, error) {
	host, err := os.Hostname()
	return host + "_" + string(uuid.NewUUID()), err
}
