package exclusive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// lostAndFound is what making an ext file system leaves in it.
const lostAndFound = "lost+found"

// empty deletes all that is in the directory top, whatever it is called and however deep
// it lies, but the directory itself, and of ext's lost+found only what is in it. It
// follows no symbolic link and crosses no mount. It keeps few directories open: what
// lies deeper than one level is brought up first.
func empty(ctx context.Context, top *os.File) error {
	e := emptier{ctx: ctx}
	if err := e.empty(top, lostAndFound); err != nil {
		return err
	}
	lost, err := enter(top, lostAndFound)
	switch {
	case errors.Is(err, unix.ENOENT):
		return nil
	case errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP): // somebody took the name for something else
		return e.remove(top, top, lostAndFound)
	case err != nil:
		return wrap(err, top, lostAndFound)
	}
	return errors.Join(e.empty(lost, ""), lost.Chown(0, 0), lost.Chmod(0o700), lost.Close())
}

type emptier struct {
	ctx    context.Context //nolint:containedctx // of one call
	raised int             // how many directories were brought up
}

// batch is how many names are read at once.
const batch = 1024

// empty deletes all in top but the entry kept.
func (e *emptier) empty(top *os.File, kept string) error {
	for {
		left, err := e.names(top)
		if err != nil {
			return err
		}
		removed := 0
		for _, name := range left {
			if name == kept {
				continue
			}
			if err := e.remove(top, top, name); err != nil {
				return err
			}
			removed++
		}
		if removed == 0 {
			return nil
		}
	}
}

// names returns some of what is in a directory now.
func (e *emptier) names(dir *os.File) ([]string, error) {
	if err := e.ctx.Err(); err != nil {
		return nil, fmt.Errorf("emptying %s: %w", dir.Name(), context.Cause(e.ctx))
	}
	// Whoever deletes while reading may be given what is gone, or not what is left.
	if _, err := dir.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	names, err := dir.Readdirnames(batch)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return names, err
}

// remove deletes an entry of dir. A directory that holds others is emptied first, and
// they are brought up to top.
func (e *emptier) remove(top, dir *os.File, name string) error {
	err := unlink(dir, name, 0)
	if errors.Is(err, unix.EPERM) && mayChange(dir, name) {
		err = unlink(dir, name, 0)
	}
	if !errors.Is(err, unix.EISDIR) {
		return wrap(err, dir, name)
	}
	if err = unlink(dir, name, unix.AT_REMOVEDIR); errors.Is(err, unix.EPERM) && mayChange(dir, name) {
		err = unlink(dir, name, unix.AT_REMOVEDIR)
	}
	if !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, unix.EEXIST) {
		return wrap(err, dir, name)
	}
	if dir != top {
		return e.raise(top, dir, name)
	}
	return e.clear(top, name)
}

// clear deletes a directory of top with all that is in it.
func (e *emptier) clear(top *os.File, name string) error {
	child, err := enter(top, name)
	if err != nil {
		return wrap(err, top, name)
	}
	for {
		names, err := e.names(child)
		if err != nil || len(names) == 0 {
			if err = errors.Join(err, child.Close()); err != nil {
				return err
			}
			return wrap(unlink(top, name, unix.AT_REMOVEDIR), top, name)
		}
		for _, inner := range names {
			if err := e.remove(top, child, inner); err != nil {
				return errors.Join(err, child.Close())
			}
		}
	}
}

// raise brings a directory up to top, where it is come across again. One that cannot be
// moved, because it is a file system within the file system (of btrfs), is emptied in
// its place.
func (e *emptier) raise(top, dir *os.File, name string) error {
	for {
		e.raised++
		err := unix.Renameat2(int(dir.Fd()), name, int(top.Fd()), fmt.Sprintf(".open-local-empties-%d", e.raised), unix.RENAME_NOREPLACE)
		switch {
		case errors.Is(err, unix.EEXIST):
			continue
		case errors.Is(err, unix.EPERM) && mayChange(dir, name):
			continue
		case !errors.Is(err, unix.EXDEV):
			return wrap(err, dir, name)
		}
		child, err := enter(dir, name)
		if err != nil {
			return wrap(err, dir, name)
		}
		if err := errors.Join(e.empty(child, ""), child.Close()); err != nil {
			return err
		}
		return wrap(unlink(dir, name, unix.AT_REMOVEDIR), dir, name)
	}
}

// unlink deletes an entry; one that is gone already is no error.
func unlink(dir *os.File, name string, flags int) error {
	err := unix.Unlinkat(int(dir.Fd()), name, flags)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

// enter opens a directory within dir: no symbolic link, and nothing that is mounted there.
func enter(dir *os.File, name string) (*os.File, error) {
	fd, err := unix.Openat2(int(dir.Fd()), name, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV | unix.RESOLVE_BENEATH,
	})
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), dir.Name()+"/"+name), nil
}

// mayChange takes the flags off a file or directory, and off the directory that it is in,
// with which somebody kept everybody from changing it (chattr +i, +a). It reports
// whether there were any.
func mayChange(dir *os.File, name string) bool {
	var stat unix.Stat_t
	if err := unix.Fstatat(int(dir.Fd()), name, &stat, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return false
	}
	changed := changeable(int(dir.Fd())) // it keeps its entries, too
	if kind := stat.Mode & unix.S_IFMT; kind != unix.S_IFREG && kind != unix.S_IFDIR {
		return changed // only those have flags, and opening a device does things
	}
	fd, err := unix.Openat2(int(dir.Fd()), name, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV | unix.RESOLVE_BENEATH,
	})
	if err != nil {
		return changed
	}
	defer func() { _ = unix.Close(fd) }()
	return changeable(fd) || changed
}

func changeable(fd int) bool {
	const keeps = unix.STATX_ATTR_IMMUTABLE | unix.STATX_ATTR_APPEND // the same bits as the flags'
	flags, err := unix.IoctlGetInt(fd, unix.FS_IOC_GETFLAGS)
	return err == nil && flags&keeps != 0 && unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, flags&^keeps) == nil
}

func wrap(err error, dir *os.File, name string) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("deleting %s/%s: %w", dir.Name(), name, err)
}
