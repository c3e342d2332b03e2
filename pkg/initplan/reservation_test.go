package initplan_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/initplan"
)

func TestParseReservations(t *testing.T) {
	type reserved = map[string]initplan.Reservation
	for name, test := range map[string]struct {
		annotation string
		want       reserved
		problems   []string // the objects
	}{
		"no annotation reserves nothing":          {},
		"both forms are read":                     {annotation: `{"a":"100Gi","b":"10%"}`, want: reserved{"a": {Size: 100 * capacity.GiB}, "b": {Share: 0.1}}},
		"bounds of a share are allowed":           {annotation: `{"a":"0%","b":"100%"}`, want: reserved{"a": {}, "b": {Share: 1}}},
		"a share may have a fraction":             {annotation: `{"a":"12.5%"}`, want: reserved{"a": {Share: 0.125}}},
		"a plain number of bytes is a quantity":   {annotation: `{"a":"4096"}`, want: reserved{"a": {Size: 4096}}},
		"a fraction of a byte counts as one":      {annotation: `{"a":"100m"}`, want: reserved{"a": {Size: 1}}},
		"what is not JSON is a problem":           {annotation: `a=100Gi`, problems: []string{""}},
		"a list is a problem":                     {annotation: `["a"]`, problems: []string{""}},
		"a number instead of a text is a problem": {annotation: `{"a":100,"b":"1Gi"}`, want: reserved{"b": {Size: capacity.GiB}}, problems: []string{"a"}},
		"null is a problem":                       {annotation: `{"a":null}`, problems: []string{"a"}},
		"a group that is not there is a problem":  {annotation: `{"z":"1Gi","a":"1Gi"}`, want: reserved{"a": {Size: capacity.GiB}}, problems: []string{"z"}},
		"less than nothing is a problem":          {annotation: `{"a":"-1Gi","b":"-5%"}`, problems: []string{"a", "b"}},
		"more than everything is a problem":       {annotation: `{"a":"101%","b":"1e9%"}`, problems: []string{"a", "b"}},
		"a share of no number is a problem":       {annotation: `{"a":"%","b":"NaN%"}`, problems: []string{"a", "b"}},
		"words are a problem":                     {annotation: `{"a":"lots","b":""}`, problems: []string{"a", "b"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, problems := initplan.ParseReservations(test.annotation, []string{"a", "b"})
			if len(got) != 0 || len(test.want) != 0 {
				if diff := cmp.Diff(test.want, got); diff != "" {
					t.Errorf("reserved (-want +got):\n%s", diff)
				}
			}
			var objects []string
			for _, p := range problems {
				if p.Reason != initplan.BadReservation {
					t.Errorf("reason %q", p.Reason)
				}
				objects = append(objects, p.Object)
			}
			if diff := cmp.Diff(test.problems, objects); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
}

func TestReservationOf(t *testing.T) {
	for name, test := range map[string]struct {
		reservation initplan.Reservation
		total, want capacity.Bytes
	}{
		"a size is kept":                      {initplan.Reservation{Size: 3}, 10, 3},
		"never more than there is":            {initplan.Reservation{Size: 30}, 10, 10},
		"a share is rounded up":               {initplan.Reservation{Share: 0.1}, 101, 11},
		"the whole share is the whole":        {initplan.Reservation{Share: 1}, 7 * capacity.TiB, 7 * capacity.TiB},
		"of an empty group there is nothing":  {initplan.Reservation{Size: 1, Share: 1}, 0, 0},
		"no reservation keeps nothing":        {initplan.Reservation{}, 10, 0},
		"a share of the largest size is sane": {initplan.Reservation{Share: 1}, 1<<63 - 1, 1<<63 - 1},
	} {
		t.Run(name, func(t *testing.T) {
			if got := test.reservation.Of(test.total); got != test.want {
				t.Errorf("got %d, want %d", got, test.want)
			}
		})
	}
}

func FuzzParseReservations(f *testing.F) {
	f.Add(`{"a":"100Gi","b":"10%"}`, int64(1<<40))
	f.Add(`{"a":"9e999","b":".%"}`, int64(1))
	f.Add(`{"a":"1e-99","a":"5"}`, int64(0))
	f.Fuzz(func(t *testing.T, annotation string, size int64) {
		total := capacity.Bytes(max(0, size))
		reserved, _ := initplan.ParseReservations(annotation, []string{"a", "b"})
		for group, reservation := range reserved {
			if group != "a" && group != "b" {
				t.Errorf("reserved of %q, which is not there", group)
			}
			if kept := reservation.Of(total); kept < 0 || kept > total {
				t.Errorf("%q keeps %d of %d", annotation, kept, total)
			}
		}
	})
}
