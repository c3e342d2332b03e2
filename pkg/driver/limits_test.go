//go:build !root

package driver_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/open-local/open-local/pkg/driver"
	"github.com/open-local/open-local/pkg/iolimit"
)

// limits are the cgroups of a node, and what its people were told.
type limits struct {
	t      testing.TB
	dir    string
	keeper *iolimit.Keeper

	mu   sync.Mutex // guards told
	told []string
}

// newLimits makes a node that can limit.
func newLimits(t testing.TB) *limits {
	t.Helper()
	l := &limits{t: t, dir: t.TempDir()}
	if err := errors.Join(
		os.Mkdir(filepath.Join(l.dir, "kubepods"), 0o750),
		os.WriteFile(filepath.Join(l.dir, "cgroup.controllers"), []byte("cpu io memory\n"), 0o600),
		os.WriteFile(l.file(), nil, 0o600),
	); err != nil {
		t.Fatal(err)
	}
	return l
}

func (l *limits) file() string { return filepath.Join(l.dir, "kubepods", "io.max") }

func (l *limits) Warn(about driver.Subject, reason, message string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.told = append(l.told, fmt.Sprintf("%s/%s %s: %s", about.Namespace, about.PodName, reason, message))
}

// wantLine checks what was written since the last call, for the one device there is,
// and makes the file show it as the kernel would.
func (l *limits) wantLine(want string) {
	l.t.Helper()
	data, err := os.ReadFile(l.file())
	if err != nil {
		l.t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(data), "\n")
	_, got, _ := strings.Cut(line, " ")
	if diff := cmp.Diff(want, got); diff != "" {
		l.t.Errorf("limits of the device (-want +got):\n%s", diff)
	}
	if strings.Contains(line, "rbps=max wbps=max riops=max wiops=max") {
		line = ""
	}
	if line != "" {
		line += "\n"
	}
	if err := os.WriteFile(l.file(), []byte(line), 0o600); err != nil {
		l.t.Fatal(err)
	}
}
