package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/fsnotify/fsnotify"
)

// LVM writes a group's metadata into a file of this directory whenever they
// change (lvm.conf, backup/backup), also where no device appears or goes: a tag,
// a new physical volume. The directory is missing until LVM first writes there.
var backupPath = []string{"etc", "lvm", "backup"}

// watchMetadata calls changed when a volume group's metadata changed, until ctx
// ends. root is where the host's root directory is.
func watchMetadata(ctx context.Context, root string, changed func()) error {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watching LVM's metadata: %w", err)
	}
	defer func() { _ = watcher.Close() }()

	w := metadataWatch{root: root, watcher: watcher}
	if err := w.arm(); err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-watcher.Errors:
			if !errors.Is(err, fsnotify.ErrEventOverflow) {
				return fmt.Errorf("watching %s: %w", w.watched, err)
			}
			changed() // events were lost
		case event := <-watcher.Events:
			tell, err := w.event(event)
			if err != nil {
				return err
			}
			if tell {
				changed()
			}
		}
	}
}

// A metadataWatch watches the backup directory, or as long as that is missing the
// nearest directory above it that is there.
type metadataWatch struct {
	root    string
	watcher *fsnotify.Watcher
	watched string
	awaits  string // the entry of watched to wait for; empty in the backup directory
}

// arm watches the deepest directory there is.
func (w *metadataWatch) arm() error {
	for {
		if err := w.watchDeepest(); err != nil {
			return err
		}
		if w.awaits == "" {
			return nil
		}
		if _, err := os.Stat(filepath.Join(w.watched, w.awaits)); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		// It was made before the watch could tell.
	}
}

func (w *metadataWatch) watchDeepest() error {
	if w.watched != "" {
		// The directory may be gone, and its watch with it.
		_ = w.watcher.Remove(w.watched)
	}
	for depth := len(backupPath); depth >= 0; depth-- {
		directory := filepath.Join(append([]string{w.root}, backupPath[:depth]...)...)
		err := w.watcher.Add(directory)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("watching %s: %w", directory, err)
		}
		w.watched, w.awaits = directory, ""
		if depth < len(backupPath) {
			w.awaits = backupPath[depth]
		}
		return nil
	}
	return fmt.Errorf("watching %s: %w", w.root, fs.ErrNotExist)
}

// event deals with one event and reports whether metadata may have changed.
func (w *metadataWatch) event(event fsnotify.Event) (changed bool, err error) {
	name := filepath.Base(event.Name)
	switch {
	case event.Name == w.watched && event.Has(fsnotify.Remove|fsnotify.Rename):
		return true, w.arm()
	case w.awaits == "":
		// LVM writes ".lvm_<host>_<pid>_<n>" first and renames that.
		return !strings.HasPrefix(name, ".") && !event.Has(fsnotify.Chmod), nil
	case name == w.awaits && event.Has(fsnotify.Create):
		return true, w.arm()
	}
	return false, nil
}
