package lvm

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/open-local/open-local/pkg/hostexec"
)

// What callers ask about a failed verb, with errors.Is.
var (
	// ErrNotFound is either of the two below.
	ErrNotFound = errors.New("not found")
	// ErrGroupNotFound may mean that the group's disks are missing, not that the
	// group is gone.
	ErrGroupNotFound = fmt.Errorf("volume group %w", ErrNotFound)
	// ErrVolumeNotFound says that the group is there and the volume is not.
	ErrVolumeNotFound = fmt.Errorf("logical volume %w", ErrNotFound)
	// ErrDeviceNotFound says that LVM sees no such disk, or not in that group.
	ErrDeviceNotFound = errors.New("device not found")
	// ErrExists says that a group or volume of that name is already there.
	ErrExists = errors.New("already exists")
	// ErrNoSpace says that the group has not enough free extents, or not on enough
	// physical volumes for the stripes.
	ErrNoSpace = errors.New("not enough free extents")
	// ErrInUse says that a device or volume is open, mounted or part of something.
	ErrInUse = errors.New("in use")
	// ErrHasSnapshots is an ErrInUse: removing the volume would remove its snapshots,
	// and it can be extended only while it is not active.
	ErrHasSnapshots = fmt.Errorf("volume has snapshots and is %w", ErrInUse)
	// ErrNotOurs says that the volume lacks a tag that the caller said it has.
	ErrNotOurs = errors.New("volume does not carry the expected tags")
	// ErrProtected says that the volume or its group carries ProtectedTag.
	ErrProtected = errors.New("protected from removal by a tag")
	// ErrPartial says that the group, or the volume, lacks physical volumes.
	ErrPartial = errors.New("physical volumes are missing")
	// ErrExported says that an administrator took the group out of use.
	ErrExported = errors.New("volume group is exported")
	// ErrNotBlank says that a device holds something which LVM would have to wipe.
	ErrNotBlank = errors.New("device is not blank")
	// ErrInvalid says that an argument cannot be what it is said to be.
	ErrInvalid = errors.New("invalid")

	// errNameTaken: /dev/<group> is there, made by a real group or by something else.
	errNameTaken = fmt.Errorf("name is %w by something in /dev", ErrInUse)
	// errNotLarger: a volume already has the size it is to be extended to.
	errNotLarger = errors.New("not larger than it is")
)

// causes turns what LVM says into what callers ask about: LVM exits 5 for nearly
// everything, so the text decides. It is read top to bottom; the more particular
// text comes first. Warnings are taken out before: they say "not found", too.
var causes = []struct {
	says *regexp.Regexp
	kind error
}{
	{regexp.MustCompile(`already exists in filesystem`), errNameTaken},
	{regexp.MustCompile(`already exists`), ErrExists},
	{regexp.MustCompile(`[Ii]nsufficient free space|Insufficient suitable`), ErrNoSpace},
	{regexp.MustCompile(`Number of stripes .* must not exceed`), ErrNoSpace},
	{regexp.MustCompile(`matches existing size|not larger than existing size`), errNotLarger},
	{regexp.MustCompile(`is already in volume group|Can't open .* exclusively`), ErrInUse},
	{regexp.MustCompile(`(?m)^ *Logical volume \S+ (in use\.|contains a filesystem in use\.|is used by)`), ErrInUse},
	{regexp.MustCompile(`existing signatures? left on|device has a signature|device is partitioned`), ErrNotBlank},
	{regexp.MustCompile(`Snapshot origin volumes can be resized only while inactive`), ErrHasSnapshots},
	{regexp.MustCompile(`Volume group \S+ is exported`), ErrExported},
	{regexp.MustCompile(`while PVs are missing|Refusing activation of partial LV`), ErrPartial},
	{regexp.MustCompile(`Physical Volume "\S+" not found in|No device found for|Failed to find physical volume|Cannot use \S+: device not found`), ErrDeviceNotFound},
	{regexp.MustCompile(`Failed to find logical volume|Logical volume \S+ not found in volume group|Snapshot origin LV \S+ not found`), ErrVolumeNotFound},
	{regexp.MustCompile(`Volume group "\S+" not found`), ErrGroupNotFound},
	{regexp.MustCompile(`are reserved\.|is invalid\.|length \d+ is not supported|Invalid argument for`), ErrInvalid},
}

// classify puts the cause in front of an error that LVM exited with.
func classify(err error) error {
	var exit *hostexec.ExitError
	if !errors.As(err, &exit) {
		return err
	}
	said := withoutWarnings(exit.Stderr)
	for _, cause := range causes {
		if cause.says.MatchString(said) {
			return fmt.Errorf("%w: %w", cause.kind, err)
		}
	}
	return err
}

func withoutWarnings(stderr string) string {
	var kept strings.Builder
	for line := range strings.Lines(stderr) {
		// The question whether to wipe is a warning, and what follows it is not.
		if !strings.HasPrefix(strings.TrimSpace(line), "WARNING:") {
			kept.WriteString(line)
		}
	}
	return kept.String()
}
