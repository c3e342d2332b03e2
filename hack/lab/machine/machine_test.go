package machine

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
)

// aHost has the files named; its apt-get adds those of the packages.
func aHost(uid int, files ...string) host {
	h := host{uid: uid, exists: func(path string) bool { return slices.Contains(files, path) }}
	h.install = func(context.Context, []string, io.Writer) error { return nil }
	h.lock = func() (func(), error) { return func() {}, nil }
	return h
}

func TestPrepare(t *testing.T) {
	packages := []Package{{"lvm2", "/sbin/lvm"}, {"crun", "/usr/bin/crun"}}
	noNet := aHost(0, "/usr/bin/apt-get")
	noNet.install = func(context.Context, []string, io.Writer) error { return errors.New("no network") }
	tests := map[string]struct {
		host host
		want string // of the error; empty: none
		says string // on progress
	}{
		"a host that has all is left alone": {host: aHost(0, "/sbin/lvm", "/usr/bin/crun", Tun)},
		"what is missing is installed":      {host: aHost(0, "/sbin/lvm", "/usr/bin/apt-get", Tun), says: "installing Debian packages: crun\n"},
		"without root nothing is tried":     {host: aHost(1000), want: "not root"},
		"without apt the packages are named": {
			host: aHost(0, "/sbin/lvm", Tun), want: "packages crun are missing, and this system has no apt-get",
		},
		"a failed installation names packages and reason": {host: noNet, want: "installing the Debian packages lvm2 crun: no network", says: "installing Debian packages: lvm2 crun\n"},
		"without tun the device is named":                 {host: aHost(0, "/sbin/lvm", "/usr/bin/crun"), want: "device /dev/net/tun is missing"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var progress bytes.Buffer
			err := test.host.prepare(t.Context(), packages, []string{Tun}, &progress)
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want an error with %q", err, test.want)
			}
			if progress.String() != test.says {
				t.Errorf("says %q, want %q", progress.String(), test.says)
			}
		})
	}
}

func TestWhatAnotherLabInstalledMeanwhileIsNotInstalledAgain(t *testing.T) {
	there := []string{Tun, "/usr/bin/apt-get"}
	h := host{exists: func(path string) bool { return slices.Contains(there, path) }}
	h.install = func(_ context.Context, names []string, _ io.Writer) error {
		t.Errorf("installs %q", names)
		return nil
	}
	unlocked := false
	h.lock = func() (func(), error) {
		there = append(there, "/sbin/lvm") // by the one that had the lock
		return func() { unlocked = true }, nil
	}
	if err := h.prepare(t.Context(), []Package{{"lvm2", "/sbin/lvm"}}, []string{Tun}, io.Discard); err != nil || !unlocked {
		t.Errorf("got %v, unlocked %t", err, unlocked)
	}
}
