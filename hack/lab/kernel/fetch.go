package kernel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// release is the version of the package that is fetched.
const release = "7.2um1"

// A download is a package of Debian's archive, known by its contents.
type download struct {
	name, path, sum string
}

// downloads are the kernel, and the C library that it was linked with: the host's own
// may be older. They belong to a later release of Debian than the host.
var downloads = []download{
	{"uml", "pool/main/u/user-mode-linux/user-mode-linux_7.2um1_amd64.deb", "f947c9244fd79d481299df2ad68961f6b3b7703bff38c4b0e726f861161da62c"},
	{"libc", "pool/main/g/glibc/libc6_2.43-7_amd64.deb", "5c71715c51103beb4fbba9fe9f8dff604af6610dfa71c70bff342f54a7860803"},
}

// pause is how long it is not tried again where it failed.
const pause = time.Hour

// Fetch gets the kernel unless it is there. A machine runs without it, slower: so what
// went wrong is told on progress, and is no error.
func Fetch(ctx context.Context, progress io.Writer) {
	if err := fetch(ctx, progress); err != nil {
		fmt.Fprintf(progress, "the lab goes on with the installed kernel %s, which takes twice the time: %v\n", installed.Binary, err)
	}
}

func fetch(ctx context.Context, progress io.Writer) error {
	dir, err := directory()
	if err != nil || os.Getenv(Variable) == "installed" || there(in(dir).Binary) {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("making a directory for the kernel: %w", err)
	}
	unlock, err := lock(filepath.Join(dir, "lock"))
	if err != nil {
		return err
	}
	defer unlock()
	if there(in(dir).Binary) { // another lab was faster
		return nil
	}
	failed := filepath.Join(dir, "failed")
	if info, err := os.Stat(failed); err == nil && time.Since(info.ModTime()) < pause {
		said, err := os.ReadFile(failed)
		return errors.Join(errors.New(strings.TrimSpace(string(said))), err)
	}
	fmt.Fprintf(progress, "fetching User-Mode Linux %s, which is faster than the installed one\n", release)
	if err := get(ctx, dir); err != nil {
		if ctx.Err() != nil {
			return err
		}
		return errors.Join(err, os.WriteFile(failed, []byte(err.Error()+"\n"), 0o644))
	}
	return nil
}

// get puts the kernel into dir. Its binary comes last: when that is there, all is.
func get(ctx context.Context, dir string) error {
	mirror, err := mirror(ctx)
	if err != nil {
		return err
	}
	for _, d := range downloads {
		file := filepath.Join(dir, d.name+".deb")
		if err := run(ctx, "/usr/lib/apt/apt-helper", "download-file", mirror+d.path, file, "SHA256:"+d.sum); err != nil {
			return err
		}
		if err := errors.Join(run(ctx, "dpkg-deb", "-x", file, filepath.Join(dir, d.name)), os.Remove(file)); err != nil {
			return err
		}
	}
	part := filepath.Join(dir, "linux.uml.part")
	libraries := filepath.Join(dir, "libc", "usr", "lib", "x86_64-linux-gnu")
	if err := run(ctx, "patchelf", "--set-interpreter", filepath.Join(libraries, "ld-linux-x86-64.so.2"),
		"--set-rpath", libraries, "--output", part, filepath.Join(dir, "uml", "usr", "bin", "linux.uml")); err != nil {
		return err
	}
	if err := run(ctx, part, "--version"); err != nil {
		return err
	}
	if err := os.Rename(part, in(dir).Binary); err != nil {
		return fmt.Errorf("putting the kernel in its place: %w", err)
	}
	return nil
}

// mirror returns the address of the archive from which this host has its packages, with
// a slash at its end.
func mirror(ctx context.Context) (string, error) {
	const known = "user-mode-linux"
	said, err := exec.CommandContext(ctx, "apt-get", "download", "--print-uris", known).Output()
	if err != nil {
		return "", fmt.Errorf("asking apt-get where package %s comes from: %w", known, err)
	}
	mirror, _, ok := strings.Cut(strings.TrimPrefix(string(said), "'"), "pool/")
	if !ok {
		return "", fmt.Errorf("asking apt-get where package %s comes from: it said %q", known, said)
	}
	return mirror, nil
}

func run(ctx context.Context, argv ...string) error {
	if said, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("running %s: %w: %s", strings.Join(argv, " "), err, strings.TrimSpace(string(said)))
	}
	return nil
}

// lock waits until nobody else has the file locked, and locks it.
func lock(path string) (func(), error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking the kernel: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("locking %s: %w", path, err), f.Close())
	}
	return func() { _ = f.Close() }, nil
}
