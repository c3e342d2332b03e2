package lvm

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/open-local/open-local/pkg/hostexec"
)

// Alias marks a further name of a device among those that Hide is given.
const Alias = "@"

// Hide has LVM look past the devices, and partitions on them, that names returns each
// time it runs: cleaned paths in /dev, and, each after Alias, all other names that those
// devices and partitions have there. A tenant who has a whole disk may write a volume group
// on it that is called like one of ours, and LVM, which knows groups by name, would then
// refuse to change either.
//
// What the host's lvm.conf says in devices/filter and devices/global_filter still holds. It
// is read once, by a process, when there is the first device to hide. LVM heeds neither
// where the host has a devices file, and looks at what stands there and nothing else.
func (h *Host) Hide(names func(ctx context.Context) []string) { h.hidden = names }

// hosts is what the host itself filters. A device is used if both chains pass it.
type hosts struct {
	mu     sync.Mutex
	known  bool
	chains chains
}

type chains struct{ global, filter chain }

// chain is a list of patterns as in lvm.conf, quoted. It passes a device when it accepts
// one of the device's names, or when it rejects none.
type chain []string

func (c chain) accepts() bool {
	return slices.ContainsFunc(c, func(rule string) bool { return strings.HasPrefix(rule, `"a`) })
}

var (
	setting = regexp.MustCompile(`(?m)^\s*(filter|global_filter)\s*=(.*)$`)
	rule    = regexp.MustCompile(`"(?:[^"\\]|\\.)*"`)
)

// filters returns the host's chains. What cannot be asked is asked again the next time.
func (h *Host) filters(ctx context.Context) chains {
	h.own.mu.Lock()
	defer h.own.mu.Unlock()
	if h.own.known {
		return h.own.chains
	}
	// Asked for the two by name, it exits with 5 when it knows only one of them.
	out, err := h.runner.Run(ctx, "lvm", "lvmconfig", "devices")
	h.own.known = err == nil || exited(err) // it exits with 5 where nothing is said
	if err == nil {
		h.own.chains = parseChains(string(out))
	}
	return h.own.chains
}

func parseChains(config string) chains {
	var c chains
	for _, found := range setting.FindAllStringSubmatch(config, -1) {
		rules := rule.FindAllString(found[2], -1)
		if found[1] == "filter" {
			c.filter = rules
		} else {
			c.global = rules
		}
	}
	return c
}

func exited(err error) bool {
	var exit *hostexec.ExitError
	return errors.As(err, &exit) && exit.Code == 5
}

// withHidden adds to a command what it must not see.
func (h *Host) withHidden(ctx context.Context, args []string) []string {
	if h.hidden == nil {
		return args
	}
	names := h.hidden(ctx)
	if len(names) == 0 {
		return args
	}
	config := h.filters(ctx).without(names)
	if i := slices.Index(args, "--config"); i >= 0 {
		args = slices.Clone(args)
		args[i+1] += " " + config
		return args
	}
	return slices.Insert(slices.Clone(args), 1, "--config", config)
}

// without returns the configuration with which LVM passes what c does, save for names. A
// chain that accepts nothing rejects a device for any of its names. Before patterns that
// accept, a device has to be rejected under each name it has.
func (c chains) without(names []string) string {
	var devices, aliases []string
	for _, name := range names {
		if alias, is := strings.CutPrefix(name, Alias); is {
			aliases = append(aliases, `"r|^`+literal(alias)+`$|"`)
		} else {
			devices = append(devices, `"r|`+hiding(name)+`|"`)
		}
	}
	key, rules := "global_filter", slices.Concat(devices, c.global)
	switch {
	case !c.global.accepts():
	case !c.filter.accepts():
		key, rules = "filter", slices.Concat(devices, c.filter)
	default:
		rules = slices.Concat(devices, aliases, c.global)
	}
	return "devices{" + key + "=[" + strings.Join(rules, ",") + "]}"
}

var (
	// special is what may have a meaning in a pattern of LVM's.
	special = regexp.MustCompile(`[^a-zA-Z0-9/_:-]`)
	// plain is what of it a class of characters can hold, in a string of lvm.conf.
	plain = regexp.MustCompile(`^[ !#-Z[_-~]$`)
)

// literal returns the pattern of a name.
func literal(name string) string {
	return special.ReplaceAllStringFunc(name, func(s string) string {
		if plain.MatchString(s) {
			return "[" + s + "]"
		}
		return strings.Repeat(".", len(s))
	})
}

// hiding returns the pattern of a device and the partitions that are made on it.
func hiding(device string) string {
	partition := "[0-9]+"
	if last := device[len(device)-1:]; "0" <= last && last <= "9" {
		partition = "p[0-9]+"
	}
	return "^" + literal(device) + "(" + partition + ")?$"
}
