package mounts

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Mount is one line of mountinfo, see proc_pid_mountinfo(5).
type Mount struct {
	Target  string   // where it is mounted
	Source  string   // as mount(8) named it: "/dev/mapper/share-data", "tmpfs"
	Root    string   // what of the file system is mounted: "/" for all of it
	FSType  string   // "ext4"
	Options []string // of this mount: "ro", "noatime"
	Super   []string // of the file system, wherever it is mounted

	Major, Minor uint32 // of the device; btrfs and others have a made-up one
}

// ReadOnly reports whether one cannot write through this mount.
func (m Mount) ReadOnly() bool {
	return slices.Contains(m.Options, "ro") || slices.Contains(m.Super, "ro")
}

// ParseMountinfo reads a whole mountinfo file, in its order: of several mounts at
// one target the last is on top. A line that does not parse is an error.
func ParseMountinfo(data []byte) ([]Mount, error) {
	var all []Mount
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSuffix(line, "\n")
		if line == "" {
			continue
		}
		m, err := parseMount(line)
		if err != nil {
			return nil, fmt.Errorf("parsing mountinfo: line %.200q: %w", line, err)
		}
		all = append(all, m)
	}
	return all, nil
}

// parseMount reads "36 35 98:0 /root /target rw,noatime shared:1 - ext4 /dev/sdb rw".
// An option may hold blanks only in octal, so every blank separates.
func parseMount(line string) (Mount, error) {
	own, of, ok := strings.Cut(line, " - ")
	front, back := strings.Split(own, " "), strings.Split(of, " ")
	if !ok || len(front) < 6 || len(back) < 3 {
		return Mount{}, fmt.Errorf("too few fields")
	}
	major, minor, err := parseNumber(front[2])
	if err != nil {
		return Mount{}, err
	}
	return Mount{
		Target: unescape(front[4]), Source: unescape(back[1]), Root: unescape(front[3]), FSType: back[0],
		Options: strings.Split(front[5], ","), Super: strings.Split(back[2], ","),
		Major: major, Minor: minor,
	}, nil
}

func parseNumber(s string) (major, minor uint32, err error) {
	first, second, ok := strings.Cut(s, ":")
	if !ok {
		return 0, 0, fmt.Errorf("device number %q has no colon", s)
	}
	a, err := strconv.ParseUint(first, 10, 32)
	if err != nil {
		return 0, 0, fmt.Errorf("device number %q: %w", s, err)
	}
	b, err := strconv.ParseUint(second, 10, 32)
	if err != nil {
		return 0, 0, fmt.Errorf("device number %q: %w", s, err)
	}
	return uint32(a), uint32(b), nil
}

// unescape undoes the octal form in which the kernel writes blanks: "\040".
func unescape(s string) string {
	if !strings.ContainsRune(s, '\\') {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+4 <= len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
