// Package network is the plan of a lab's addresses and makes its bridge and
// cards. Every lab lives in a network namespace of its own, so all labs of a
// host have the same addresses and nothing is reachable from outside. It does
// not know what listens where.
package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
)

// The addresses of a lab. Nodes are numbered from 1.
const (
	Gateway     = "10.99.0.1" // the control plane's side of the bridge
	NodePrefix  = 16
	ServiceCIDR = "10.100.0.0/16"
	APIService  = "10.100.0.1" // the Service kubernetes
	DNS         = "10.100.0.10"
	PodCIDR     = "10.244.0.0/16"
	APIPort     = 6443
	Domain      = "cluster.local"

	bridge = "lab0"
)

// MaxNodes is how many nodes the plan has room for.
const MaxNodes = 200

// NodeIP is the address of node i.
func NodeIP(i int) string { return fmt.Sprintf("10.99.0.%d", 10+i) }

// NodePodCIDR is where the pods of node i have their addresses.
func NodePodCIDR(i int) string { return fmt.Sprintf("10.244.%d.0/24", i) }

// Tap is the name of the host's side of node i's card.
func Tap(i int) string { return fmt.Sprintf("tap%d", i) }

// Up makes the namespace of the calling process ready for a control plane.
func Up() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("finding the loopback interface: %w", err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = bridge
	br := &netlink.Bridge{LinkAttrs: attrs}
	if err := netlink.LinkAdd(br); err != nil {
		return fmt.Errorf("making bridge %s: %w (the kernel needs the module bridge)", bridge, err)
	}
	if err := AddAddress(br, Gateway, NodePrefix); err != nil {
		return err
	}
	for _, link := range []netlink.Link{lo, br} {
		if err := netlink.LinkSetUp(link); err != nil {
			return fmt.Errorf("switching on interface %s: %w", link.Attrs().Name, err)
		}
	}
	// Every address of a Service is an address of this namespace. So a port on
	// which nobody listens refuses at once, and none has to be added or taken.
	return errors.Join(localRange(lo, ServiceCIDR), Forward())
}

func localRange(lo netlink.Link, cidr string) error {
	_, dst, err := net.ParseCIDR(cidr)
	if err != nil {
		return fmt.Errorf("reading range %s: %w", cidr, err)
	}
	route := &netlink.Route{LinkIndex: lo.Attrs().Index, Dst: dst, Table: 255, Type: 2, Scope: netlink.SCOPE_HOST} // the table and type "local"
	if err := netlink.RouteAdd(route); err != nil {
		return fmt.Errorf("making %s local: %w", cidr, err)
	}
	return nil
}

// Forward lets packets of pods pass between interfaces.
func Forward() error {
	for _, name := range []string{"/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv4/conf/all/forwarding"} {
		if err := os.WriteFile(name, []byte("1"), 0o644); err != nil {
			return fmt.Errorf("switching on forwarding: %w", err)
		}
	}
	return nil
}

// AddAddress gives a card an address in a network of that size.
func AddAddress(link netlink.Link, address string, prefix int) error {
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return fmt.Errorf("reading address %q: %w", address, err)
	}
	addr := &netlink.Addr{IPNet: &net.IPNet{IP: ip.AsSlice(), Mask: net.CIDRMask(prefix, 32)}}
	if err := netlink.AddrAdd(link, addr); err != nil {
		return fmt.Errorf("giving %s the address %s: %w", link.Attrs().Name, address, err)
	}
	return nil
}

// AddNode makes the card and the route of node i.
func AddNode(i int) error {
	br, err := netlink.LinkByName(bridge)
	if err != nil {
		return fmt.Errorf("finding bridge %s: %w", bridge, err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = Tap(i)
	attrs.MasterIndex = br.Attrs().Index
	tap := &netlink.Tuntap{LinkAttrs: attrs, Mode: netlink.TUNTAP_MODE_TAP}
	if err := netlink.LinkAdd(tap); err != nil {
		return fmt.Errorf("making card %s: %w", Tap(i), err)
	}
	if err := netlink.LinkSetUp(tap); err != nil {
		return fmt.Errorf("switching on card %s: %w", Tap(i), err)
	}
	_, pods, err := net.ParseCIDR(NodePodCIDR(i))
	if err != nil {
		return fmt.Errorf("reading range %s: %w", NodePodCIDR(i), err)
	}
	route := &netlink.Route{LinkIndex: br.Attrs().Index, Dst: pods, Gw: net.ParseIP(NodeIP(i))}
	if err := netlink.RouteAdd(route); err != nil {
		return fmt.Errorf("making the route to the pods of node %d: %w", i, err)
	}
	return nil
}

// Attach configures a node's own card, from inside the node.
func Attach(card, address string) error {
	for _, name := range []string{"lo", card} {
		link, err := netlink.LinkByName(name)
		if err != nil {
			return fmt.Errorf("finding card %s: %w", name, err)
		}
		if name == card {
			if err := AddAddress(link, address, NodePrefix); err != nil {
				return err
			}
		}
		if err := netlink.LinkSetUp(link); err != nil {
			return fmt.Errorf("switching on card %s: %w", name, err)
		}
	}
	if err := netlink.RouteAdd(&netlink.Route{Gw: net.ParseIP(Gateway)}); err != nil {
		return fmt.Errorf("making the default route: %w", err)
	}
	return Forward()
}
