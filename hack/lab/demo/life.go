package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"regexp"
	"strconv"
	"strings"
)

// The user's own claim and the pod that uses it.
const (
	pod       = "nginx-lvm-0"
	claim     = "html-nginx-lvm-0"
	page      = "/data/index.html"
	greeting  = "written before"
	patience  = "--timeout=180s"
	throttled = "throttled"
)

// all runs steps until one fails.
func all(steps ...func() error) error {
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// typing returns a step that shows a command.
func (d *demo) typing(ctx context.Context, command ...string) func() error {
	return func() error { return d.show(ctx, command...) }
}

// seeing returns a step that shows a command and fails unless it prints what was
// to be seen.
func (d *demo) seeing(ctx context.Context, want string, command ...string) func() error {
	return func() error {
		var out bytes.Buffer
		if err := d.showTo(ctx, io.MultiWriter(os.Stdout, &out), command...); err != nil {
			return err
		}
		if !strings.Contains(out.String(), want) {
			return fmt.Errorf("%s does not show %q", typed(command), want)
		}
		return nil
	}
}

// running applies a file and waits for the pod in it.
func (d *demo) running(ctx context.Context, file, pod string) func() error {
	return func() error {
		return all(
			d.typing(ctx, "cat", file),
			d.typing(ctx, "kubectl", "apply", "-f", file),
			d.typing(ctx, "kubectl", "wait", "pod/"+pod, "--for=condition=Ready", patience),
		)
	}
}

func (d *demo) grow(ctx context.Context) error {
	return all(
		d.typing(ctx, "kubectl", "exec", pod, "--", "sh", "-c", "echo "+greeting+" > "+page+"; df -h /data"),
		d.typing(ctx, "kubectl", "patch", "pvc", claim, "-p", `{"spec":{"resources":{"requests":{"storage":"20Gi"}}}}`),
		d.typing(ctx, "kubectl", "wait", "pvc/"+claim, "--for=jsonpath={.status.capacity.storage}=20Gi", patience),
		d.seeing(ctx, "20Gi", "kubectl", "get", "pvc", claim),
		d.seeing(ctx, "19.", "kubectl", "exec", pod, "--", "df", "-h", "/data"),
		d.seeing(ctx, greeting, "kubectl", "exec", pod, "--", "cat", page),
	)
}

func (d *demo) snapshot(ctx context.Context) error {
	const snapshot = "example/lvm/snapshot.yaml"
	if err := all(
		d.typing(ctx, "cat", snapshot),
		d.typing(ctx, "kubectl", "apply", "-f", snapshot),
		d.typing(ctx, "kubectl", "wait", "volumesnapshot/nginx-lvm", "--for=jsonpath={.status.readyToUse}=true", patience),
		d.typing(ctx, "kubectl", "get", "volumesnapshot"),
		d.typing(ctx, "kubectl", "exec", pod, "--", "sh", "-c", "echo written after > "+page),
		d.running(ctx, "example/lvm/restore.yaml", "nginx-lvm-restored"),
		d.seeing(ctx, greeting, "kubectl", "exec", "nginx-lvm-restored", "--", "cat", page),
		d.seeing(ctx, "written after", "kubectl", "exec", pod, "--", "cat", page),
	); err != nil {
		return err
	}
	d.say("A clone is the same without a snapshot in between, of a volume that is in use.")
	if err := all(
		d.running(ctx, "example/lvm/clone.yaml", "nginx-lvm-clone"),
		d.seeing(ctx, "written after", "kubectl", "exec", "nginx-lvm-clone", "--", "cat", page),
		d.typing(ctx, "kubectl", "get", "pvc"),
	); err != nil {
		return err
	}
	node, err := d.nodeOf(ctx, pod)
	if err != nil {
		return err
	}
	return all(
		d.typing(ctx, "lab", "exec", node, "--", "lvs", "-o", "vg_name,lv_name,lv_size,origin,data_percent"),
		d.typing(ctx, "kubectl", "delete", "-f", "example/lvm/restore.yaml", "-f", "example/lvm/clone.yaml", "-f", snapshot),
	)
}

func (d *demo) block(ctx context.Context) error {
	const file, device = "example/lvm/sts-block.yaml", "/dev/xvdd"
	return all(
		d.typing(ctx, "kubectl", "apply", "-f", file),
		d.typing(ctx, "kubectl", "rollout", "status", "sts/nginx-lvm-block", patience),
		d.seeing(ctx, "1073741824", "kubectl", "exec", "nginx-lvm-block-0", "--", "blockdev", "--getsize64", device),
		d.typing(ctx, "kubectl", "exec", "nginx-lvm-block-0", "--", "sh", "-c", "echo raw > "+device),
		d.seeing(ctx, "raw", "kubectl", "exec", "nginx-lvm-block-0", "--", "head", "-c", "3", device),
		d.typing(ctx, "kubectl", "delete", "-f", file),
		d.typing(ctx, "kubectl", "delete", "pvc", "-l", "app=nginx-lvm-block"),
	)
}

func (d *demo) throttle(ctx context.Context) error {
	const file, class = "example/lvm/io-throttling.yaml", "example/lvm/volumeattributesclass.yaml"
	if err := all(
		d.running(ctx, file, throttled),
		d.rated(ctx, 5, 1),
		d.typing(ctx, "cat", class),
		d.typing(ctx, "kubectl", "apply", "-f", class),
		d.typing(ctx, "kubectl", "patch", "pvc", throttled, "-p", `{"spec":{"volumeAttributesClassName":"faster"}}`),
		d.typing(ctx, "kubectl", "wait", "pvc/"+throttled, "--for=jsonpath={.status.currentVolumeAttributesClassName}=faster", patience),
		d.rated(ctx, 40, 10),
	); err != nil {
		return err
	}
	return d.show(ctx, "kubectl", "delete", "-f", file, "-f", class)
}

var elapsed = regexp.MustCompile(`real\s+(\d+)m ([0-9.]+)s`)

// rated writes so many MiB and compares the rate with the limit, in MiB a second.
func (d *demo) rated(ctx context.Context, amount, limit float64) func() error {
	return func() error {
		var out bytes.Buffer
		script := fmt.Sprintf("time dd if=/dev/zero of=/data/file bs=64k count=%.0f oflag=direct 2>&1", amount*16)
		if err := d.showTo(ctx, io.MultiWriter(os.Stdout, &out), "kubectl", "exec", throttled, "--", "sh", "-c", "("+script+") 2>&1"); err != nil {
			return err
		}
		found := elapsed.FindStringSubmatch(out.String())
		if found == nil {
			return fmt.Errorf("dd did not say how long it took: %s", out.String())
		}
		minutes, err := strconv.ParseFloat(found[1], 64)
		if err != nil {
			return err
		}
		seconds, err := strconv.ParseFloat(found[2], 64)
		if err != nil {
			return err
		}
		rate := amount / (60*minutes + seconds)
		d.say(fmt.Sprintf("%.0f MiB in %.2f s are %.2f MiB a second; the limit is %.0f.", amount, 60*minutes+seconds, rate, limit))
		if math.Abs(rate/limit-1) > 0.1 {
			return fmt.Errorf("writing at %.2f MiB a second, where %.0f is the limit", rate, limit)
		}
		return nil
	}
}

func (d *demo) ephemeral(ctx context.Context) error {
	const inline, generic = "example/lvm/ephemeral-inline.yaml", "example/lvm/ephemeral-generic.yaml"
	if err := all(
		d.running(ctx, inline, "inline"),
		d.seeing(ctx, "1.9G", "kubectl", "exec", "inline", "--", "df", "-h", "/data"),
	); err != nil {
		return err
	}
	node, err := d.nodeOf(ctx, "inline")
	if err != nil {
		return err
	}
	return all(
		d.seeing(ctx, "csi-", "lab", "exec", node, "--", "lvs", "-o", "vg_name,lv_name,lv_size"),
		d.typing(ctx, "kubectl", "delete", "-f", inline),
		func() error {
			return d.gone(ctx, "lab", "exec", node, "--", "lvs", "--noheadings", "-S", "lv_name=~^csi-")
		},
		d.running(ctx, generic, "generic"),
		d.seeing(ctx, "generic-scratch", "kubectl", "get", "pvc"),
		d.typing(ctx, "kubectl", "delete", "-f", generic),
	)
}

func (d *demo) nodeOf(ctx context.Context, pod string) (string, error) {
	return d.ask(ctx, "kubectl", "get", "pod", pod, "-o", "jsonpath={.spec.nodeName}")
}
