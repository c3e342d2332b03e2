package directory

import (
	"cmp"
	"fmt"
	"net"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/driver"
)

// Names returns the nodes that have a report, ordered.
func (d *Directory) Names() []string {
	reports := d.reports.List()
	names := make([]string, len(reports))
	for i, r := range reports {
		names[i] = r.Key()
	}
	slices.Sort(names)
	return names
}

// Capacity returns what volumes may still take on the node: what its report says
// less what was made since. What was removed counts when it is reported: not before the
// extender knows as well, which would refuse the pods that kube-scheduler tries again. It is false for a node that has no report or cannot be
// reached.
func (d *Directory) Capacity(name string) (capacity.Node, bool) {
	r, ok := d.reports.Get(name)
	if !ok {
		return capacity.Node{}, false
	}
	if _, err := d.address(name); err != nil {
		return capacity.Node{}, false
	}
	node := r.capacity()
	d.mu.Lock()
	defer d.mu.Unlock()
	for id, place := range d.made.on[name] {
		if _, reported := r.place(id); reported {
			d.made.drop(id)
		} else if group := node.Group(cmp.Or(place.Group, place.Path)); group != nil && place.Snapshot == "" {
			group.Free = max(0, group.Free-place.Size)
		}
	}
	d.lessSnapshots(&node, r)
	return node, true
}

// Connect returns the client of the node. It does not connect yet.
func (d *Directory) Connect(name string) (driver.RemoteNode, error) {
	address, err := d.address(name)
	if err != nil {
		return nil, err
	}
	return d.o.Dial(address)
}

// address returns where a node that is ready answers.
func (d *Directory) address(name string) (string, error) {
	obj, known, _ := d.node.GetStore().GetByKey(name)
	node, isNode := obj.(*corev1.Node)
	switch {
	case !known || !isNode:
		return "", fmt.Errorf("node %q is not in the cluster: %w", name, driver.ErrNodeUnavailable)
	case !ready(node):
		return "", fmt.Errorf("node %q is not ready: %w", name, driver.ErrNodeUnavailable)
	}
	for _, address := range node.Status.Addresses {
		if address.Type == corev1.NodeInternalIP {
			return net.JoinHostPort(address.Address, strconv.Itoa(d.o.NodePort)), nil
		}
	}
	return "", fmt.Errorf("node %q has no internal address: %w", name, driver.ErrNodeUnavailable)
}

func ready(node *corev1.Node) bool {
	return slices.ContainsFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
}
