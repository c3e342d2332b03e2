package volume

import (
	"errors"
	"strings"
	"testing"
)

func TestMkfsOptionsThatAreAllowed(t *testing.T) {
	for fsType, all := range map[string][]string{
		Ext4: {
			"", "-m 5", "-i 16384 -I 256 -b 4096", "-N 100000", "-E lazy_itable_init=0,lazy_journal_init=1,nodiscard,stride=16,stripe_width=64",
			"-O ^has_journal,metadata_csum", "-O quota -O project",
		},
		Ext3: {"-m 0", "-O dir_index"},
		XFS: {
			"-b size=4096", "-i size=512,maxpct=10", "-m reflink=0,rmapbt=1 -m bigtime=1", "-n size=8192", "-d su=65536,sw=4", "-d agcount=8",
			"-l size=67108864", "-K",
		},
		Btrfs: {"-n 16384 -O no-holes,^free-space-tree", "-m single -d single -K", "-m dup"},
	} {
		for _, options := range all {
			if err := ValidMkfsOptions(fsType, strings.Fields(options)); err != nil {
				t.Errorf("%s %q: %v", fsType, options, err)
			}
		}
	}
}

func TestMkfsOptionsThatAreRefused(t *testing.T) {
	for fsType, all := range map[string][]string{
		Ext4: {
			"-F", "-L name", "-U random", "-d /etc", "-J device=/dev/sda", "-b 512", "-b 65536", "-m -1", "-m +1", "-m 51", "-m 1.5", "-m", "-m5",
			"-E root_owner=0:0", "-E stride", "-E nodiscard=1", "-E lazy_itable_init=2", "-E offset=4096", "-E ", "-O journal_dev", "-O none",
			"-O ,quota", "-O ^", "-O ^^quota", "/dev/sda", "--", "-- /dev/sda", "-m 0 /dev/sda", "-m $(reboot)", "-O quota;reboot",
			"-E stride=1`reboot`", "-N 4294967296", "-N 99999999999999999999", "-T largefile", "-i 0x400", "-I 4096", "-c", "-V",
		},
		Ext3:  {"-O extent", "-O 64bit", "-O metadata_csum"},
		XFS:   {"-f", "-b size=512", "-b 4096", "-d file=1,name=/etc/passwd", "-d name=/dev/sda", "-l logdev=/dev/sda", "-p /etc/passwd", "-r rtdev=/dev/sda", "-m crc=0", "-m uuid=1", "-L x", "-N", "-d su=64k", "-c options=/etc/passwd"},
		Btrfs: {"-f", "--rootdir /etc", "-r /etc", "-m raid1", "-d raid0", "-L x", "-U x", "-O zoned", "-O list-all", "-n 1024", "-b 1", "-s 4096"},
		"zfs": {"-b 1024"},
	} {
		for _, options := range all {
			err := ValidMkfsOptions(fsType, strings.Fields(options))
			if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "for "+fsType) {
				t.Errorf("%s %q: got %v, want ErrInvalid", fsType, options, err)
			}
		}
	}
}

func TestARefusedMkfsOptionNamesItselfAndTheWayOut(t *testing.T) {
	for options, want := range map[string]string{
		"-F":                  `invalid mkfs option "-F" for btrfs: allowed are -K; -O [^]block-group-tree|[^]extref|[^]free-space-tree|[^]no-holes|[^]quota|[^]skinny-metadata,...; -d dup|single; -m dup|single; -n 4096|8192|16384|32768|65536`,
		"-m raid1":            `invalid mkfs option "-m raid1" for btrfs: allowed is dup|single`,
		"-K -d":               `invalid mkfs option "-d" for btrfs: it wants a value after a blank: dup|single`,
		"-d single /dev/evil": `invalid mkfs option "/dev/evil" for btrfs: allowed are `,
	} {
		if err := ValidMkfsOptions(Btrfs, strings.Fields(options)); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", options, err, want)
		}
	}
}
