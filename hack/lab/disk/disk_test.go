package disk

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

const gib = Bytes(1 << 30)

func TestParse(t *testing.T) {
	tests := map[string]struct {
		text string
		want []Bytes
		err  string
	}{
		"nothing is no disks":                   {text: ""},
		"a size alone is one disk":              {text: "4G", want: []Bytes{4 * gib}},
		"a count and a size are that many":      {text: "2x4G", want: []Bytes{4 * gib, 4 * gib}},
		"several kinds keep their order":        {text: "1G,2x512M", want: []Bytes{gib, gib / 2, gib / 2}},
		"a number without a unit is refused":    {text: "2x4096", err: "want a number and one of K, M, G, T"},
		"no disks of a size is a mistake":       {text: "0x4G", err: "want COUNTxSIZE"},
		"an empty part is a mistake":            {text: "4G,", err: `size ""`},
		"a disk of no size is a mistake":        {text: "0G", err: "above zero"},
		"a negative size is a mistake":          {text: "-4G", err: "whole number"},
		"more disks than the kernel can have":   {text: "16x1G", err: "16 disks, but a machine can have 15"},
		"a size beyond all bounds is a mistake": {text: "99999999999T", err: "whole number"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := Parse(test.text)
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Fatalf("got %v, want an error with %q", err, test.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("disks (-want +got):\n%s", diff)
			}
		})
	}
}

func TestSizesAreWrittenAsTheyAreRead(t *testing.T) {
	for _, text := range []string{"1K", "512M", "4G", "3T", "1025M"} {
		size, err := ParseBytes(text)
		if err != nil {
			t.Fatal(err)
		}
		if size.String() != text {
			t.Errorf("%s is written %s", text, size)
		}
	}
}

func TestDisksHaveTheKernelsNames(t *testing.T) {
	got := []string{Device(0), Device(1), Alias(2), Device(Max)}
	if diff := cmp.Diff([]string{"/dev/ubda", "/dev/ubdb", "/dev/vdc", "/dev/ubdp"}, got); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
}

func TestCreateKeepsWhatIsThere(t *testing.T) {
	file := filepath.Join(t.TempDir(), "disks", "a.img")
	for range 2 {
		if err := Create(file, 1<<20); err != nil {
			t.Fatal(err)
		}
	}
	if err := Create(file, 2<<20); err == nil || !strings.Contains(err.Error(), "1048576 bytes, not 2M") {
		t.Errorf("a disk of another size: got %v, want an error with both sizes", err)
	}
}

func TestACopyHasTheSameBytesAndHoles(t *testing.T) {
	from, to := filepath.Join(t.TempDir(), "from"), filepath.Join(t.TempDir(), "to")
	if err := Create(from, 64<<20); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(from, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []int64{0, 5 << 20, 40<<20 + 123} {
		if _, err := f.WriteAt([]byte("here"), at); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := Copy(from, to); err != nil {
		t.Fatal(err)
	}
	want, got := read(t, from), read(t, to)
	if !bytes.Equal(want, got) {
		t.Error("the copy differs")
	}
	var stat unix.Stat_t
	if err := unix.Stat(to, &stat); err != nil {
		t.Fatal(err)
	}
	if used := stat.Blocks * 512; used > 1<<20 {
		t.Errorf("the copy takes %d bytes for 12 that are not zero", used)
	}
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
