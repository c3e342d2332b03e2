package agent

import (
	"fmt"
	"regexp"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/open-local/open-local/pkg/initplan"
)

// looked is the condition that says whether the agent could look at the node. The
// other conditions are the areas of the spec.
const (
	looked     = "Looked"
	lookFailed = "LookFailed"
)

// How much of the problems a condition repeats. The API server refuses a message
// of more than 32 KiB, and with it the whole report.
const (
	maxSaid    = 20
	maxMessage = 8 << 10
)

// conditions returns one condition for each area of the spec, with the problems
// in it. Those about mount points and devices are only there when one is in trouble.
func conditions(problems []initplan.Problem, generation int64, lookErr error) []metav1.Condition {
	var all []metav1.Condition
	set := func(kind string, of []initplan.Problem, fine string) {
		c := metav1.Condition{Type: kind, Status: metav1.ConditionTrue, Reason: fine, ObservedGeneration: generation}
		if len(of) > 0 {
			c.Status, c.Reason, c.Message = metav1.ConditionFalse, validReason(of[0].Reason), sentence(of)
		}
		all = append(all, c)
	}
	set(string(initplan.OfSpec), within(problems, initplan.OfSpec), "Accepted")
	set(string(initplan.OfGroups), within(problems, initplan.OfGroups), "AsSpecified")
	for _, area := range []initplan.Area{initplan.OfMountPoints, initplan.OfDevices} {
		if of := within(problems, area); len(of) > 0 {
			set(string(area), of, "")
		}
	}
	if lookErr != nil {
		set(looked, []initplan.Problem{{Reason: lookFailed, Message: lookErr.Error()}}, "")
	} else {
		set(looked, nil, "Seen")
	}
	return all
}

// snapshotsWhole is the condition that says which snapshots are lost. It is only there
// when one is.
const snapshotsWhole = "SnapshotsWhole"

func snapshotCondition(lost []string, generation int64) []metav1.Condition {
	if len(lost) == 0 {
		return nil
	}
	return []metav1.Condition{{
		Type: snapshotsWhole, Status: metav1.ConditionFalse, Reason: "SnapshotFull", ObservedGeneration: generation,
		Message: cut(fmt.Sprintf("the space of these snapshots ran full, nothing can be read of them: %s; delete their VolumeSnapshots",
			strings.Join(lost, ", ")), maxMessage),
	}}
}

// keepTransitions sets the times of the conditions in now: those of before where
// the status is the same, and at where it changed.
func keepTransitions(now, before []metav1.Condition, at metav1.Time) {
	for i := range now {
		now[i].LastTransitionTime = at
		if old := meta.FindStatusCondition(before, now[i].Type); old != nil && old.Status == now[i].Status {
			now[i].LastTransitionTime = old.LastTransitionTime
		}
	}
}

func within(problems []initplan.Problem, area initplan.Area) []initplan.Problem {
	var of []initplan.Problem
	for _, p := range problems {
		if p.Area == area {
			of = append(of, p)
		}
	}
	return of
}

// sentence says all problems, or the first of very many.
func sentence(problems []initplan.Problem) string {
	var parts []string
	for i, p := range problems {
		if i == maxSaid {
			parts = append(parts, fmt.Sprintf("and %d more", len(problems)-i))
			break
		}
		parts = append(parts, p.Message)
	}
	return cut(strings.Join(parts, "; "), maxMessage)
}

// cut shortens s to at most limit bytes and to what JSON can carry.
func cut(s string, limit int) string {
	const ellipsis = "…"
	if len(s) > limit {
		s = s[:limit-len(ellipsis)] + ellipsis
	}
	return strings.ToValidUTF8(s, "")
}

// wellFormed is what the API server accepts as the reason of a condition.
var wellFormed = regexp.MustCompile(`^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$`)

// validReason keeps one odd reason from having the whole report refused.
func validReason(reason string) string {
	if wellFormed.MatchString(reason) {
		return reason
	}
	return "Problem"
}
