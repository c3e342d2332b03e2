package extender

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	extenderv1 "k8s.io/kube-scheduler/extender/v1"

	"github.com/open-local/open-local/pkg/extender/reserve"
	"github.com/open-local/open-local/pkg/metrics"
)

// standing is how a replica of a test stands.
type standing struct {
	leads  atomic.Bool
	leader atomic.Pointer[string]
}

func (s *standing) Leads() bool { return s.leads.Load() }

func (s *standing) Leader() string {
	if leader := s.leader.Load(); leader != nil {
		return *leader
	}
	return ""
}

// A pair is two extenders of one cluster, at the same ports of two addresses.
type pair struct {
	*world
	all    map[string]*Scheduler // by address
	stand  map[string]*standing
	stop   map[string]func()
	ports  [2]string // of the scheduler, of reservations
	client *http.Client
	ca     *authority
}

const first, second = "127.0.0.1", "127.0.0.2"

func newPair(t *testing.T, objects ...kruntime.Object) *pair {
	w := twoNodes(t, append(objects, claim("a", 30*gib, "lvm"), pod("p", "a"))...)
	ca := newAuthority(t)
	p := &pair{
		world: w, all: map[string]*Scheduler{}, stand: map[string]*standing{first: {}, second: {}}, stop: map[string]func(){},
		client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}, ca: ca,
	}
	for _, address := range []string{first, second} {
		o := options(w)
		o.ReserveTLS, o.Replica = ca.config(t, "extender"), p.stand[address]
		s, err := New(o, w.core, w.storage)
		if err != nil {
			t.Fatal(err)
		}
		p.all[address] = s
		var at [2]net.Listener
		for i := range at {
			port := p.ports[i]
			if port == "" {
				port = "0"
			}
			if at[i], err = net.Listen("tcp", net.JoinHostPort(address, port)); err != nil {
				t.Fatal(err)
			}
			_, p.ports[i], _ = net.SplitHostPort(at[i].Addr().String())
		}
		ctx, stop := context.WithCancel(w.ctx())
		stopped := make(chan error, 1)
		go func() {
			stopped <- s.Run(ctx, Listeners{Plain: at[0], Secure: at[1]}, metrics.NewRegistry("test"), func(ctx context.Context, lead func(context.Context)) error {
				lead(ctx) // whether it leads is for its replica to say
				<-ctx.Done()
				return nil
			})
		}()
		p.stop[address] = func() {
			stop()
			if err := <-stopped; err != nil {
				t.Errorf("the extender at %s stopped with %v", address, err)
			}
		}
		w.s = s
		w.until("its ledger is built", s.ready.Load)
		w.watching()
	}
	p.lead(first)
	return p
}

// lead makes the extender at the address the leader, and everybody know.
func (p *pair) lead(leader string) {
	for address, stand := range p.stand {
		stand.leader.Store(&leader)
		stand.leads.Store(address == leader)
	}
}

