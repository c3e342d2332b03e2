package agent

import (
	"bufio"
	"bytes"
	"fmt"
	"slices"
	"strings"
)

// A mount is one line of mountinfo (proc_pid_mountinfo(5)).
type mount struct {
	root    string // which directory of the file system is mounted
	path    string
	options []string
	fsType  string
	source  string
}

// parseMountinfo reads the whole file. A line that cannot be read is an error.
func parseMountinfo(content []byte) ([]mount, error) {
	var mounts []mount
	lines := bufio.NewScanner(bytes.NewReader(content))
	lines.Buffer(nil, 1<<20) // an overlay's line can be long
	for lines.Scan() {
		m, err := parseMount(lines.Text())
		if err != nil {
			return nil, err
		}
		mounts = append(mounts, m)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("reading mountinfo: %w", err)
	}
	return mounts, nil
}

func parseMount(line string) (mount, error) {
	before, after, ok := strings.Cut(line, " - ")
	own, of := strings.Fields(before), strings.Fields(after)
	if !ok || len(own) < 6 || len(of) < 2 {
		return mount{}, fmt.Errorf("reading mountinfo: the line %.200q has too few fields", line)
	}
	return mount{
		root: unescape(own[3]), path: unescape(own[4]), options: strings.Split(own[5], ","),
		fsType: of[0], source: unescape(of[1]),
	}, nil
}

// unescape undoes what the kernel does to blanks and backslashes: "\040".
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) && octal(s[i+1:i+4]) {
			b.WriteByte((s[i+1]-'0')<<6 | (s[i+2]-'0')<<3 | (s[i+3] - '0'))
			i += 3
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func octal(s string) bool {
	return s[0] >= '0' && s[0] <= '3' && strings.Trim(s, "01234567") == ""
}

// Where containers, pods and the system itself mount things that are no storage
// of the node.
var (
	noisyRoots = []string{"/proc", "/sys", "/dev", "/run", "/snap", "/var/lib/docker", "/var/lib/containerd", "/var/lib/containers"}
	noisyParts = []string{"/kubelet/pods/", "/kubelet/plugins/"}
	// File systems that are images and never hold a volume.
	imageTypes = []string{"squashfs", "iso9660", "erofs", "udf", "cramfs"}
)

// storageMounts returns the mounts that are file systems on block devices of the
// node, the visible one of each path, ordered by path.
func storageMounts(mounts []mount) []mount {
	visible := map[string]mount{} // a later mount hides an earlier one
	for _, m := range mounts {
		visible[m.path] = m
	}
	var kept []mount
	for _, m := range visible {
		if strings.HasPrefix(m.source, "/dev/") && !slices.Contains(imageTypes, m.fsType) && !noisy(m.path) {
			kept = append(kept, m)
		}
	}
	slices.SortFunc(kept, func(a, b mount) int { return strings.Compare(a.path, b.path) })
	return kept
}

func noisy(path string) bool {
	return slices.ContainsFunc(noisyRoots, func(root string) bool {
		return path == root || strings.HasPrefix(path, root+"/")
	}) || slices.ContainsFunc(noisyParts, func(part string) bool {
		return strings.Contains(path, part)
	})
}
