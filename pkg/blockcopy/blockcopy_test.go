package blockcopy_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/open-local/open-local/pkg/blockcopy"
	"github.com/open-local/open-local/pkg/capacity"
)

func TestCopyLeavesNoByteOfAFormerOwner(t *testing.T) {
	data := append(append(noise(1, 5*mib), make([]byte, 7*mib)...), noise(2, 3*mib)...)
	for name, test := range map[string]struct {
		source  []byte
		target  int64
		options blockcopy.Options
		want    blockcopy.Result
		rest    bool // the rest is to be zero
	}{
		"data and zeros":            {data, 15 * mib, blockcopy.Options{Verify: 3}, blockcopy.Result{Read: 15 * mib, Written: 8 * mib, Zeroed: 7 * mib}, true},
		"a larger target":           {data, 80 * mib, blockcopy.Options{ZeroRest: true}, blockcopy.Result{Read: 15 * mib, Written: 8 * mib, Zeroed: 72 * mib}, true},
		"a larger target left so":   {data, 20 * mib, blockcopy.Options{}, blockcopy.Result{Read: 15 * mib, Written: 8 * mib, Zeroed: 7 * mib}, false},
		"an end between sectors":    {data[:5*mib+100], 6*mib + 7, blockcopy.Options{ZeroRest: true, Verify: 100}, blockcopy.Result{Read: 5*mib + 100, Written: 5 * mib, Zeroed: 107 + mib - 100}, true},
		"nothing but zeros":         {make([]byte, 3*mib), 3 * mib, blockcopy.Options{Verify: 1}, blockcopy.Result{Read: 3 * mib, Zeroed: 3 * mib}, true},
		"nothing":                   {nil, 4096, blockcopy.Options{ZeroRest: true}, blockcopy.Result{Zeroed: 4096}, true},
		"a sector among zeros":      {append(make([]byte, 3*mib), noise(3, 512)...), 3*mib + 512, blockcopy.Options{}, blockcopy.Result{Read: 3*mib + 512, Written: 512, Zeroed: 3 * mib}, true},
		"short runs of zeros":       {bytes.Repeat(append(noise(4, 4096), make([]byte, 4096)...), 128), mib, blockcopy.Options{}, blockcopy.Result{Read: mib, Written: mib}, true},
		"everything because asked":  {data, 15 * mib, blockcopy.Options{Everything: true}, blockcopy.Result{Read: 15 * mib, Written: 8 * mib, Zeroed: 7 * mib}, true},
		"less than one file system": {noise(5, 100), 100, blockcopy.Options{Verify: 1}, blockcopy.Result{Read: 100, Written: 100}, true},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			source, target := filepath.Join(dir, "source"), filepath.Join(dir, "target")
			write(t, source, test.source)
			write(t, target, noise(7, int(test.target)))
			var done, total capacity.Bytes
			test.options.Progress = func(d, of capacity.Bytes) {
				if d < done || d > of || total != 0 && of != total {
					t.Errorf("progress went from %d of %d to %d of %d", done, total, d, of)
				}
				done, total = d, of
			}
			got, err := blockcopy.New(dir).Copy(t.Context(), "/source", "/target", test.options)
			if err != nil {
				t.Fatal(err)
			}
			if got.Because == "" {
				t.Error("everything was read and nothing says why")
			}
			got.Because = ""
			// Only whole grains are written as zeros.
			if diff := cmp.Diff(test.want.Read, got.Read); diff != "" || got.Written+got.Zeroed != test.want.Written+test.want.Zeroed || got.Written < test.want.Written {
				t.Errorf("result is %+v, want %+v", got, test.want)
			}
			if done != total || total != got.Written+got.Zeroed {
				t.Errorf("the last progress was %d of %d", done, total)
			}
			have, err := os.ReadFile(target)
			if err != nil {
				t.Fatal(err)
			}
			rest := noise(7, int(test.target))[len(test.source):]
			if test.rest {
				rest = make([]byte, len(rest))
			}
			if int64(len(have)) != test.target || !bytes.Equal(have[:len(test.source)], test.source) || !bytes.Equal(have[len(test.source):], rest) {
				t.Error("the target is not a copy of the source")
			}
		})
	}
}

func TestZerosStayHoles(t *testing.T) {
	dir := t.TempDir()
	source, target := filepath.Join(dir, "source"), filepath.Join(dir, "target")
	write(t, source, noise(1, mib))
	if err := os.Truncate(source, 64*mib); err != nil {
		t.Fatal(err)
	}
	former(t, target, 64*mib)
	if _, err := blockcopy.New("/").Copy(t.Context(), source, target, blockcopy.Options{}); err != nil {
		t.Fatal(err)
	}
	var stat unix.Stat_t
	if err := unix.Stat(target, &stat); err != nil {
		t.Fatal(err)
	}
	if stat.Blocks*512 > 2*mib {
		t.Errorf("a copy of %d bytes of data takes %d", mib, stat.Blocks*512)
	}
}

