package extender

import (
	"errors"
	"strings"

	"github.com/open-local/open-local/pkg/allocator"
	"github.com/open-local/open-local/pkg/extender/reserve"
	"github.com/open-local/open-local/pkg/volume"
)

// percent spells the sign out. It may stand in what a class or a pod says, and so in a
// reason that repeats it.
var percent = strings.NewReplacer(" %", " percent", "%", " percent")

// spoken is a reason as kube-scheduler may have it: that takes the text of its events for
// a format, and makes "50%" into "50%!(NOVERB)".
func spoken(reason string) string {
	if strings.IndexByte(reason, '%') < 0 {
		return reason
	}
	return percent.Replace(reason)
}

// why sums up for which reason a node, or another question, is refused. docs/operations.md
// has what the words mean.
func why(reason error) string {
	if misfit, ok := errors.AsType[*allocator.Misfit](reason); ok {
		return whyMisfit(misfit)
	}
	for _, known := range [...]struct {
		err error
		why string
	}{
		{errNoReport, "no report"}, {errElsewhere, "elsewhere"}, {errThere, "elsewhere"}, {errChanged, "changed"},
		{volume.ErrInvalid, "invalid"}, {reserve.ErrInvalid, "invalid"}, {reserve.ErrElsewhere, "elsewhere"},
		{reserve.ErrNoRoom, "no room"}, {reserve.ErrUnknown, "unknown"},
	} {
		if errors.Is(reason, known.err) {
			return known.why
		}
	}
	return "other"
}

func whyMisfit(m *allocator.Misfit) string {
	switch {
	case m.Group == "":
		return "no group"
	case m.Trouble != "":
		return "trouble"
	case m.Stripes:
		return "stripes"
	case m.Final:
		return "too large"
	case m.Held > 0:
		return "held"
	}
	return "no room"
}
