package mounts

import (
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/open-local/open-local/pkg/hostexec"
)

// host is a Runner on a host whose device holds an image. It mounts in a file instead of
// the kernel, and changes the UUID of the device as xfs_db does.
type host struct {
	t      *testing.T
	root   string
	fsType string
	fails  string // this program
	sameID bool   // xfs_db changes nothing
	ran    []string
}

func (h *host) Run(_ context.Context, name string, args ...string) ([]byte, error) {
	h.ran = append(h.ran, strings.Join(append([]string{name}, args...), " "))
	if name == h.fails {
		return nil, &hostexec.ExitError{Name: name, Code: 1}
	}
	switch {
	case name == "blkid" && h.fsType == "":
		return nil, exits(2)
	case name == "blkid":
		return []byte("TYPE=" + h.fsType + "\n"), nil
	case name == "xfs_db" && !h.sameID:
		image := []byte(xfs(0))
		copy(image[xfsIDAt:], "another UUID....")
		if err := os.WriteFile(h.root+"/dev/share/data", image, 0o600); err != nil {
			h.t.Error(err)
		}
	}
	return nil, nil
}

func TestRenewMakesACopyAFileSystemOfItsOwn(t *testing.T) {
	const look = "blkid -p -o export -- /dev/share/data"
	const newID = "xfs_db -x -p xfs_admin -c uuid generate /dev/share/data"
	for name, test := range map[string]struct {
		fsType string
		grow   bool
		want   []string
	}{
		"ext4":           {"ext4", false, nil},
		"a larger ext4":  {"ext4", true, []string{"mount -t ext4 -- /dev/share/data /mnt/copy", "resize2fs /dev/share/data"}},
		"a larger ext3":  {"ext3", true, []string{"mount -t ext3 -- /dev/share/data /mnt/copy", "resize2fs /dev/share/data"}},
		"xfs":            {"xfs", false, []string{"mount -t xfs -o nouuid -- /dev/share/data /mnt/copy", newID}},
		"a larger xfs":   {"xfs", true, []string{"mount -t xfs -o nouuid -- /dev/share/data /mnt/copy", "xfs_growfs -d /mnt/copy", newID}},
		"btrfs":          {"btrfs", false, []string{"btrfstune -f -m /dev/share/data"}},
		"a larger btrfs": {"btrfs", true, []string{"btrfstune -f -m /dev/share/data", "mount -t btrfs -- /dev/share/data /mnt/copy", "btrfs filesystem resize max /mnt/copy"}},
		"nothing":        {"", true, nil},
		"somebody's":     {"vfat", true, nil},
		"ext2":           {"ext2", true, nil},
	} {
		t.Run(name, func(t *testing.T) {
			image := blank
			switch test.fsType {
			case "xfs":
				image = xfs(0)
			case "btrfs":
				image = btrfs(1, 0)
			}
			h := &host{t: t, root: tree(t, map[string]string{"dev/share/data": image}), fsType: test.fsType}
			if err := New(h, h.root).Renew(t.Context(), "/dev/share/data", "/mnt/copy", test.grow); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(append([]string{look}, test.want...), h.ran); diff != "" {
				t.Errorf("commands (-want +got):\n%s", diff)
			}
			if _, err := os.Stat(h.root + "/mnt/copy"); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the directory to mount at stays: %v", err)
			}
		})
	}
}

func TestRenewSaysWhatFailed(t *testing.T) {
	for name, test := range map[string]struct {
		fsType, fails string
		sameID        bool
		journal       uint64
		says          string
	}{
		"looking":               {fsType: "xfs", fails: "blkid", says: "blkid: exit 1"},
		"mounting":              {fsType: "xfs", fails: "mount", says: "mount: exit 1"},
		"growing":               {fsType: "xfs", fails: "xfs_growfs", says: "xfs_growfs: exit 1"},
		"a new UUID":            {fsType: "xfs", fails: "xfs_db", says: "xfs_db: exit 1"},
		"a new UUID, unnoticed": {fsType: "xfs", sameID: true, says: "no UUID of its own"},
		"a new UUID for a btrfs of other checksums that has a journal": {fsType: "btrfs", journal: 1, says: "journal that is not written back"},
		"a new UUID for a btrfs": {fsType: "btrfs", fails: "btrfstune", says: "btrfstune: exit 1"},
	} {
		t.Run(name, func(t *testing.T) {
			image := xfs(0)
			if test.fsType == "btrfs" {
				image = btrfs(1, test.journal)
			}
			h := &host{t: t, root: tree(t, map[string]string{"dev/share/data": image}), fsType: test.fsType, fails: test.fails, sameID: test.sameID}
			err := New(h, h.root).Renew(t.Context(), "/dev/share/data", "/mnt/copy", true)
			if err == nil || !strings.Contains(err.Error(), test.says) || !strings.Contains(err.Error(), "/dev/share/data") {
				t.Errorf("got %v, want %q", err, test.says)
			}
			if test.fails == "btrfstune" && slices.ContainsFunc(h.ran, func(ran string) bool { return strings.HasPrefix(ran, "mount") }) {
				t.Error("a btrfs was mounted with the UUID of another")
			}
			if _, err := os.Stat(h.root + "/mnt/copy"); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the directory to mount at stays: %v", err)
			}
		})
	}
}

