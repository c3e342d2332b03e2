package cluster

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWhatANodeSaysOfItsDisks(t *testing.T) {
	tests := map[string]struct {
		said string
		want []Disk
		err  string
	}{
		"disks of both kinds": {
			said: "ubdb 2097152 wwn: serial:N1-b\nsda 131072 wwn:naa.33333330000007d0 serial:\n",
			want: []Disk{{"/dev/ubdb", 1 << 30, "serial-N1-b"}, {"/dev/sda", 64 << 20, "wwn-0x33333330000007d0"}},
		},
		"one that does not say who it is": {said: "ubdc 8 wwn: serial:\n", want: []Disk{{"/dev/ubdc", 4096, ""}}},
		"none":                            {},
		"a line that is cut":              {said: "ubdb 20", err: `line "ubdb 20"`},
		"a size that is none":             {said: "ubdb large wwn: serial:\n", err: "field 2"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := parseDisks(test.said)
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Errorf("got %v, want an error with %q", err, test.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("disks (-want +got):\n%s", diff)
			}
		})
	}
}

func TestTheHostOfASCSIDisk(t *testing.T) {
	for id, want := range map[string]int{"wwn-0x33333330000007d0": 0, "wwn-0x3333333000000bb8": -1, "wwn-0x3333333000000fa0": 1, "wwn-0x3333333000000000": -1, "serial-N1-b": -1, "wwn-0x5000": -1} {
		got, err := hostOf(id)
		if want < 0 {
			if err == nil {
				t.Errorf("%s is of host %d, want an error", id, got)
			}
			continue
		}
		if err != nil || got != want {
			t.Errorf("%s: got %d and %v, want %d", id, got, err, want)
		}
	}
}
