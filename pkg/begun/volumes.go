package begun

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"

	"golang.org/x/sys/unix"
)

// VolumesDir is where a host keeps which logical volumes are being made, in its root.
const VolumesDir = "/var/lib/open-local/making"

// Volumes remembers, over restarts, which logical volumes are being made and have not been
// handed to anybody. LVM makes a volume known before it clears what a former tenant left
// on it: one whose making was cut short in between looks whole. Each has a token, which
// its maker also writes on the volume, so that another of the same name is not taken for
// it. What is written is on disk when a call returns, or was not written at all. Its
// methods may be called from any goroutine, for one volume from one at a time.
type Volumes struct {
	dir string
}

// NewVolumes returns what the host whose root file system is at root remembers.
func NewVolumes(root string) *Volumes { return &Volumes{dir: filepath.Join(root, VolumesDir)} }

var tokenForm = regexp.MustCompile(`^[0-9a-f]{16}$`)

// Token returns the token of the volume with that name, and "" if it is not being made.
func (v *Volumes) Token(name string) (string, error) {
	content, err := os.ReadFile(filepath.Join(v.dir, name))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", nil
	case err != nil:
		return "", fmt.Errorf("reading whether volume %s is being made: %w", name, err)
	case !tokenForm.Match(content):
		return "", fmt.Errorf("reading whether volume %s is being made: %s holds %q, which was not written here; remove the file if the volume holds nothing of a former tenant",
			name, filepath.Join(v.dir, name), content)
	}
	return string(content), nil
}

// Begin remembers that the volume is being made, and returns its token: that of an earlier
// attempt that never ended, or a new one.
func (v *Volumes) Begin(name string) (string, error) {
	token, err := v.Token(name)
	if token != "" || err != nil {
		return token, err
	}
	random := make([]byte, 8)
	_, _ = rand.Read(random) // never fails
	token = hex.EncodeToString(random)
	if err := writeFile(v.dir, name, []byte(token)); err != nil {
		return "", fmt.Errorf("remembering that volume %s is being made: %w", name, err)
	}
	return token, nil
}

// End forgets a volume that is made, or is not there. It writes nothing where nothing is
// remembered.
func (v *Volumes) End(name string) error {
	err := os.Remove(filepath.Join(v.dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = syncDir(v.dir)
	}
	if err != nil {
		return fmt.Errorf("forgetting that volume %s was being made: %w", name, err)
	}
	return nil
}

// writeFile has the file with that content on disk, or as it was.
func writeFile(dir, name string, content []byte) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	file, err := os.CreateTemp(dir, "."+name+"-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(file.Name()) }() // after it was renamed there is none
	_, err = file.Write(content)
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	if err := os.Rename(file.Name(), filepath.Join(dir, name)); err != nil {
		return err
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	names, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(os.NewSyscallError("fsync", unix.Fsync(int(names.Fd()))), names.Close())
}
