//go:build !root

// These tests are long and need neither root nor the machine in which such tests run.

package blockcopy_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/open-local/open-local/pkg/blockcopy"
)

// These tests want mkfs and the programs that check of ext2, ext3, ext4, xfs and btrfs.
// They work on files.

// content is what the file systems of these tests hold: files by name.
func content() map[string][]byte {
	files := map[string][]byte{"empty": {}, "small": []byte("a few bytes\n")}
	for i := range 24 {
		files[fmt.Sprintf("part-%02d", i)] = noise(uint64(i), 40_000+i*30_011)
	}
	files["holes"] = append(append(noise(99, 100_000), make([]byte, 3*mib)...), noise(98, 5000)...)
	return files
}

// image makes a file system in a file of a size and returns the path of the file and
// what is in the file system. Every third file is removed again.
func image(t *testing.T, size int64, mkfs ...string) (string, map[string][]byte) {
	t.Helper()
	dir := t.TempDir()
	files := content()
	path, tree := filepath.Join(dir, "image"), filepath.Join(dir, "tree")
	if err := os.Mkdir(tree, 0o700); err != nil {
		t.Fatal(err)
	}
	var proto strings.Builder
	fmt.Fprintln(&proto, "-\n0 0\nd--755 0 0")
	for name, data := range files {
		write(t, filepath.Join(tree, name), data)
		fmt.Fprintln(&proto, name, "---644 0 0", filepath.Join(tree, name))
	}
	fmt.Fprintln(&proto, "$")
	write(t, filepath.Join(dir, "proto"), []byte(proto.String()))
	former(t, path, size)
	kind := mkfs[0]
	args := mkfs[1:]
	switch kind {
	case "mkfs.xfs":
		args = append(args, "-q", "-f", "-p", filepath.Join(dir, "proto"), path)
	case "mkfs.btrfs":
		args = append(args, "-q", "-f", "--rootdir", tree, path)
	default:
		args = append(args, "-q", "-F", "-d", tree, path)
	}
	program(t, kind, args...)
	if strings.HasPrefix(kind, "mkfs.ext") {
		for i := 0; i < 24; i += 3 {
			name := fmt.Sprintf("part-%02d", i)
			program(t, "debugfs", "-w", "-R", "rm /"+name, path)
			delete(files, name)
		}
		if err := os.RemoveAll(tree); err != nil {
			t.Fatal(err)
		}
	}
	return path, files
}

// wantSound checks a file system with its own programs.
func wantSound(t *testing.T, kind, path string) {
	t.Helper()
	switch {
	case strings.HasPrefix(kind, "mkfs.ext"):
		program(t, "e2fsck", "-f", "-n", path)
	case kind == "mkfs.xfs":
		program(t, "xfs_repair", "-n", path)
	default:
		program(t, "btrfs", "check", "--readonly", "--check-data-csum", path)
	}
}

var extent = regexp.MustCompile(`data offset (\d+) startblock (\d+) \(\d+/\d+\) count (\d+)`)

// wantContent reads the files of a file system and compares them.
func wantContent(t *testing.T, kind, path string, files map[string][]byte) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out")
	for name, want := range files {
		var got []byte
		switch {
		case strings.HasPrefix(kind, "mkfs.ext"):
			program(t, "debugfs", "-R", "dump /"+name+" "+out, path)
			data, err := os.ReadFile(out)
			if err != nil {
				t.Fatal(err)
			}
			got = data
		case kind == "mkfs.xfs":
			got = readXFS(t, path, name, len(want))
		default:
			continue // its checksums of data were checked
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s has %d bytes that are not the %d of the source", name, len(got), len(want))
		}
	}
}

// readXFS reads a file where xfs_db says that it lies.
func readXFS(t *testing.T, path, name string, size int) []byte {
	t.Helper()
	image, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = image.Close() }()
	const block = 4096
	shift, err := strconv.Atoi(strings.TrimSpace(strings.TrimPrefix(program(t, "xfs_db", "-r", "-c", "sb 0", "-c", "p agblklog", path), "agblklog =")))
	if err != nil {
		t.Fatal(err)
	}
	perGroup, err := strconv.Atoi(strings.TrimSpace(strings.TrimPrefix(program(t, "xfs_db", "-r", "-c", "sb 0", "-c", "p agblocks", path), "agblocks =")))
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, (size+block-1)/block*block)
	for _, found := range extent.FindAllStringSubmatch(program(t, "xfs_db", "-r", "-c", "path /"+name, "-c", "bmap", path), -1) {
		var n [3]int
		for i := range n {
			if n[i], err = strconv.Atoi(found[i+1]); err != nil {
				t.Fatal(err)
			}
		}
		at := (n[1]>>shift*perGroup + n[1]&(1<<shift-1)) * block
		end := min((n[0]+n[2])*block, len(got))
		if _, err := image.ReadAt(got[n[0]*block:end], int64(at)); err != nil {
			t.Fatal(err)
		}
	}
	return got[:size]
}

