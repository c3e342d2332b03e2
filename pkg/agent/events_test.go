package agent

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/open-local/open-local/pkg/mounts"
)

func lines(s ...string) []byte { return []byte(strings.Join(s, "\x00") + "\x00") }

func TestParseUevent(t *testing.T) {
	for name, test := range map[string]struct {
		message []byte
		want    uevent
		ok      bool
		disks   bool
	}{
		"a disk that appears": {
			message: lines("add@/devices/pci0000:00/virtio3/block/vdc", "ACTION=add", "DEVPATH=/devices/pci0000:00/virtio3/block/vdc",
				"SUBSYSTEM=block", "MAJOR=253", "MINOR=32", "DEVNAME=vdc", "DEVTYPE=disk", "SEQNUM=4711"),
			want: uevent{action: "add", subsystem: "block", devname: "vdc"}, ok: true, disks: true,
		},
		"a logical volume that changes": {
			message: lines("change@/devices/virtual/block/dm-0", "ACTION=change", "DEVPATH=/devices/virtual/block/dm-0", "SUBSYSTEM=block", "DM_COOKIE=6335392", "DEVNAME=dm-0"),
			want:    uevent{action: "change", subsystem: "block", devname: "dm-0"}, ok: true, disks: true,
		},
		"something else": {
			message: lines("add@/devices/virtual/net/veth0", "ACTION=add", "SUBSYSTEM=net", "INTERFACE=veth0"),
			want:    uevent{action: "add", subsystem: "net"}, ok: true,
		},
		"udev's message has another heading": {message: append([]byte("libudev\x00\xfe\xed\xca\xfe"), lines("ACTION=add", "SUBSYSTEM=block")...)},
		"an action that contradicts itself":  {message: lines("add@/devices/x", "ACTION=remove", "SUBSYSTEM=block"), want: uevent{action: "remove", subsystem: "block"}},
		"a heading alone":                    {message: lines("add@/devices/x")},
		"an empty message":                   {},
		"a message that was cut":             {message: []byte("add@/devices/x")},
	} {
		t.Run(name, func(t *testing.T) {
			got, ok := parseUevent(test.message)
			if ok != test.ok || got != test.want || got.concernsDisks() && ok != test.disks {
				t.Errorf("got %+v (%v), want %+v (%v)", got, ok, test.want, test.ok)
			}
		})
	}
}

func FuzzParseUevent(f *testing.F) {
	f.Add(lines("add@/devices/x", "ACTION=add", "SUBSYSTEM=block"))
	f.Add([]byte("@/\x00ACTION=\x00"))
	f.Fuzz(func(t *testing.T, message []byte) {
		event, ok := parseUevent(message)
		if !ok {
			return
		}
		if event.subsystem == "" || !strings.HasPrefix(string(message), event.action+"@/") {
			t.Errorf("read %+v from %q", event, message)
		}
	})
}

func TestPace(t *testing.T) {
	start := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	for name, test := range map[string]struct {
		events []int
		want   int // milliseconds after start; -1 for never
	}{
		"no event is never due":                   {want: -1},
		"one event is due when it was quiet":      {events: []int{0}, want: 100},
		"another event puts it off":               {events: []int{0, 60}, want: 160},
		"but not for ever":                        {events: []int{0, 90, 180, 270, 360}, want: 400},
		"a storm is due when the first is oldest": {events: []int{50, 60, 400, 440}, want: 450},
	} {
		t.Run(name, func(t *testing.T) {
			p := pace{quiet: 100 * time.Millisecond, most: 400 * time.Millisecond}
			for _, ms := range test.events {
				p.event(at(ms))
			}
			due, waiting := p.due()
			if waiting != (test.want >= 0) || waiting && !due.Equal(at(test.want)) {
				t.Errorf("due %s (%v), want %d ms after the start", due, waiting, test.want)
			}
			p.take()
			if _, waiting := p.due(); waiting {
				t.Error("still due after a look")
			}
		})
	}
}

func TestBackoff(t *testing.T) {
	now := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	b := backoff{shortest: time.Second, longest: 5 * time.Second}
	if b.waits(now) {
		t.Error("waits before anything failed")
	}
	var steps []time.Duration
	for range 5 {
		b.failed(now)
		if !b.waits(now) {
			t.Error("does not wait after a failure")
		}
		steps = append(steps, b.step)
		now = b.until
		if b.waits(now) {
			t.Error("waits longer than it says")
		}
	}
	want := []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 5 * time.Second, 5 * time.Second}
	if diff := cmp.Diff(want, steps); diff != "" {
		t.Errorf("steps (-want +got):\n%s", diff)
	}
	b.succeeded()
	if b.waits(now) {
		t.Error("waits after success")
	}
}

