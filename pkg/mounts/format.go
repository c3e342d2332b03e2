package mounts

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/open-local/open-local/pkg/hostexec"
)

// fileSystem is how one kind of file system is made and grown. None of the programs
// is told to force anything: each refuses on its own what it finds in use or taken.
type fileSystem struct {
	make []string
	// grow is what makes a mounted file system fill its device.
	grow func(device, target string) []string
	// size returns how much of its device a mounted file system fills, in bytes. No
	// process tells. Where it says a little less than is the case, the program that
	// grows is run for nothing, and that is all.
	size func(h *Host, device, target string) (int64, error)
}

func growDevice(device, _ string) []string { return []string{"resize2fs", device} }

var fileSystems = map[string]fileSystem{
	// Nothing is reserved for root: it is not the host's file system that fills.
	"ext3": {[]string{"mkfs.ext3", "-q", "-m", "0"}, growDevice, (*Host).sizeOfExt},
	"ext4": {[]string{"mkfs.ext4", "-q", "-m", "0"}, growDevice, (*Host).sizeOfExt},
	"xfs": {[]string{"mkfs.xfs", "-q"}, func(_, target string) []string {
		return []string{"xfs_growfs", "-d", target}
	}, (*Host).sizeOfXFS},
	"btrfs": {[]string{"mkfs.btrfs", "-q"}, func(_, target string) []string {
		return []string{"btrfs", "filesystem", "resize", "max", target}
	}, (*Host).sizeOfBtrfs},
}

func validFSType(fsType string) error {
	if _, ok := fileSystems[fsType]; !ok {
		return fmt.Errorf("%w: %q is none of %s", ErrUnsupported, fsType, strings.Join(slices.Sorted(maps.Keys(fileSystems)), ", "))
	}
	return nil
}

// Exit codes of blkid(8) when it looks at a device itself.
const (
	blkidNothing   = 2 // nothing found, or the device cannot be read
	blkidAmbiguous = 8
)

// Signature tells what is on a device, looking at the device itself and at no cache:
// the type of its file system, or of whatever else is there ("swap", "LVM2_member",
// "gpt"). It is empty only when the device can be read and holds nothing known, or
// nothing but an xfs whose mkfs was cut short, which no kernel ever mounted.
func (h *Host) Signature(ctx context.Context, device string) (string, error) {
	found, err := h.signature(ctx, device)
	if err != nil {
		return "", fmt.Errorf("looking for a signature on %q: %w", device, err)
	}
	return found, nil
}

func (h *Host) signature(ctx context.Context, device string) (string, error) {
	if err := validDevice(device); err != nil {
		return "", err
	}
	out, err := h.runner.Run(ctx, "blkid", "-p", "-o", "export", "--", device)
	var exit *hostexec.ExitError
	switch {
	case err == nil:
		return h.unlessUnfinished(device, string(out))
	case errors.As(err, &exit) && exit.Code == blkidAmbiguous:
		return "", fmt.Errorf("%w: %w", ErrAmbiguous, err)
	case !errors.As(err, &exit) || exit.Code != blkidNothing:
		return "", err
	}
	if readErr := h.readEdges(device); readErr != nil {
		return "", errors.Join(err, readErr)
	}
	return "", nil
}

// unlessUnfinished returns what blkid found, but nothing for an xfs whose mkfs was cut
// short.
func (h *Host) unlessUnfinished(device, out string) (string, error) {
	found, err := parseBlkid(out)
	if err != nil || found != "xfs" {
		return found, err
	}
	unfinished, err := h.unfinished(device)
	if err != nil || unfinished {
		return "", err
	}
	return found, nil
}

// parseBlkid finds the type in lines of NAME=value.
func parseBlkid(out string) (string, error) {
	found := map[string]string{}
	for line := range strings.Lines(out) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			found[name] = value
		}
	}
	for _, name := range []string{"TYPE", "PTTYPE"} {
		if found[name] != "" {
			return found[name], nil
		}
	}
	return "", fmt.Errorf("blkid found something and does not say what: %.200q", out)
}

// Format makes a file system on a blank device. A device with any signature is
// ErrNotBlank, also one of that very file system. Once begun it runs to its end,
// because half a file system is neither blank nor one that mounts. Options are
// arguments for mkfs; the caller has found each of them harmless.
func (h *Host) Format(ctx context.Context, device, fsType string, options ...string) error {
	if err := h.format(ctx, device, fsType, options); err != nil {
		return fmt.Errorf("formatting %q as %s: %w", device, fsType, err)
	}
	return nil
}

func (h *Host) format(ctx context.Context, device, fsType string, options []string) error {
	if err := validFSType(fsType); err != nil {
		return err
	}
	found, err := h.Signature(ctx, device)
	if err != nil {
		return err
	}
	if found != "" {
		return fmt.Errorf("%w: it holds %s", ErrNotBlank, found)
	}
	if err := h.clearUnfinished(device); err != nil {
		return err
	}
	args := slices.Concat(fileSystems[fsType].make, options, []string{"--", device})
	_, err = h.runner.Run(context.WithoutCancel(ctx), args[0], args[1:]...)
	return err
}
