package volume

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// A value says what may follow an option of mkfs, and refuses everything else.
type value struct {
	says  string // what is allowed, for a person
	allow func(given string) bool
}

// mkfsOptions holds, by file system, every option of its mkfs that a StorageClass may
// set. What would reach beyond the device (-L, -U, -d on another path, -r), force
// anything or start a second journal is not among them.
var mkfsOptions = map[string]map[string]value{
	Ext4: ext(
		"64bit", "casefold", "dir_index", "dir_nlink", "encrypt", "ext_attr", "extra_isize", "fast_commit", "flex_bg", "has_journal",
		"huge_file", "large_dir", "large_file", "metadata_csum", "project", "quota", "sparse_super", "uninit_bg", "verity",
	),
	Ext3: ext("dir_index", "ext_attr", "large_file", "sparse_super"),
	XFS: {
		"-b": keys(map[string]value{"size": among("1024", "2048", "4096")}),
		"-d": keys(map[string]value{"su": within(512, 1<<30), "sw": within(1, 1<<10), "agcount": within(1, 1<<20)}),
		"-i": keys(map[string]value{"size": among("512", "1024", "2048"), "maxpct": within(0, 100), "sparse": flag}),
		"-K": {},
		"-l": keys(map[string]value{"size": within(1<<20, 1<<31), "su": within(4096, 1<<18)}),
		"-m": keys(map[string]value{"bigtime": flag, "finobt": flag, "inobtcount": flag, "reflink": flag, "rmapbt": flag}),
		"-n": keys(map[string]value{"size": among("4096", "8192", "16384", "32768", "65536")}),
	},
	Btrfs: {
		"-d": among("dup", "single"),
		"-K": {},
		"-m": among("dup", "single"),
		"-n": among("4096", "8192", "16384", "32768", "65536"),
		"-O": features("block-group-tree", "extref", "free-space-tree", "no-holes", "quota", "skinny-metadata"),
	},
}

func ext(known ...string) map[string]value {
	return map[string]value{
		"-b": among("1024", "2048", "4096"),
		"-E": keys(map[string]value{
			"discard": {}, "nodiscard": {}, "lazy_itable_init": flag, "lazy_journal_init": flag,
			"stride": within(1, 1<<30), "stripe_width": within(1, 1<<30),
		}),
		"-I": among("128", "256", "512", "1024"), // no more than the smallest block
		"-i": within(1<<10, 1<<26),
		"-m": within(0, 50),
		"-N": within(16, 1<<32-1),
		"-O": features(known...),
	}
}

var flag = among("0", "1")

func among(allowed ...string) value {
	return value{strings.Join(allowed, "|"), func(given string) bool { return slices.Contains(allowed, given) }}
}

// within allows whole numbers without a sign or a unit.
func within(least, most uint64) value {
	return value{fmt.Sprintf("%d..%d", least, most), func(given string) bool {
		n, err := strconv.ParseUint(given, 10, 64)
		return err == nil && given[0] != '+' && least <= n && n <= most
	}}
}

// features allows a list of names; a ^ before one takes the feature away.
func features(known ...string) value {
	return value{"[^]" + strings.Join(known, "|[^]") + ",...", func(given string) bool {
		return !slices.ContainsFunc(strings.Split(given, ","), func(name string) bool {
			return !slices.Contains(known, strings.TrimPrefix(name, "^"))
		})
	}}
}

// keys allows a list of key=value, or of key alone where it takes no value.
func keys(known map[string]value) value {
	var says []string
	for _, key := range slices.Sorted(maps.Keys(known)) {
		if known[key].allow != nil {
			key += "=" + known[key].says
		}
		says = append(says, key)
	}
	return value{strings.Join(says, ","), func(given string) bool {
		return !slices.ContainsFunc(strings.Split(given, ","), func(pair string) bool {
			key, setting, set := strings.Cut(pair, "=")
			of, ok := known[key]
			return !ok || set != (of.allow != nil) || set && !of.allow(setting)
		})
	}}
}

// ValidMkfsOptions reports whether a file system of that type may be made with these
// arguments of its mkfs: options and their values, each a word of its own. Anything
// but what is known to be harmless is ErrInvalid, and the error says what is allowed.
func ValidMkfsOptions(fsType string, options []string) error {
	known := mkfsOptions[fsType]
	for i := 0; i < len(options); i++ {
		name := options[i]
		of, ok := known[name]
		switch {
		case !ok:
			return fmt.Errorf("%w mkfs option %q for %s: allowed are %s", ErrInvalid, name, fsType, allowed(known))
		case of.allow == nil:
		case i+1 == len(options):
			return fmt.Errorf("%w mkfs option %q for %s: it wants a value after a blank: %s", ErrInvalid, name, fsType, of.says)
		default:
			i++
			if !of.allow(options[i]) {
				return fmt.Errorf("%w mkfs option \"%s %s\" for %s: allowed is %s", ErrInvalid, name, options[i], fsType, of.says)
			}
		}
	}
	return nil
}

func allowed(options map[string]value) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(options)) {
		if says := options[name].says; says != "" {
			name += " " + says
		}
		all = append(all, name)
	}
	return strings.Join(all, "; ")
}
