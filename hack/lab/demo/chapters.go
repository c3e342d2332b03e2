package main

import (
	"context"
	"fmt"
	"strings"
)

const (
	config   = "example/nlsc.yaml"
	workload = "example/lvm/sts-nginx.yaml"
	nodes    = 2
)

func (d *demo) cluster(ctx context.Context) error {
	if err := d.show(ctx, "lab", "up", "--nodes", fmt.Sprint(nodes), "--disks", "2x100G"); err != nil {
		return err
	}
	if err := d.show(ctx, "lab", "load", d.image); err != nil {
		return err
	}
	return d.show(ctx, "kubectl", "get", "nodes", "-o", "wide")
}

func (d *demo) install(ctx context.Context) error {
	if err := d.show(ctx, "helm", "install", "open-local", "./helm", "--namespace", "kube-system", "--wait", "--timeout", "3m"); err != nil {
		return err
	}
	return d.show(ctx, "kubectl", "-n", "kube-system", "get", "pods", "-o", "wide")
}

// configure applies the user's own configuration and waits until the agents have
// made the volume group it asks for.
func (d *demo) configure(ctx context.Context) error {
	if err := d.show(ctx, "cat", config); err != nil {
		return err
	}
	if err := d.show(ctx, "kubectl", "apply", "-f", config); err != nil {
		return err
	}
	if err := d.show(ctx, "kubectl", "wait", "nls", "--all", "--timeout=60s",
		"--for=jsonpath={.status.filteredStorageInfo.volumeGroups[0]}=open-local-pool-0"); err != nil {
		return err
	}
	if err := d.show(ctx, "kubectl", "get", "nlsc,nls,sc"); err != nil {
		return err
	}
	for n := range nodes {
		if err := d.show(ctx, "lab", "exec", fmt.Sprintf("n%d", n+1), "--", "vgs"); err != nil {
			return err
		}
	}
	var err error
	d.free, err = d.look(ctx)
	return err
}

func (d *demo) volume(ctx context.Context) error {
	d.say("nginx cannot be pulled here: an image made of busybox stands in for it, under the same name.")
	if err := d.show(ctx, "cat", workload); err != nil {
		return err
	}
	if err := d.show(ctx, "kubectl", "apply", "-f", workload); err != nil {
		return err
	}
	if err := d.show(ctx, "kubectl", "rollout", "status", "sts/nginx-lvm", "--timeout=120s"); err != nil {
		return err
	}
	for _, command := range [][]string{
		{"kubectl", "get", "pods", "-o", "wide"},
		{"kubectl", "get", "pvc,pv"},
		{"kubectl", "exec", "nginx-lvm-0", "--", "df", "-h", "/data"},
	} {
		if err := d.show(ctx, command...); err != nil {
			return err
		}
	}
	node, err := d.nodeOf(ctx, pod)
	if err != nil {
		return err
	}
	return d.show(ctx, "lab", "exec", node, "--", "lvs", "-o", "vg_name,lv_name,lv_size,lv_tags")
}

func (d *demo) scale(ctx context.Context) error {
	if err := d.show(ctx, "kubectl", "scale", "sts/nginx-lvm", "--replicas=3"); err != nil {
		return err
	}
	if err := d.show(ctx, "kubectl", "rollout", "status", "sts/nginx-lvm", "--timeout=120s"); err != nil {
		return err
	}
	if err := d.show(ctx, "kubectl", "get", "pods,pvc", "-o", "wide"); err != nil {
		return err
	}
	if err := d.show(ctx, "kubectl", "get", "nls", "-o",
		`custom-columns=NODE:.metadata.name,GROUP:.status.nodeStorageInfo.volumeGroups[0].name,TOTAL:.status.nodeStorageInfo.volumeGroups[0].total,AVAILABLE:.status.nodeStorageInfo.volumeGroups[0].available`); err != nil {
		return err
	}
	if err := d.show(ctx, "kubectl", "scale", "sts/nginx-lvm", "--replicas=1"); err != nil {
		return err
	}
	return d.show(ctx, "kubectl", "wait", "pod/nginx-lvm-1", "pod/nginx-lvm-2", "--for=delete", "--timeout=60s")
}

// remove deletes the workload and its claims and fails unless every group is as
// free as it was before.
func (d *demo) remove(ctx context.Context) error {
	if err := d.show(ctx, "kubectl", "delete", "-f", workload); err != nil {
		return err
	}
	if err := d.show(ctx, "kubectl", "delete", "pvc", "-l", "app=nginx-lvm"); err != nil {
		return err
	}
	if err := d.gone(ctx, "kubectl", "get", "pv", "--no-headers"); err != nil {
		return err
	}
	for n := range nodes {
		name := fmt.Sprintf("n%d", n+1)
		if err := d.show(ctx, "lab", "exec", name, "--", "vgs"); err != nil {
			return err
		}
		left, err := d.ask(ctx, "lab", "exec", name, "--", "lvs", "--noheadings")
		if err != nil {
			return err
		}
		if strings.TrimSpace(left) != "" {
			return fmt.Errorf("logical volumes are left on %s:\n%s", name, left)
		}
	}
	free, err := d.look(ctx)
	if err != nil {
		return err
	}
	if free != d.free {
		return fmt.Errorf("the groups are not as free as before:\nbefore\n%s\nafter\n%s", d.free, free)
	}
	d.say("Every group is as free as it was before, and no logical volume is left.")
	return nil
}

// look returns the free extents of every group on every node.
func (d *demo) look(ctx context.Context) (string, error) {
	var all strings.Builder
	for n := range nodes {
		name := fmt.Sprintf("n%d", n+1)
		free, err := d.ask(ctx, "lab", "exec", name, "--", "vgs", "--noheadings", "-o", "vg_name,vg_free_count")
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&all, "%s: %s\n", name, strings.Join(strings.Fields(free), " "))
	}
	return all.String(), nil
}
