package blockdev

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/open-local/open-local/pkg/devfile"
)

// identify finds out who each device is, whatever the kernel calls it today: from what
// the kernel says of it, and where that does not tell, from what udev remembers. It
// never takes the place a disk is plugged in for the disk.
func (h *Host) identify(devices []Device) {
	byName := make(map[string]*Device, len(devices))
	for i := range devices {
		d := &devices[i]
		byName[d.KernelName] = d
		dir, err := h.sysfs(d.Major, d.Minor)
		if err != nil {
			continue // gone since it was listed, and who it was is no matter
		}
		h.names(d, dir)
		if d.UUID == "" && len(d.Mountpoints) > 0 {
			d.UUID = h.mountedUUID(d)
		}
		if d.Type != "part" {
			d.ID = first(d.identities(dir, h.udev(d.Major, d.Minor)))
		}
	}
	for i := range devices {
		d := &devices[i]
		if d.Type == "part" && d.PartUUID == "" {
			d.PartUUID = h.partUUID(d)
		}
		if d.Type == "part" && d.PartUUID != "" {
			d.ID = "partuuid-" + d.PartUUID
			if disk := d.disk(byName); disk != "" {
				d.ID = disk + "-" + d.ID
			}
		}
	}
}

// partUUID asks the disk that a partition is of. One that does not answer says nothing.
func (h *Host) partUUID(d *Device) string {
	dir, err := h.sysfs(d.Major, d.Minor)
	if err != nil {
		return ""
	}
	position, err := readNumber(dir, "partition")
	if err != nil {
		return ""
	}
	sector, err := readNumber(filepath.Dir(dir), "queue/logical_block_size")
	if err != nil {
		return ""
	}
	seen, err := devfile.Root(h.root).Resolve("/dev/" + filepath.Base(filepath.Dir(dir)))
	if err != nil {
		return ""
	}
	disk, err := os.OpenFile(seen, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return ""
	}
	defer func() { _ = disk.Close() }()
	uuid, err := partUUID(disk, sector, int(position))
	if err != nil {
		return ""
	}
	return uuid
}

// disk returns the identity of the disk that a partition is of. A partition that was
// copied to another disk, with its UUID, is another one.
func (d *Device) disk(byName map[string]*Device) string {
	for _, parent := range d.Parents {
		if p := byName[parent]; p != nil {
			return p.ID
		}
	}
	return ""
}

// names fills in what the disk says of itself and lsblk, without udev, did not find.
func (h *Host) names(d *Device, dir string) {
	for _, from := range []struct {
		into  *string
		files []string
	}{
		{&d.WWN, []string{"device/wwid", "wwid"}},
		{&d.Serial, []string{"device/serial", "serial"}},
		{&d.Model, []string{"device/model"}},
	} {
		for _, file := range from.files {
			if *from.into == "" {
				*from.into = fact(dir, file)
			}
		}
	}
	if d.Serial == "" {
		d.Serial = unitSerial(dir)
	}
}

// unitSerial reads the page of a SCSI disk in which its serial number stands: four bytes
// of heading and then the number.
func unitSerial(dir string) string {
	const heading = 4
	page, err := os.ReadFile(filepath.Join(dir, "device/vpd_pg80"))
	if err != nil || len(page) <= heading {
		return ""
	}
	return strings.Trim(strings.ToValidUTF8(string(page[heading:]), ""), " \x00")
}

// identities returns the names that a device which is no partition is known by for as
// long as it lives, the best first. They are those of the links in /dev/disk/by-id.
func (d *Device) identities(dir string, remembered map[string]string) []string {
	switch d.Type {
	case "lvm", "loop", "ram", "rom":
		return nil
	}
	var all []string
	add := func(prefix, value string) {
		if value = plain(value); value != "" {
			all = append(all, prefix+value)
		}
	}
	if exists(dir, "dm") { // who it is made of is another matter
		add("dm-uuid-", fact(dir, "dm/uuid"))
		return all
	}
	if exists(dir, "md") {
		add("md-uuid-", arrayUUID(dir, remembered["MD_UUID"]))
		return all
	}
	for _, wwn := range []string{fact(dir, "device/wwid"), fact(dir, "wwid"), d.WWN} {
		switch {
		case strings.HasPrefix(wwn, "naa."):
			add("wwn-0x", strings.TrimPrefix(wwn, "naa."))
		case strings.HasPrefix(wwn, "0x"):
			add("wwn-", wwn)
		case strings.HasPrefix(d.KernelName, "nvme"):
			add("nvme-", wwn)
		default:
			add("scsi-", wwn)
		}
	}
	if d.Serial != "" {
		add("serial-", strings.TrimLeft(d.Model+"_"+d.Serial, "_"))
	}
	return all
}

func first(all []string) string {
	if len(all) == 0 {
		return ""
	}
	return all[0]
}

// plain turns what a disk says into what a name can hold: of all that is no letter or
// digit only a few signs stay, and what is between words becomes one underscore.
func plain(s string) string {
	words := strings.FieldsFunc(s, func(r rune) bool {
		isPlain := r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' || strings.ContainsRune("+-.:=_", r)
		return !isPlain
	})
	return strings.Join(words, "_")
}

// fact reads a small file; one that cannot be read says nothing.
func fact(dir, name string) string {
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return ""
	}
	said := strings.TrimSpace(strings.ToValidUTF8(string(data), ""))
	if said == "(null)" { // so a kernel writes a text that a driver never set
		return ""
	}
	return said
}

// udev reads what udev remembers of a device: lines such as "E:MD_UUID=...".
func (h *Host) udev(major, minor uint32) map[string]string {
	data, err := os.ReadFile(filepath.Join(h.root, "run/udev/data", "b"+number(major, minor)))
	if err != nil {
		return nil // no udev, or none that has looked yet
	}
	remembered := map[string]string{}
	for line := range strings.Lines(string(data)) {
		if property, is := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "E:"); is {
			key, value, _ := strings.Cut(property, "=")
			remembered[key] = value
		}
	}
	return remembered
}

// failing reports what the kernel calls a disk that it has given up, or "".
func failing(dir string) (string, error) {
	data, err := os.ReadFile(filepath.Join(dir, "device/state"))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil // most drivers have no such thing
	}
	if err != nil {
		return "", err
	}
	state := strings.TrimSpace(string(data))
	if slices.Contains([]string{"offline", "transport-offline", "cancel", "deleted", "deleting", "deleting (no IO)", "dead"}, state) {
		return state, nil
	}
	return "", nil
}
