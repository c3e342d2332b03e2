package initplan_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
	"github.com/open-local/open-local/pkg/initplan"
)

func TestSelector(t *testing.T) {
	names := []string{"open-local-pool-0", "open-local-pool-12", "xopen-local-pool-0", "root", "your-vg-name"}
	for name, test := range map[string]struct {
		include, exclude []string
		want             []string
		problems         int
	}{
		"nothing included selects nothing":               {},
		"nothing included selects nothing, with exclude": {exclude: []string{"root"}},
		"an expression matches the whole name":           {include: []string{"open-local-pool-[0-9]+"}, want: []string{"open-local-pool-0", "open-local-pool-12"}},
		"a plain name is an expression":                  {include: []string{"your-vg-name"}, want: []string{"your-vg-name"}},
		"a part of a name is not enough":                 {include: []string{"pool", "oo"}},
		"exclude wins":                                   {include: []string{".*"}, exclude: []string{"root", "x.*"}, want: []string{"open-local-pool-0", "open-local-pool-12", "your-vg-name"}},
		"exclude too matches the whole name":             {include: []string{"root"}, exclude: []string{"ro"}, want: []string{"root"}},
		"an alternative is taken whole":                  {include: []string{"ro|root"}, want: []string{"root"}},
		"a lazy expression is taken whole":               {include: []string{"ro*?t?.*?"}, want: []string{"root"}},
		"anchors do no harm":                             {include: []string{"^root$"}, want: []string{"root"}},
		"an expression cannot break out of its anchors":  {include: []string{"a)|(?:root"}, problems: 1},
		"an open quotation is one expression":            {include: []string{`\Qroot`}, want: []string{"root"}},
		"a bad inclusion leaves the others":              {include: []string{"[", "root", "(?<!x)y"}, want: []string{"root"}, problems: 2},
		"a bad exclusion selects nothing":                {include: []string{".*"}, exclude: []string{"[root"}, problems: 1},
		"the empty expression matches no name":           {include: []string{""}},
	} {
		t.Run(name, func(t *testing.T) {
			selector, problems := initplan.NewSelector("listConfig.vgs", v1alpha1.Selection{Include: test.include, Exclude: test.exclude})
			if diff := cmp.Diff(test.want, selector.Select(names)); diff != "" {
				t.Errorf("selected (-want +got):\n%s", diff)
			}
			if len(problems) != test.problems {
				t.Errorf("problems %v, want %d", problems, test.problems)
			}
		})
	}
}

func TestSelectorsNameTheListWithTheMistake(t *testing.T) {
	bad := v1alpha1.Selection{Exclude: []string{"("}}
	_, problems := initplan.NewSelectors(v1alpha1.ListConfig{MountPoints: bad})
	if len(problems) != 1 || problems[0].Area != initplan.OfSpec || problems[0].Object != "(" ||
		!strings.Contains(problems[0].Message, "listConfig.mountPoints.exclude") {
		t.Errorf("got %+v", problems)
	}
}

// FuzzSelector holds the selector to the anchored form of the same expression,
// for expressions that can be written between anchors.
func FuzzSelector(f *testing.F) {
	f.Add("open-local-pool-[0-9]+", "open-local-pool-0")
	f.Add("a|ab", "ab")
	f.Add("a)|(b", "b")
	f.Add(`\Qa`, "a")
	f.Add("(?m)a$", "a\nb")
	f.Fuzz(func(t *testing.T, expression, name string) {
		selector, problems := initplan.NewSelector("l", v1alpha1.Selection{Include: []string{expression}})
		got := selector.Matches(name)
		_, err := regexp.Compile(expression)
		if (err != nil) != (len(problems) == 1) {
			t.Fatalf("expression %q: error %v, problems %v", expression, err, problems)
		}
		if err != nil {
			if got {
				t.Fatalf("the bad expression %q matches %q", expression, name)
			}
			return
		}
		if strings.Contains(expression, `\Q`) {
			return
		}
		if want := regexp.MustCompile(`\A(?:` + expression + `)\z`).MatchString(name); got != want {
			t.Errorf("%q on %q: got %v, want %v", expression, name, got, want)
		}
		closed, _ := initplan.NewSelector("l", v1alpha1.Selection{Include: []string{expression}, Exclude: []string{expression}})
		if closed.Matches(name) {
			t.Errorf("%q is included though it is excluded", name)
		}
	})
}
