package blockdev

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/open-local/open-local/pkg/capacity"
)

// node is one device in lsblk's tree. What may be unknown is null there.
type node struct {
	Name       *string `json:"name"`
	KernelName *string `json:"kname"`
	Path       *string `json:"path"`
	Type       *string `json:"type"`
	Size       *int64  `json:"size"`
	ReadOnly   *bool   `json:"ro"`
	Rotational *bool   `json:"rota"`
	FSType     *string `json:"fstype"`
	Table      *string `json:"pttype"`
	UUID       *string `json:"uuid"`
	PartUUID   *string `json:"partuuid"`
	WWN        *string `json:"wwn"`
	Serial     *string `json:"serial"`
	Model      *string `json:"model"`
	Number     *string `json:"maj:min"`
	Children   []node  `json:"children"`
}

// ParseLsblk reads what "lsblk --json --bytes" printed and flattens its tree, in
// which a device that lies on several others stands under each of them. Devices
// without a size, such as a drive without its medium, are left out. A field that is
// missing or does not parse is an error that names it.
func ParseLsblk(data []byte) ([]Device, error) {
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, nil // what some versions print when there is no device
	}
	var doc struct {
		Devices *[]node `json:"blockdevices"`
	}
	if err := json.Unmarshal(data, &doc); err != nil {
		return nil, fmt.Errorf("parsing lsblk's output: %w", err)
	}
	if doc.Devices == nil {
		return nil, errors.New("parsing lsblk's output: it has no blockdevices")
	}
	flat := flattener{at: map[string]int{}}
	if err := flat.add("", *doc.Devices, 0); err != nil {
		return nil, fmt.Errorf("parsing lsblk's output: %w", err)
	}
	flat.devices = slices.DeleteFunc(flat.devices, func(d Device) bool { return d.Size == 0 })
	slices.SortFunc(flat.devices, func(a, b Device) int { return strings.Compare(a.KernelName, b.KernelName) })
	return flat.devices, nil
}

// maxDepth bounds how deep devices lie on each other; in practice it is about 6.
const maxDepth = 64

type flattener struct {
	devices []Device
	at      map[string]int // index by kernel name
}

func (f *flattener) add(parent string, nodes []node, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("more than %d devices on top of each other", maxDepth)
	}
	for _, n := range nodes {
		d, err := n.device()
		if err != nil {
			return err
		}
		i, known := f.at[d.KernelName]
		if !known {
			i = len(f.devices)
			f.at[d.KernelName] = i
			f.devices = append(f.devices, d)
		}
		if parent != "" {
			f.link(parent, i)
		}
		if err := f.add(d.KernelName, n.Children, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// link notes that a device lies on its parent.
func (f *flattener) link(parent string, child int) {
	c := &f.devices[child]
	if !slices.Contains(c.Parents, parent) {
		c.Parents = append(c.Parents, parent)
		p := &f.devices[f.at[parent]]
		p.Children = append(p.Children, c.KernelName)
	}
}

func (n node) device() (Device, error) {
	for _, field := range []struct {
		name    string
		missing bool
	}{
		{"kname", n.KernelName == nil || *n.KernelName == ""},
		{"path", n.Path == nil},
		{"type", n.Type == nil},
		{"size", n.Size == nil},
		{"ro", n.ReadOnly == nil},
		{"rota", n.Rotational == nil},
		{"maj:min", n.Number == nil},
	} {
		if field.missing {
			return Device{}, fmt.Errorf("device %q: field %s is missing", text(n.Name), field.name)
		}
	}
	if *n.Size < 0 {
		return Device{}, fmt.Errorf("device %q: field size is %d", *n.KernelName, *n.Size)
	}
	major, minor, err := parseNumber(strings.TrimSpace(*n.Number))
	if err != nil {
		return Device{}, fmt.Errorf("device %q: field maj:min: %w", *n.KernelName, err)
	}
	kind := *n.Type
	if special := kindOfName(*n.KernelName); special == "ram" {
		kind = special // lsblk takes a zram for a disk
	}
	return Device{
		Path: *n.Path, KernelName: *n.KernelName, Type: kind, Size: capacity.Bytes(*n.Size),
		ReadOnly: *n.ReadOnly, Rotational: *n.Rotational, FSType: text(n.FSType), PartitionTable: text(n.Table),
		UUID: text(n.UUID), PartUUID: strings.ToLower(text(n.PartUUID)),
		WWN: text(n.WWN), Serial: strings.TrimSpace(text(n.Serial)), Model: strings.TrimSpace(text(n.Model)), Major: major, Minor: minor,
	}, nil
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func parseNumber(s string) (major, minor uint32, err error) {
	first, second, ok := strings.Cut(s, ":")
	if !ok {
		return 0, 0, fmt.Errorf("device number %q has no colon", s)
	}
	a, errMajor := strconv.ParseUint(first, 10, 32)
	b, errMinor := strconv.ParseUint(second, 10, 32)
	return uint32(a), uint32(b), errors.Join(errMajor, errMinor)
}