func TestWhatCannotBeCopiedIsLeftAsItWas(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "large"), noise(1, 2*mib))
	write(t, filepath.Join(dir, "small"), noise(2, mib))
	for name, test := range map[string]struct {
		source, target, says string
		err                  error
	}{
		"a target that is too small": {"/large", "/small", "/large has 2Mi, /small has 1Mi", blockcopy.ErrTooSmall},
		"no source":                  {"/none", "/small", "copying /none to /small", os.ErrNotExist},
		"no target":                  {"/small", "/none", "copying /small to /none", os.ErrNotExist},
		"a directory":                {"/", "/small", "neither a block device nor a file", nil},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := blockcopy.New(dir).Copy(t.Context(), test.source, test.target, blockcopy.Options{})
			if err == nil || test.err != nil && !errors.Is(err, test.err) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v, want %v that says %q", err, test.err, test.says)
			}
		})
	}
	if have, err := os.ReadFile(filepath.Join(dir, "small")); err != nil || !bytes.Equal(have, noise(2, mib)) {
		t.Errorf("the target was changed: %v", err)
	}
}

func TestCopyStopsBetweenTwoPieces(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "source"), noise(1, 64*mib))
	write(t, filepath.Join(dir, "target"), make([]byte, 64*mib))
	changed := errors.New("changed its mind")
	ctx, cancel := context.WithCancelCause(t.Context())
	var done capacity.Bytes
	_, err := blockcopy.New(dir).Copy(ctx, "/source", "/target", blockcopy.Options{Progress: func(d, _ capacity.Bytes) {
		if done = d; d >= 8*mib {
			cancel(changed)
		}
	}})
	if !errors.Is(err, changed) || !strings.Contains(err.Error(), "of 64Mi done") {
		t.Errorf("got %v, want how much was done and why not more", err)
	}
	if done > 16*mib {
		t.Errorf("%s were copied after it should have stopped at 8Mi", done)
	}
}

func TestAnEndedContextCopiesNothing(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "source"), noise(1, mib))
	write(t, filepath.Join(dir, "target"), make([]byte, mib))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := blockcopy.New(dir).Copy(ctx, "/source", "/target", blockcopy.Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want Canceled", err)
	}
	if have, err := os.ReadFile(filepath.Join(dir, "target")); err != nil || !bytes.Equal(have, make([]byte, mib)) {
		t.Errorf("something was copied: %v", err)
	}
}

func TestADifferenceIsFound(t *testing.T) {
	dir := t.TempDir()
	source, target := filepath.Join(dir, "source"), filepath.Join(dir, "target")
	write(t, source, noise(1, 4*mib))
	write(t, target, make([]byte, 4*mib))
	other, err := os.OpenFile(target, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close() }()
	_, err = blockcopy.New("/").Copy(t.Context(), source, target, blockcopy.Options{Verify: 4, Progress: func(done, total capacity.Bytes) {
		if done == total {
			if _, err := other.WriteAt(make([]byte, 4096), 2*mib); err != nil {
				t.Error(err)
			}
		}
	}})
	if !errors.Is(err, blockcopy.ErrDiffers) || !strings.Contains(err.Error(), "at byte 2097152") {
		t.Errorf("got %v, want ErrDiffers at byte 2097152", err)
	}
}

// BenchmarkCopy prints how fast a copy is beside dd with direct IO, on files.
func BenchmarkCopy(b *testing.B) {
	const size = 512 * mib
	dir := b.TempDir()
	source, target := filepath.Join(dir, "source"), filepath.Join(dir, "target")
	write(b, source, bytes.Repeat(noise(1, 4*mib), size/(4*mib)))
	write(b, target, bytes.Repeat(noise(2, 4*mib), size/(4*mib)))
	unix.Sync()
	b.Run("copy", func(b *testing.B) {
		b.SetBytes(size)
		for b.Loop() {
			if _, err := blockcopy.New("/").Copy(b.Context(), source, target, blockcopy.Options{}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("dd", func(b *testing.B) {
		b.SetBytes(size)
		for b.Loop() {
			program(b, "dd", "if="+source, "of="+target, "bs=1M", "iflag=direct", "oflag=direct", "conv=notrunc,fsync", "status=none")
		}
	})
}