func TestFileSystemsAreCopiedByTheirMaps(t *testing.T) {
	for name, test := range map[string]struct {
		size int64
		mkfs []string
		used string // the map that is followed; empty: everything is read
	}{
		"ext2":                                   {64 * mib, []string{"mkfs.ext2"}, "ext"},
		"ext3":                                   {64 * mib, []string{"mkfs.ext3"}, "ext"},
		"ext4":                                   {160 * mib, []string{"mkfs.ext4"}, "ext"},
		"ext4 of small blocks":                   {64 * mib, []string{"mkfs.ext4", "-b", "1024"}, "ext"},
		"ext4 of blocks of 2 KiB":                {64 * mib, []string{"mkfs.ext4", "-b", "2048"}, "ext"},
		"ext4 of blocks of 4 KiB":                {600 * mib, []string{"mkfs.ext4", "-b", "4096"}, "ext"},
		"ext4 of 32 bits":                        {160 * mib, []string{"mkfs.ext4", "-O", "^64bit"}, "ext"},
		"ext4 without checksums":                 {160 * mib, []string{"mkfs.ext4", "-O", "^metadata_csum,^uninit_bg"}, "ext"},
		"ext4 with uninit_bg alone":              {160 * mib, []string{"mkfs.ext4", "-O", "^metadata_csum,uninit_bg"}, "ext"},
		"ext4 with uninit_bg alone, of 32 bits":  {160 * mib, []string{"mkfs.ext4", "-O", "^metadata_csum,^64bit,uninit_bg"}, "ext"},
		"ext4 with meta_bg":                      {160 * mib, []string{"mkfs.ext4", "-b", "1024", "-O", "meta_bg,^resize_inode"}, "ext"},
		"ext4 without flex_bg":                   {64 * mib, []string{"mkfs.ext4", "-b", "1024", "-O", "^flex_bg"}, "ext"},
		"ext4 without sparse_super":              {64 * mib, []string{"mkfs.ext4", "-b", "1024", "-O", "^sparse_super,^resize_inode"}, "ext"},
		"ext4 with a seed for its checksums":     {64 * mib, []string{"mkfs.ext4", "-O", "metadata_csum_seed"}, "ext"},
		"ext4 smaller than its device":           {64 * mib, []string{"mkfs.ext4", "-E", "resize=1G"}, "ext"},
		"ext4 of clusters":                       {64 * mib, []string{"mkfs.ext4", "-O", "bigalloc"}, ""},
		"ext4 of odd groups":                     {64 * mib, []string{"mkfs.ext4", "-b", "4096", "-g", "8192"}, ""},
		"ext4 with sparse_super2":                {64 * mib, []string{"mkfs.ext4", "-O", "sparse_super2"}, ""},
		"xfs":                                    {320 * mib, []string{"mkfs.xfs"}, "xfs"},
		"xfs with rmap":                          {320 * mib, []string{"mkfs.xfs", "-m", "rmapbt=1"}, "xfs"},
		"xfs of many groups":                     {2048 * mib, []string{"mkfs.xfs", "-d", "agcount=16", "-l", "size=64m"}, "xfs"},
		"xfs of blocks of 1 KiB":                 {320 * mib, []string{"mkfs.xfs", "-b", "size=1024", "-m", "reflink=0"}, "xfs"},
		"xfs of sectors of 4 KiB, a striped log": {320 * mib, []string{"mkfs.xfs", "-s", "size=4096", "-l", "su=65536"}, "xfs"},
		"xfs of version 4":                       {320 * mib, []string{"mkfs.xfs", "-m", "crc=0,reflink=0"}, ""},
		"btrfs":                                  {128 * mib, []string{"mkfs.btrfs"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			source, files := image(t, test.size, test.mkfs...)
			target := source + "-copy"
			former(t, target, test.size+8*mib)
			got, err := blockcopy.New("/").Copy(t.Context(), source, target, blockcopy.Options{Verify: 8})
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%+v", got)
			if got.FileSystem != test.used || (got.Because == "") != (test.used != "") {
				t.Errorf("the map of %q was followed, not of %q: %s", got.FileSystem, test.used, got.Because)
			}
			if int64(got.Read+got.Unused) != test.size || got.Read != got.Written+got.Zeroed {
				t.Errorf("of %d bytes %d were read, %d are unused, %d written and %d zeroed", test.size, got.Read, got.Unused, got.Written, got.Zeroed)
			}
			if test.used != "" && int64(got.Unused) < test.size/4 {
				t.Errorf("only %d of %d bytes are unused", got.Unused, test.size)
			}
			// The copy is of the size of the source before its programs look at it.
			if err := os.Truncate(target, test.size); err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(name, "version 4") {
				wantSound(t, test.mkfs[0], target)
			}
			if !strings.Contains(name, "1 KiB") {
				wantContent(t, test.mkfs[0], target, files)
			}
		})
	}
}
