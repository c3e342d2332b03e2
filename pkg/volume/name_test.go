package volume_test

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/open-local/open-local/pkg/volume"
)

const uid = "2f1c6a8e-0d3c-4a53-8f3e-0a9d7f1b2c3d"

func TestNameOf(t *testing.T) {
	hash := "csi-" + strings.Repeat("0a", 32)
	for name, test := range map[string]struct {
		id   string
		same bool
	}{
		"a volume of csi-provisioner":            {"local-" + uid, true},
		"a snapshot":                             {"snap-" + uid, true},
		"an inline volume":                       {hash, true},
		"every letter that LVM knows":            {"aZ0+_.-", true},
		"a name that begins with a hyphen":       {"-a", false},
		"a name with a blank":                    {"a b", false},
		"a name with a slash":                    {"a/b", false},
		"a name above ASCII":                     {"größe", false},
		"a dot":                                  {".", false},
		"two dots":                               {"..", false},
		"a prefix LVM keeps":                     {"snapshot-1", false},
		"another prefix LVM keeps":               {"pvmove0", false},
		"a part LVM keeps":                       {"a_tdata", false},
		"a name that is too long":                {strings.Repeat("a", 100), false},
		"a name that is too long for its dashes": {strings.Repeat("a-", 33), false},
		"a name that looks made":                 {"vol-" + strings.Repeat("0", 40), false},
		"a name that looks almost made":          {"vol-" + strings.Repeat("0", 39), true},
	} {
		t.Run(name, func(t *testing.T) {
			got := volume.NameOf(test.id)
			if (got == test.id) != test.same {
				t.Errorf("the name of %q is %q", test.id, got)
			}
			checkName(t, got)
		})
	}
}

var lvmName = regexp.MustCompile(`^[a-zA-Z0-9+_.][a-zA-Z0-9+_.-]*$`)

// checkName checks that LVM takes name, together with the name of a group as
// long as the ones in use.
func checkName(t *testing.T, name string) {
	t.Helper()
	if !lvmName.MatchString(name) || name == "." || name == ".." {
		t.Errorf("LVM would refuse the name %q", name)
	}
	mapper := strings.ReplaceAll("open-local-pool-0", "-", "--") + "-" + strings.ReplaceAll(name, "-", "--")
	if len(mapper) > 127 {
		t.Errorf("the device-mapper name of %q has %d bytes", name, len(mapper))
	}
}

func FuzzNameOf(f *testing.F) {
	f.Add("local-"+uid, "a b")
	f.Add("", "vol-"+strings.Repeat("0", 40))
	f.Fuzz(func(t *testing.T, a, b string) {
		nameA, nameB := volume.NameOf(a), volume.NameOf(b)
		checkName(t, nameA)
		if nameA != volume.NameOf(a) {
			t.Errorf("%q has two names", a)
		}
		if (a == b) != (nameA == nameB) {
			t.Errorf("%q is named %q, and %q is named %q", a, nameA, b, nameB)
		}
		// Nobody can ask for the name that another handle was given.
		if a != nameA && volume.NameOf(nameA) == nameA {
			t.Errorf("the handle %q would share the name of %q", nameA, a)
		}
	})
}

func TestValidGroup(t *testing.T) {
	for name, valid := range map[string]bool{
		"open-local-pool-0": true, "a": true, "+x": true, ".x": true, "_": true, strings.Repeat("a", 127): true,
		"": false, "-a": false, "a b": false, "a/b": false, "..": false, ".": false, "a\n": false, "é": false, strings.Repeat("a", 128): false,
	} {
		if err := volume.ValidGroup(name); (err == nil) != valid {
			t.Errorf("%.20q: %v, want valid %v", name, err, valid)
		}
	}
}

func TestValidID(t *testing.T) {
	for id, valid := range map[string]bool{
		"local-" + uid: true, "any name, also with spaces": true, "größe": true, strings.Repeat("a", 128): true,
		"": false, strings.Repeat("a", 129): false, "a\x00b": false, "a\nb": false, "a\x7f": false,
	} {
		err := volume.ValidID(id)
		if (err == nil) != valid || err != nil && !errors.Is(err, volume.ErrInvalid) {
			t.Errorf("%.20q: %v, want valid %v", id, err, valid)
		}
	}
}

func TestHandles(t *testing.T) {
	if got, want := volume.ForClaim(volume.DefaultPrefix, uid), "local-"+uid; got != want {
		t.Errorf("the handle for a claim is %q, want %q", got, want)
	}
	// What kubelet calls it: printf uiddata | sha256sum
	if got, want := volume.ForInline("uid", "data"), "csi-23e443c711b5dad0801c2e0a90f2be6e56dc28a2472cb2e8d6f0ead23e8765e9"; got != want {
		t.Errorf("the handle of an inline volume is %q, want %q", got, want)
	}
	if volume.ForInline("uid", "data") == volume.ForInline("uid", "other") {
		t.Error("two inline volumes of a pod share a handle")
	}
}

func TestLooksOurs(t *testing.T) {
	for name, ours := range map[string]bool{
		"local-" + uid: true, "snap-" + uid: true, volume.ForInline("uid", "data"): true,
		"": false, "root": false, "local-data": false, "local-" + uid + "x": false, "xlocal-" + uid: false,
		"LOCAL-" + uid: false, "local-" + strings.ToUpper(uid): false, "csi-" + strings.Repeat("0", 63): false, "vol-" + strings.Repeat("0", 40): false,
	} {
		if got := volume.LooksOurs(name); got != ours {
			t.Errorf("%q: %v, want %v", name, got, ours)
		}
	}
}
