// Package service gives a lab what kube-proxy and CoreDNS give a cluster: the
// addresses of Services, forwarded in userspace, and their names. It does not
// know how the namespace in which it runs came to be.
package service

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// A Table is what the Services of a cluster come to: who answers where, and
// under which name. It is a value made from listed objects.
type Table struct {
	// Backends of every port of every Service that has an address. A Service
	// without endpoints is not in it: its port refuses.
	Backends map[netip.AddrPort][]netip.AddrPort
	// Addresses by name, lower case, without the cluster's domain:
	// "service.namespace" and "host.service.namespace".
	Addresses map[string][]netip.Addr
}

type serviceKey struct{ namespace, name string }

// MakeTable computes the table.
func MakeTable(services []*corev1.Service, endpoints []*discoveryv1.EndpointSlice) Table {
	t := Table{Backends: map[netip.AddrPort][]netip.AddrPort{}, Addresses: map[string][]netip.Addr{}}
	slicesOf := map[serviceKey][]*discoveryv1.EndpointSlice{}
	for _, e := range endpoints {
		if e.AddressType == discoveryv1.AddressTypeIPv4 {
			key := serviceKey{e.Namespace, e.Labels[discoveryv1.LabelServiceName]}
			slicesOf[key] = append(slicesOf[key], e)
		}
	}
	for _, s := range services {
		own := slicesOf[serviceKey{s.Namespace, s.Name}]
		name := strings.ToLower(s.Name + "." + s.Namespace)
		t.addHosts(name, own)
		address, err := netip.ParseAddr(s.Spec.ClusterIP)
		if err != nil { // headless, or of a kind without an address
			t.addHeadless(name, s, own)
			continue
		}
		t.Addresses[name] = []netip.Addr{address}
		for _, port := range s.Spec.Ports {
			if protocol := cmp.Or(port.Protocol, corev1.ProtocolTCP); protocol != corev1.ProtocolTCP {
				continue
			}
			if backends := backendsOf(own, port.Name); len(backends) > 0 {
				t.Backends[netip.AddrPortFrom(address, uint16(port.Port))] = backends
			}
		}
	}
	return t
}

func (t Table) addHeadless(name string, s *corev1.Service, own []*discoveryv1.EndpointSlice) {
	if s.Spec.ClusterIP != corev1.ClusterIPNone {
		return
	}
	addresses := []netip.Addr{} // the name exists though nobody is there
	for _, e := range readyOf(own) {
		addresses = append(addresses, e.address)
	}
	t.Addresses[name] = sorted(addresses)
}

// addHosts names the pods that have a host name, as those of a StatefulSet do.
func (t Table) addHosts(service string, own []*discoveryv1.EndpointSlice) {
	for _, e := range readyOf(own) {
		if e.host != "" {
			name := strings.ToLower(e.host) + "." + service
			t.Addresses[name] = sorted(append(t.Addresses[name], e.address))
		}
	}
}

type endpoint struct {
	host    string
	address netip.Addr
	slice   *discoveryv1.EndpointSlice
}

func readyOf(own []*discoveryv1.EndpointSlice) []endpoint {
	var found []endpoint
	for _, s := range own {
		for _, e := range s.Endpoints {
			// Nil means unknown, which is to be taken for ready.
			if e.Conditions.Ready != nil && !*e.Conditions.Ready {
				continue
			}
			for _, a := range e.Addresses {
				address, err := netip.ParseAddr(a)
				if err != nil {
					continue
				}
				host := ""
				if e.Hostname != nil {
					host = *e.Hostname
				}
				found = append(found, endpoint{host, address, s})
			}
		}
	}
	return found
}

// backendsOf returns where the port of that name is answered.
func backendsOf(own []*discoveryv1.EndpointSlice, name string) []netip.AddrPort {
	var backends []netip.AddrPort
	for _, e := range readyOf(own) {
		for _, port := range e.slice.Ports {
			if port.Port != nil && (port.Name == nil && name == "" || port.Name != nil && *port.Name == name) {
				backends = append(backends, netip.AddrPortFrom(e.address, uint16(*port.Port)))
			}
		}
	}
	slices.SortFunc(backends, netip.AddrPort.Compare)
	return slices.Compact(backends)
}

func sorted(addresses []netip.Addr) []netip.Addr {
	slices.SortFunc(addresses, netip.Addr.Compare)
	return slices.Compact(addresses)
}
