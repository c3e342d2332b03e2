package service

import (
	"bufio"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func aService(name, clusterIP string, ports ...corev1.ServicePort) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name},
		Spec:       corev1.ServiceSpec{ClusterIP: clusterIP, Ports: ports},
	}
}

func tcp(name string, port int32) corev1.ServicePort {
	return corev1.ServicePort{Name: name, Port: port}
}

func aSlice(service string, ports []discoveryv1.EndpointPort, endpoints ...discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "shop", Name: service + "-x", Labels: map[string]string{discoveryv1.LabelServiceName: service}},
		AddressType: discoveryv1.AddressTypeIPv4, Ports: ports, Endpoints: endpoints,
	}
}

func onPort(name string, number int32) []discoveryv1.EndpointPort {
	return []discoveryv1.EndpointPort{{Name: &name, Port: &number}}
}

func ready(addresses ...string) discoveryv1.Endpoint {
	return discoveryv1.Endpoint{Addresses: addresses, Conditions: discoveryv1.EndpointConditions{Ready: new(true)}}
}

func unready(address string) discoveryv1.Endpoint {
	return discoveryv1.Endpoint{Addresses: []string{address}, Conditions: discoveryv1.EndpointConditions{Ready: new(false)}}
}

func named(host, address string) discoveryv1.Endpoint {
	e := ready(address)
	e.Hostname = &host
	return e
}

func at(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

func addrs(list ...string) []netip.Addr {
	out := []netip.Addr{}
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

var byValue = cmp.Options{cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}), cmpopts.EquateEmpty()}

func TestMakeTable(t *testing.T) {
	tests := map[string]struct {
		services  []*corev1.Service
		endpoints []*discoveryv1.EndpointSlice
		want      Table
	}{
		"a port goes to the port of the same name of every ready pod": {
			services: []*corev1.Service{aService("web", "10.100.0.7", tcp("http", 80), tcp("admin", 81))},
			endpoints: []*discoveryv1.EndpointSlice{
				aSlice("web", onPort("http", 8080), ready("10.244.2.2"), unready("10.244.2.3")),
				aSlice("web", onPort("http", 8080), ready("10.244.1.2")),
				aSlice("web", onPort("admin", 9090), ready("10.244.1.2")),
			},
			want: Table{
				Backends: map[netip.AddrPort][]netip.AddrPort{
					at("10.100.0.7:80"): {at("10.244.1.2:8080"), at("10.244.2.2:8080")},
					at("10.100.0.7:81"): {at("10.244.1.2:9090")},
				},
				Addresses: map[string][]netip.Addr{"web.shop": addrs("10.100.0.7")},
			},
		},
		"a service without ready pods has a name and no backends": {
			services:  []*corev1.Service{aService("web", "10.100.0.7", tcp("", 80))},
			endpoints: []*discoveryv1.EndpointSlice{aSlice("web", onPort("", 80), unready("10.244.1.2"))},
			want:      Table{Addresses: map[string][]netip.Addr{"web.shop": addrs("10.100.0.7")}},
		},
		"a headless service's name is its pods": {
			services:  []*corev1.Service{aService("db", corev1.ClusterIPNone, tcp("", 5432))},
			endpoints: []*discoveryv1.EndpointSlice{aSlice("db", onPort("", 5432), named("db-1", "10.244.1.9"), named("db-0", "10.244.1.3"), unready("10.244.1.4"))},
			want: Table{Addresses: map[string][]netip.Addr{
				"db.shop": addrs("10.244.1.3", "10.244.1.9"), "db-0.db.shop": addrs("10.244.1.3"), "db-1.db.shop": addrs("10.244.1.9"),
			}},
		},
		"a headless service without pods has a name all the same": {
			services: []*corev1.Service{aService("db", corev1.ClusterIPNone, tcp("", 5432))},
			want:     Table{Addresses: map[string][]netip.Addr{"db.shop": {}}},
		},
		"ports that are not TCP are left out": {
			services:  []*corev1.Service{aService("dns", "10.100.0.8", corev1.ServicePort{Port: 53, Protocol: corev1.ProtocolUDP})},
			endpoints: []*discoveryv1.EndpointSlice{aSlice("dns", onPort("", 53), ready("10.244.1.2"))},
			want:      Table{Addresses: map[string][]netip.Addr{"dns.shop": addrs("10.100.0.8")}},
		},
		"endpoints without a service are nobody's": {
			endpoints: []*discoveryv1.EndpointSlice{aSlice("gone", onPort("", 80), ready("10.244.1.2"))},
		},
		"an external name is not ours to answer": {
			services: []*corev1.Service{aService("far", "")},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, MakeTable(test.services, test.endpoints), byValue); diff != "" {
				t.Errorf("table (-want +got):\n%s", diff)
			}
		})
	}
}