// btrfs is a device with the super block of a btrfs, of that kind of checksum and with
// that journal.
func btrfs(sum uint16, journal uint64) string {
	image := make([]byte, 65<<20)
	for _, at := range btrfsSupers[:2] {
		super := image[at : at+btrfsSuperSize]
		copy(super[btrfsMagic:], btrfsIs)
		copy(super[btrfsID:], "the UUID so far.")
		binary.LittleEndian.PutUint64(super[btrfsAddress:], uint64(at))
		binary.LittleEndian.PutUint64(super[btrfsLog:], journal)
		binary.LittleEndian.PutUint64(super[btrfsIncompat:], 0x341)
		binary.LittleEndian.PutUint16(super[btrfsSumType:], sum)
		binary.LittleEndian.PutUint32(super, crc32.Checksum(super[btrfsSum:], crc32.MakeTable(crc32.Castagnoli)))
	}
	return string(image)
}

func TestABtrfsGetsAnotherUUIDInAllItsSuperBlocks(t *testing.T) {
	h := &host{t: t, root: tree(t, map[string]string{"dev/share/data": btrfs(btrfsCRC32C, 77)}), fsType: "btrfs"}
	renew := func() (id, treeID string) {
		t.Helper()
		if err := New(h, h.root).Renew(t.Context(), "/dev/share/data", "/mnt/copy", false); err != nil {
			t.Fatal(err)
		}
		image, err := os.ReadFile(h.root + "/dev/share/data")
		if err != nil {
			t.Fatal(err)
		}
		for _, at := range btrfsSupers[:2] {
			super := image[at : at+btrfsSuperSize]
			if err := checkBtrfs(super, at); err != nil {
				t.Error(err)
			}
			if binary.LittleEndian.Uint64(super[btrfsLog:]) != 77 || binary.LittleEndian.Uint64(super[btrfsIncompat:]) != 0x341|btrfsHasTreeID {
				t.Error("the super block lost its journal or its features")
			}
			if other := string(super[btrfsID:][:16]); id != "" && other != id {
				t.Errorf("the super blocks have the UUIDs %q and %q", id, other)
			}
			id, treeID = string(super[btrfsID:][:16]), string(super[btrfsTreeID:][:16])
		}
		return id, treeID
	}
	first, treeID := renew()
	if first == "the UUID so far." || treeID != "the UUID so far." {
		t.Errorf("UUID %q, that of the trees %q", first, treeID)
	}
	if second, again := renew(); second == first || again != treeID {
		t.Errorf("a copy of a copy has the UUID %q after %q, that of the trees %q after %q", second, first, again, treeID)
	}
	if slices.ContainsFunc(h.ran, func(ran string) bool { return strings.HasPrefix(ran, "btrfstune") }) {
		t.Error("btrfstune ran")
	}
}

func TestADamagedBtrfsIsNotRenewed(t *testing.T) {
	for name, damage := range map[string]func(image []byte){
		"no super block":       func(image []byte) { clear(image[64<<10:][:4096]) },
		"a wrong checksum":     func(image []byte) { image[64<<10+0x50]++ },
		"one of another place": func(image []byte) { image[64<<10+btrfsAddress]++ },
	} {
		t.Run(name, func(t *testing.T) {
			image := []byte(btrfs(btrfsCRC32C, 0))
			damage(image)
			h := &host{t: t, root: tree(t, map[string]string{"dev/share/data": string(image)}), fsType: "btrfs"}
			if err := New(h, h.root).Renew(t.Context(), "/dev/share/data", "/mnt/copy", false); err == nil || !strings.Contains(err.Error(), "super block") {
				t.Errorf("got %v, want what is wrong with the super block", err)
			}
		})
	}
}