// ask posts the filter's question about pod p to an address.
func (p *pair) ask(address string) (status int, answer string) {
	p.t.Helper()
	body, err := json.Marshal(&extenderv1.ExtenderArgs{Pod: pod("p", "a"), NodeNames: &[]string{"n1", "n2"}})
	if err != nil {
		p.t.Fatal(err)
	}
	response, err := p.client.Post("http://"+net.JoinHostPort(address, p.ports[0])+"/scheduler/predicates", "application/json", bytes.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	defer response.Body.Close() //nolint:errcheck // it was only read
	said, err := io.ReadAll(response.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return response.StatusCode, string(said)
}

// holds returns how many pods hold room at each address.
func (p *pair) holds() map[string]int {
	holds := map[string]int{}
	for address, s := range p.all {
		holds[address] = s.ledger.Stats().Holds
	}
	return holds
}

func TestTheLeaderAnswersWhoeverIsAsked(t *testing.T) {
	p := newPair(t)
	for _, step := range []struct {
		leader, asked string
		want          map[string]int
	}{
		{first, second, map[string]int{first: 1, second: 0}},
		{first, first, map[string]int{first: 1, second: 0}},
		{second, first, map[string]int{first: 1, second: 1}},
	} {
		p.lead(step.leader)
		if status, answer := p.ask(step.asked); status != http.StatusOK || !strings.Contains(answer, `["n1","n2"]`) {
			t.Errorf("%s leads, %s was asked: %d %s", step.leader, step.asked, status, answer)
		}
		if diff := cmp.Diff(step.want, p.holds()); diff != "" {
			t.Errorf("%s leads, %s was asked: holds (-want +got):\n%s", step.leader, step.asked, diff)
		}
	}
	p.stop[first]()
	if status, answer := p.ask(second); status != http.StatusOK {
		t.Errorf("the other is gone: %d %s", status, answer)
	}
	p.stop[second]()
}

func TestOnlyTheLeaderTellsOfTheNodes(t *testing.T) {
	p := newPair(t, claim("b", gib, "lvm"), pv("b", "n1", "pool", gib))
	p.lead(second)
	for address, s := range p.all {
		w := httptest.NewRecorder()
		s.Handler(t.Context(), metrics.NewRegistry("test")).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", http.NoBody))
		if got := strings.Contains(w.Body.String(), `local_volume_group_total{nodename="n1"`); got != (address == second) {
			t.Errorf("%s tells of groups: %t; %s leads", address, got, second)
		}
		if got := strings.Contains(w.Body.String(), "local_local_pv"); got != (address == second) {
			t.Errorf("%s tells of volumes: %t; %s leads", address, got, second)
		}
		p.stop[address]()
	}
}

func TestWithoutALeaderNobodyAnswers(t *testing.T) {
	p := newPair(t)
	refused := func(what, address string) {
		t.Helper()
		if status, answer := p.ask(address); status != http.StatusServiceUnavailable || !strings.Contains(answer, errNoLeader.Error()) {
			t.Errorf("%s: %d %s", what, status, answer)
		}
	}
	p.lead("")
	refused("nobody leads", first)
	if p.all[first].Useful() {
		t.Error("it is said to be of use to ask")
	}
	p.lead("127.0.0.3")
	refused("the leader is gone", first)
	if !p.all[first].Useful() {
		t.Error("it is said to be of no use to ask, and it may be the next leader")
	}
	for address, other := range map[string]string{first: second, second: first} {
		p.stand[address].leader.Store(&other)
	}
	refused("each takes the other for the leader", second)
	if diff := cmp.Diff(map[string]int{first: 0, second: 0}, p.holds()); diff != "" {
		t.Errorf("holds (-want +got):\n%s", diff)
	}
	p.stop[first]()
	p.stop[second]()
}

func TestReservationsReachTheLeader(t *testing.T) {
	p := newPair(t)
	caller := p.ca.config(t, DefaultCaller)
	caller.ServerName = first // as all prove the name of their Service
	request := reserve.Request{Namespace: "default", Claim: "a", Node: "n1", VolumeType: "LVM"}
	call := func(address string) error {
		_, err := reserve.New("https://"+net.JoinHostPort(address, p.ports[1]), caller).Reserve(t.Context(), request)
		return err
	}
	promises := func(address string) int { return p.all[address].ledger.Stats().Promises }
	if err := call(second); err != nil || promises(first) != 1 || promises(second) != 0 {
		t.Errorf("through the one that stands by: %v; %d promises there, %d with the leader", err, promises(second), promises(first))
	}
	p.lead(second)
	if err := call(first); err != nil || promises(second) != 1 {
		t.Errorf("after the change: %v; %d promises", err, promises(second))
	}
	p.lead("")
	if err := call(first); !errors.Is(err, reserve.ErrNotReady) {
		t.Errorf("nobody leads: %v", err)
	}
	p.stop[first]()
	p.stop[second]()
}
