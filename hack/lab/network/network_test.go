package network

import (
	"net/netip"
	"testing"
)

func TestTheAddressPlanHasNoOverlaps(t *testing.T) {
	nodes := netip.PrefixFrom(netip.MustParseAddr(Gateway), NodePrefix).Masked()
	services, pods := netip.MustParsePrefix(ServiceCIDR), netip.MustParsePrefix(PodCIDR)
	if nodes.Overlaps(services) || nodes.Overlaps(pods) || services.Overlaps(pods) {
		t.Errorf("nodes %s, services %s and pods %s overlap", nodes, services, pods)
	}
	for _, service := range []string{APIService, DNS} {
		if !services.Contains(netip.MustParseAddr(service)) {
			t.Errorf("service %s is not in %s", service, services)
		}
	}
	seen := map[string]bool{Gateway: true}
	for i := 1; i <= MaxNodes; i++ {
		ip := NodeIP(i)
		if addr, err := netip.ParseAddr(ip); err != nil || !nodes.Contains(addr) || seen[ip] {
			t.Fatalf("node %d: address %s: %v", i, ip, err)
		}
		seen[ip] = true
		cidr := NodePodCIDR(i)
		if prefix, err := netip.ParsePrefix(cidr); err != nil || !pods.Contains(prefix.Addr()) || seen[cidr] {
			t.Fatalf("node %d: pods %s: %v", i, cidr, err)
		}
		seen[cidr] = true
		if len(Tap(i)) > 15 {
			t.Fatalf("card %s: the name is too long for the kernel", Tap(i))
		}
	}
}