func TestNames(t *testing.T) {
	names := &Names{Domain: "cluster.local", Fixed: map[string]netip.Addr{"n1": netip.MustParseAddr("10.99.0.11")}}
	names.Use(Table{Addresses: map[string][]netip.Addr{"web.shop": addrs("10.100.0.7"), "db.shop": addrs("10.244.1.3", "10.244.1.9"), "idle.shop": {}}})
	tests := map[string]struct {
		name string
		kind uint16
		code int
		want []string
	}{
		"a service in a namespace":              {name: "web.shop.", kind: dns.TypeA, want: []string{"10.100.0.7"}},
		"with svc":                              {name: "web.shop.svc.", kind: dns.TypeA, want: []string{"10.100.0.7"}},
		"in full":                               {name: "web.shop.svc.cluster.local.", kind: dns.TypeA, want: []string{"10.100.0.7"}},
		"in other letters":                      {name: "Web.SHOP.svc.cluster.local.", kind: dns.TypeA, want: []string{"10.100.0.7"}},
		"several addresses":                     {name: "db.shop.", kind: dns.TypeA, want: []string{"10.244.1.3", "10.244.1.9"}},
		"a node":                                {name: "n1.", kind: dns.TypeA, want: []string{"10.99.0.11"}},
		"a name without addresses exists":       {name: "idle.shop.", kind: dns.TypeA},
		"there is no IPv6, but the name exists": {name: "web.shop.", kind: dns.TypeAAAA},
		"another service":                       {name: "none.shop.", kind: dns.TypeA, code: dns.RcodeNameError},
		"a search path's wrong guess":           {name: "web.shop.default.svc.cluster.local.", kind: dns.TypeA, code: dns.RcodeNameError},
		"the world outside":                     {name: "example.com.", kind: dns.TypeA, code: dns.RcodeNameError},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			answer := names.Answer(new(dns.Msg).SetQuestion(test.name, test.kind))
			var got []string
			for _, record := range answer.Answer {
				got = append(got, record.(*dns.A).A.String())
			}
			if diff := cmp.Diff(test.want, got, byValue); diff != "" || answer.Rcode != test.code {
				t.Errorf("code %d, want %d; addresses (-want +got):\n%s", answer.Rcode, test.code, diff)
			}
		})
	}
}

func TestBeforeTheFirstTableNoNameExists(t *testing.T) {
	answer := new(Names).Answer(new(dns.Msg).SetQuestion("web.shop.", dns.TypeA))
	if answer.Rcode != dns.RcodeNameError {
		t.Errorf("code %d", answer.Rcode)
	}
}

// backend answers every connection with its name and takes its address from the
// kernel.
func backend(t *testing.T, name string) netip.AddrPort {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			fmt.Fprintln(conn, name)
			_ = conn.Close()
		}
	}()
	return at(listener.Addr().String())
}

// free returns an address on which nobody listens.
func free(t *testing.T) netip.AddrPort {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return at(listener.Addr().String())
}

func ask(address netip.AddrPort) (string, error) {
	conn, err := net.Dial("tcp", address.String())
	if err != nil {
		return "", err
	}
	defer conn.Close()
	return bufio.NewReader(conn).ReadString('\n')
}

func TestAPortGoesToItsBackendsInTurn(t *testing.T) {
	proxy := &Proxy{Log: slog.New(slog.DiscardHandler)}
	t.Cleanup(proxy.Close)
	front := free(t)
	proxy.Use(Table{Backends: map[netip.AddrPort][]netip.AddrPort{front: {backend(t, "a"), backend(t, "b")}}})
	seen := map[string]int{}
	for range 4 {
		answer, err := ask(front)
		if err != nil {
			t.Fatal(err)
		}
		seen[answer]++
	}
	if diff := cmp.Diff(map[string]int{"a\n": 2, "b\n": 2}, seen); diff != "" {
		t.Errorf("answers (-want +got):\n%s", diff)
	}
}

func TestABackendThatIsGoneIsPassedOver(t *testing.T) {
	proxy := &Proxy{Log: slog.New(slog.DiscardHandler)}
	t.Cleanup(proxy.Close)
	front := free(t)
	proxy.Use(Table{Backends: map[netip.AddrPort][]netip.AddrPort{front: {free(t), backend(t, "b")}}})
	for range 3 {
		if answer, err := ask(front); err != nil || answer != "b\n" {
			t.Errorf("got %q and %v", answer, err)
		}
	}
}

func TestAPortRefusesWhenItsBackendsAreGoneAndOpensAgain(t *testing.T) {
	proxy := &Proxy{Log: slog.New(slog.DiscardHandler)}
	t.Cleanup(proxy.Close)
	front, table := free(t), Table{}
	proxy.Use(table)
	if _, err := ask(front); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("before: got %v, want a refusal", err)
	}
	table.Backends = map[netip.AddrPort][]netip.AddrPort{front: {backend(t, "a")}}
	for range 2 {
		proxy.Use(table)
		if answer, err := ask(front); err != nil || answer != "a\n" {
			t.Errorf("with a backend: got %q and %v", answer, err)
		}
		proxy.Use(Table{})
		if _, err := ask(front); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("after: got %v, want a refusal", err)
		}
	}
}
