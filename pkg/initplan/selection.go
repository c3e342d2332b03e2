package initplan

import (
	"fmt"
	"regexp"
	"slices"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
)

// A Selector picks names by the expressions of a Selection.
type Selector struct {
	include, exclude []*regexp.Regexp
	closed           bool // an exclusion could not be read
}

// NewSelector reads the expressions of s; list is what it is called in problems.
// An expression that cannot be read is a problem. If it was to include, it
// includes nothing and the others still do. If it was to exclude, nobody
// knows what it was to keep safe, so nothing is selected.
func NewSelector(list string, s v1alpha1.Selection) (Selector, []Problem) {
	var (
		selector Selector
		problems []Problem
	)
	selector.include, problems = compile(list+".include", "it selects nothing", s.Include)
	exclude, bad := compile(list+".exclude", "nothing is selected until it is right", s.Exclude)
	selector.exclude, selector.closed = exclude, len(bad) > 0
	return selector, append(problems, bad...)
}

// Matches reports whether an inclusion matches the whole of name and no
// exclusion does.
func (s Selector) Matches(name string) bool {
	matches := func(e *regexp.Regexp) bool { return matchesWhole(e, name) }
	return !s.closed && slices.ContainsFunc(s.include, matches) && !slices.ContainsFunc(s.exclude, matches)
}

// Select returns those of names that match, in their order.
func (s Selector) Select(names []string) []string {
	var selected []string
	for _, name := range names {
		if s.Matches(name) {
			selected = append(selected, name)
		}
	}
	return selected
}

// Selectors holds one Selector for each sort of storage.
type Selectors struct {
	Groups, MountPoints, Devices Selector
}

// NewSelectors reads all expressions of a ListConfig.
func NewSelectors(config v1alpha1.ListConfig) (Selectors, []Problem) {
	var (
		selectors Selectors
		problems  []Problem
	)
	for _, list := range []struct {
		name string
		from v1alpha1.Selection
		into *Selector
	}{
		{"vgs", config.VGs, &selectors.Groups},
		{"mountPoints", config.MountPoints, &selectors.MountPoints},
		{"devices", config.Devices, &selectors.Devices},
	} {
		selector, bad := NewSelector("listConfig."+list.name, list.from)
		*list.into = selector
		problems = append(problems, bad...)
	}
	return selectors, problems
}

func compile(list, consequence string, expressions []string) (good []*regexp.Regexp, bad []Problem) {
	for _, expression := range expressions {
		compiled, err := regexp.Compile(expression)
		if err != nil {
			bad = append(bad, Problem{
				Area: OfSpec, Reason: BadExpression, Object: expression,
				Message: fmt.Sprintf("%s: %q is not a regular expression, %s: %v", list, expression, consequence, err),
			})
			continue
		}
		// With the longest match preferred, an expression matches all of a name if
		// and only if the match found is all of it. Writing "^(?:" and ")$" round
		// the expression would change the meaning of `a)|(b` and of `\Qa`.
		compiled.Longest()
		good = append(good, compiled)
	}
	return good, bad
}

func matchesWhole(e *regexp.Regexp, name string) bool {
	at := e.FindStringIndex(name)
	return at != nil && at[0] == 0 && at[1] == len(name)
}
