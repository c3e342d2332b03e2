package main

import (
	"context"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes/fake"
)

func TestOneLeadsUntilItIsToldToStop(t *testing.T) {
	client := fake.NewClientset()
	type lead struct {
		name string
		leadership
	}
	leads, ended := make(chan lead), make(chan error)
	stand := func(name string) (stop func()) {
		e := election{id: "it", namespace: "default", lease: 3 * time.Second, renew: 2 * time.Second, retry: 50 * time.Millisecond}
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			ended <- e.run(ctx, client, name, nil, func(ctx context.Context, mine leadership) error {
				leads <- lead{name, mine}
				<-ctx.Done()
				return nil
			})
		}()
		return cancel
	}
	stop := stand("first")
	first := <-leads
	if first.name != "first" || !first.Leads() {
		t.Fatalf("%s leads, and says that it does: %t", first.name, first.Leads())
	}
	stopSecond := stand("second")
	stop()
	if first.Leads() {
		t.Error("it was told to stop and leads")
	}
	if err := <-ended; err != nil {
		t.Errorf("it ended with %v", err)
	}
	second := <-leads
	if second.name != "second" || !second.Leads() {
		t.Errorf("%s leads, and says that it does: %t", second.name, second.Leads())
	}
	stopSecond()
	if err := <-ended; err != nil {
		t.Errorf("the second ended with %v", err)
	}
}

func TestTheLeadersAddressIsInItsName(t *testing.T) {
	for name, want := range map[string]string{
		"":                              "",
		"extender-abc_1-2-3_10.0.0.1":   "10.0.0.1",
		"extender-abc_1-2-3_fd00::1":    "fd00::1",
		"a_name_with_lines_192.168.1.2": "192.168.1.2",
	} {
		r := &replica{}
		if r.Leads() || r.Leader() != "" {
			t.Error("it leads before it was elected")
		}
		r.changed(name)
		if got := r.Leader(); got != want {
			t.Errorf("%q: the address is %q, want %q", name, got, want)
		}
	}
}

func TestAnExtenderThatStandsMustBeReachable(t *testing.T) {
	o := schedulerOptions{address: "not-an-address"}
	if _, err := o.stand(fake.NewClientset()); err == nil || err.Error() != `--pod-ip "not-an-address" is not an address, and the other extenders must reach this one when it leads` {
		t.Errorf("got %v", err)
	}
}
