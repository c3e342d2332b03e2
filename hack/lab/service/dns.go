package service

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"

	"github.com/miekg/dns"
)

// ttl is short, in seconds: a pod that moves is found at once.
const ttl = 2

// Names answers DNS for a table that may change.
type Names struct {
	// Domain is the cluster's, for example cluster.local.
	Domain string
	// Fixed are names besides the table's, for example the nodes'.
	Fixed map[string]netip.Addr

	table atomic.Pointer[Table]
}

// Use makes the table the one that is answered from.
func (n *Names) Use(t Table) { n.table.Store(&t) }

// ServeDNS answers one question. It implements dns.Handler.
func (n *Names) ServeDNS(w dns.ResponseWriter, question *dns.Msg) {
	_ = w.WriteMsg(n.Answer(question)) // who asked will ask again
}

// Answer answers a question. Names that are not the cluster's do not exist:
// a lab has no way out.
func (n *Names) Answer(question *dns.Msg) *dns.Msg {
	answer := new(dns.Msg)
	answer.SetReply(question)
	answer.Authoritative, answer.RecursionAvailable = true, true
	if len(question.Question) != 1 {
		answer.Rcode = dns.RcodeFormatError
		return answer
	}
	q := question.Question[0]
	addresses, exists := n.lookup(q.Name)
	if !exists {
		answer.Rcode = dns.RcodeNameError
		return answer
	}
	if q.Qtype != dns.TypeA && q.Qtype != dns.TypeANY {
		return answer // the name exists, but has nothing of that type
	}
	for _, address := range addresses {
		header := dns.RR_Header{Name: q.Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: ttl}
		answer.Answer = append(answer.Answer, &dns.A{Hdr: header, A: net.IP(address.AsSlice())})
	}
	return answer
}

// lookup finds service.namespace, with or without .svc and the domain.
func (n *Names) lookup(name string) ([]netip.Addr, bool) {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if address, ok := n.Fixed[name]; ok {
		return []netip.Addr{address}, true
	}
	table := n.table.Load()
	if table == nil {
		return nil, false
	}
	name = strings.TrimSuffix(name, "."+n.Domain)
	name = strings.TrimSuffix(name, ".svc")
	addresses, ok := table.Addresses[name]
	return addresses, ok
}

// Serve answers on UDP and TCP until ctx ends.
func (n *Names) Serve(ctx context.Context, address string) error {
	packets, err := net.ListenPacket("udp", address)
	if err != nil {
		return fmt.Errorf("listening for DNS: %w", err)
	}
	streams, err := net.Listen("tcp", address)
	if err != nil {
		return errors.Join(fmt.Errorf("listening for DNS: %w", err), packets.Close())
	}
	failed := make(chan error, 2)
	for _, server := range []*dns.Server{{PacketConn: packets, Handler: n}, {Listener: streams, Handler: n}} {
		go func() { failed <- server.ActivateAndServe() }()
	}
	select {
	case <-ctx.Done():
		return errors.Join(packets.Close(), streams.Close())
	case err := <-failed:
		return fmt.Errorf("answering DNS: %w", err)
	}
}
