package devmapper

import (
	"errors"
	"io/fs"
	"strings"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/open-local/open-local/pkg/capacity"
)

func TestTheLayoutIsTheKernels(t *testing.T) {
	var header unix.DmIoctl
	var spec unix.DmTargetSpec
	for name, pair := range map[string][2]uintptr{
		"dm_ioctl":       {headerSize, unsafe.Sizeof(header)},
		"data_size":      {atDataSize, unsafe.Offsetof(header.Data_size)},
		"data_start":     {atDataStart, unsafe.Offsetof(header.Data_start)},
		"target_count":   {atTargetCount, unsafe.Offsetof(header.Target_count)},
		"flags":          {atFlags, unsafe.Offsetof(header.Flags)},
		"name":           {atName, unsafe.Offsetof(header.Name)},
		"dm_target_spec": {specSize, unsafe.Sizeof(spec)},
		"next":           {atNext, unsafe.Offsetof(spec.Next)},
		"target_type":    {atKind, unsafe.Offsetof(spec.Target_type)},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s is at, or has, %d, and we say %d", name, pair[1], pair[0])
		}
	}
}

func TestName(t *testing.T) {
	for _, test := range []struct{ group, volume, want string }{
		{"share", "data", "share-data"},
		{"open-local-pool-0", "snap-1", "open--local--pool--0-snap--1"},
		{"a--b", "c-", "a----b-c--"},
	} {
		if got := Name(test.group, test.volume); got != test.want {
			t.Errorf("%s/%s is called %q, want %q", test.group, test.volume, got, test.want)
		}
	}
}

func TestParseSnapshot(t *testing.T) {
	for status, want := range map[string]Snapshot{
		"263184/532480 1040": {Taken: 263184 * 512, Space: 532480 * 512, Metadata: 1040 * 512},
		"0/8 0":              {Space: 4096},
		"Invalid":            {Lost: true},
		"Overflow":           {Lost: true},
		"Merge failed":       {Lost: true},
	} {
		got, err := parseSnapshot(status)
		if err != nil {
			t.Errorf("%q: %v", status, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", status, diff)
		}
	}
	for _, status := range []string{"", "Unknown", "1/2", "1 2", "-1/2 3", "1/2/3 4", "1/99999999999999999999 0", "a/b c"} {
		if got, err := parseSnapshot(status); err == nil {
			t.Errorf("%q is read as %v", status, got)
		}
	}
}

// answer returns what the kernel would answer with those targets.
func answer(t *testing.T, targets ...target) []byte {
	t.Helper()
	buffer, err := request("share-data", firstBuffer)
	if err != nil {
		t.Fatal(err)
	}
	order.PutUint32(buffer[atTargetCount:], uint32(len(targets)))
	at := 0
	for _, of := range targets {
		spec := buffer[headerSize+at:]
		copy(spec[atKind:], of.kind)
		copy(spec[specSize:], of.status)
		at += (specSize + len(of.status) + 1 + 7) / 8 * 8
		order.PutUint32(spec[atNext:], uint32(at))
	}
	return buffer
}

func TestParseTargets(t *testing.T) {
	want := []target{{"snapshot", "16/128 16"}, {"linear", ""}, {"striped", "2 254:1 254:2 1 AA"}}
	got, full, err := parseTargets(answer(t, want...))
	if err != nil || full {
		t.Fatal(full, err)
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(target{})); diff != "" {
		t.Errorf("targets (-want +got):\n%s", diff)
	}

	cut := answer(t, want...)
	order.PutUint32(cut[atFlags:], unix.DM_BUFFER_FULL_FLAG)
	if _, full, err := parseTargets(cut); !full || err != nil {
		t.Errorf("an answer that was cut: full %v, error %v", full, err)
	}
	for name, spoil := range map[string]func([]byte){
		"it begins behind its end":      func(b []byte) { order.PutUint32(b[atDataStart:], 5000) },
		"its next target is far behind": func(b []byte) { order.PutUint32(b[headerSize+atNext:], 1<<30) },
		"it has more targets than room": func(b []byte) { order.PutUint32(b[atTargetCount:], 1000); order.PutUint32(b[headerSize+atNext:], 700) },
	} {
		spoilt := answer(t, want...)
		spoil(spoilt)
		if got, _, err := parseTargets(spoilt); err == nil {
			t.Errorf("%s, and it is read as %v", name, got)
		}
	}
}

func TestRequest(t *testing.T) {
	for _, name := range []string{"", strings.Repeat("n", 128), "a\x00b"} {
		if _, err := request(name, firstBuffer); err == nil {
			t.Errorf("the name %q is asked about", name)
		}
	}
	buffer, err := request(strings.Repeat("n", 127), firstBuffer)
	if err != nil || text(buffer[atName:atName+128]) != strings.Repeat("n", 127) || buffer[atName+127] != 0 {
		t.Errorf("the longest name: %v", err)
	}
}

func TestAHostWithoutADeviceMapper(t *testing.T) {
	_, err := New(t.TempDir()).Snapshot("share", "data")
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want fs.ErrNotExist", err)
	}
	if got := (Snapshot{Space: capacity.GiB}); got.Lost {
		t.Error("a snapshot is lost before anything is known")
	}
}