func TestStorageMounts(t *testing.T) {
	got := storageMounts([]mounts.Mount{
		{Target: "/", Source: "/dev/vda1", FSType: "ext4"},
		{Target: "/mnt/hidden", Source: "/dev/vdb", FSType: "ext4"},
		{Target: "/mnt/hidden", Source: "tmpfs", FSType: "tmpfs"},
		{Target: "/mnt/twice", Source: "/dev/vdc", FSType: "ext4"},
		{Target: "/mnt/twice", Source: "/dev/vdd", FSType: "xfs"},
		{Target: "/proc", Source: "proc", FSType: "proc"},
		{Target: "/snap/core/1", Source: "/dev/loop0", FSType: "squashfs"},
		{Target: "/media/cd", Source: "/dev/sr0", FSType: "iso9660"},
		{Target: "/var/lib/kubelet/pods/1/volumes/x/mount", Source: "/dev/mapper/pool-a", FSType: "ext4"},
		{Target: "/data/kubelet/plugins/x/globalmount", Source: "/dev/mapper/pool-a", FSType: "ext4"},
		{Target: "/run/lock", Source: "/dev/vde", FSType: "ext4"},
		{Target: "/runner", Source: "/dev/vde", FSType: "ext4"},
	})
	var paths []string
	for _, m := range got {
		paths = append(paths, m.Target+" "+m.Source)
	}
	want := []string{"/ /dev/vda1", "/mnt/twice /dev/vdd", "/runner /dev/vde"}
	if diff := cmp.Diff(want, paths); diff != "" {
		t.Errorf("mounts (-want +got):\n%s", diff)
	}
}

// watching runs watch until the test ends and returns what it says.
func watching(t *testing.T, watch func(context.Context, func()) error) <-chan struct{} {
	t.Helper()
	changed := make(chan struct{}, 1000)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- watch(ctx, func() { changed <- struct{}{} }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("watching: %v", err)
		}
	})
	return changed
}

func wantChange(t *testing.T, changed <-chan struct{}, after string) {
	t.Helper()
	select {
	case <-changed:
	case <-time.After(10 * time.Second):
		t.Fatalf("nothing was said after %s", after)
	}
}

// drain forgets what was said, until nothing has been said for as long as quiet.
func drain(changed <-chan struct{}, quiet time.Duration) {
	for {
		select {
		case <-changed:
		case <-time.After(quiet):
			return
		}
	}
}

func TestLVMsMetadataIsWatched(t *testing.T) {
	root := t.TempDir()
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	backup := filepath.Join(root, "etc/lvm/backup")
	do(os.MkdirAll(filepath.Join(root, "etc"), 0o755))
	changed := watching(t, func(ctx context.Context, changed func()) error { return watchMetadata(ctx, root, changed) })

	// Until the watch is there, a change may be missed; so change until it is seen.
	for seen := false; !seen; {
		do(os.RemoveAll(filepath.Join(root, "etc/lvm")))
		do(os.MkdirAll(backup, 0o755))
		select {
		case <-changed:
			seen = true
		case <-time.After(20 * time.Millisecond):
		}
	}
	drain(changed, 50*time.Millisecond)

	write := func(name string) {
		temporary := filepath.Join(backup, ".lvm_host_1_2")
		do(os.WriteFile(temporary, []byte("contents"), 0o600))
		do(os.Rename(temporary, filepath.Join(backup, name)))
	}
	write("pool")
	wantChange(t, changed, "a group was written")
	drain(changed, 50*time.Millisecond)

	do(os.RemoveAll(backup))
	wantChange(t, changed, "the directory was removed")
	drain(changed, 50*time.Millisecond)
	do(os.Mkdir(backup, 0o755))
	wantChange(t, changed, "the directory was made again")
	drain(changed, 50*time.Millisecond)
	write("pool")
	wantChange(t, changed, "a group was written again")
	drain(changed, 50*time.Millisecond)

	do(os.WriteFile(filepath.Join(root, "etc/other"), nil, 0o600))
	select {
	case <-changed:
		t.Error("a file that is not LVM's was taken for a change")
	case <-time.After(50 * time.Millisecond):
	}
}

func TestListeningToTheKernelEndsWithItsContext(t *testing.T) {
	socket, err := listenKernel()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- watchKernel(ctx, socket, func() {}) }()
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("ended with %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("goes on after its context ended")
	}
}
