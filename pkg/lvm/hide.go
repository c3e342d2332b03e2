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

// Hide has LVM look past the devices, and partitions on them, that names returns each
// time it runs: cleaned paths in /dev. A tenant
// who has a whole disk may write a volume group on it that is called like one of ours,
// and LVM, which knows groups by name, would then refuse to change either.
//
// What the host's lvm.conf says in devices/filter still holds. It is read once, by a
// process, when there is the first device to hide.
func (h *Host) Hide(names func(ctx context.Context) []string) { h.hidden = names }

// hosts is the host's own filter.
type hosts struct {
	mu    sync.Mutex
	known bool
	rules []string // as in lvm.conf, quoted
}

var rule = regexp.MustCompile(`"(?:[^"\\]|\\.)*"`)

// filter returns the host's rules. What cannot be asked is asked again the next time.
func (h *Host) filter(ctx context.Context) []string {
	h.own.mu.Lock()
	defer h.own.mu.Unlock()
	if h.own.known {
		return h.own.rules
	}
	out, err := h.runner.Run(ctx, "lvm", "lvmconfig", "devices/filter")
	h.own.known = err == nil || exited(err) // it exits with 5 where nothing is said
	if err == nil {
		h.own.rules = rule.FindAllString(string(out), -1)
	}
	return h.own.rules
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
	rules := make([]string, 0, len(names))
	for _, name := range names {
		rules = append(rules, `"r|`+hiding(name)+`|"`)
	}
	config := "devices{filter=[" + strings.Join(slices.Concat(rules, h.filter(ctx)), ",") + "]}"
	if i := slices.Index(args, "--config"); i >= 0 {
		args = slices.Clone(args)
		args[i+1] += " " + config
		return args
	}
	return slices.Insert(slices.Clone(args), 1, "--config", config)
}

// special is what has a meaning in a pattern of LVM's and may be in the name of a device.
var special = regexp.MustCompile(`[^a-zA-Z0-9/_:-]`)

// hiding returns the pattern of a device and the partitions that are made on it.
func hiding(device string) string {
	partition := "[0-9]+"
	if last := device[len(device)-1:]; "0" <= last && last <= "9" {
		partition = "p[0-9]+"
	}
	return "^" + special.ReplaceAllString(device, "[$0]") + "(" + partition + ")?$"
}
