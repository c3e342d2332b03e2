package volume_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/open-local/open-local/pkg/volume"
)

func TestIDTag(t *testing.T) {
	for name, test := range map[string]struct{ id, want string }{
		"a handle of csi-provisioner is spelt as it is": {
			id:   "local-2f1c6a8e-0d3c-4a53-8f3e-0a9d7f1b2c3d",
			want: "open-local.id=local-2f1c6a8e-0d3c-4a53-8f3e-0a9d7f1b2c3d",
		},
		"every letter LVM allows stays":                 {id: "aZ9_+.-/=!:&#", want: "open-local.id=aZ9_+.-/=!:&#"},
		"a space is encoded":                            {id: "my volume", want: "open-local.id64=bXkgdm9sdW1l"},
		"a comma is encoded, it parts tags in a report": {id: "a,b", want: "open-local.id64=YSxi"},
		"an at sign is encoded, it begins a tag":        {id: "@x", want: "open-local.id64=QHg"},
		"letters above ASCII are encoded":               {id: "größe", want: "open-local.id64=Z3LDtsOfZQ"},
		"bytes that are no letter at all are encoded":   {id: "\xff", want: "open-local.id64=_w"},
	} {
		t.Run(name, func(t *testing.T) {
			got := volume.IDTag(test.id)
			if got != test.want {
				t.Errorf("tag %q, want %q", got, test.want)
			}
			if id, ok := volume.IDFromTags([]string{"first", got, "last"}); !ok || id != test.id {
				t.Errorf("read back %q (%v), want %q", id, ok, test.id)
			}
		})
	}
}

func TestIDFromTags(t *testing.T) {
	for name, test := range map[string]struct {
		tags []string
		want string
	}{
		"no tags name nobody":                       {},
		"tags of others name nobody":                {tags: []string{"protected", "open-local.claim=a/b", "open-local.identity=x"}},
		"an empty handle names nobody":              {tags: []string{"open-local.id="}},
		"an empty encoded handle names nobody":      {tags: []string{"open-local.id64="}},
		"a broken encoding names nobody":            {tags: []string{"open-local.id64=!"}},
		"a broken tag beside a good one is a doubt": {tags: []string{"open-local.id=a", "open-local.id64=!"}},
		"two handles are a doubt":                   {tags: []string{"open-local.id=a", "open-local.id=b"}},
		"the same handle twice is no doubt":         {tags: []string{"open-local.id=a", "open-local.id64=YQ"}, want: "a"},
		"a handle may contain the key itself":       {tags: []string{"open-local.id=open-local.id=x"}, want: "open-local.id=x"},
	} {
		t.Run(name, func(t *testing.T) {
			got, ok := volume.IDFromTags(test.tags)
			if got != test.want || ok != (test.want != "") {
				t.Errorf("got %q (%v), want %q", got, ok, test.want)
			}
		})
	}
}

func TestOwnerTags(t *testing.T) {
	for name, test := range map[string]struct {
		driver, cluster, namespace, claim string
		want                              []string
	}{
		"everything known is said": {
			driver: volume.DefaultDriver, cluster: "6d2f", namespace: "shop", claim: "data-db-0",
			want: []string{"open-local.driver=local.csi.aliyun.com", "open-local.cluster=6d2f", "open-local.claim=shop/data-db-0"},
		},
		"what is not known is left out":  {driver: "d", namespace: "shop", want: []string{"open-local.driver=d"}},
		"what LVM cannot spell is coded": {driver: "a b", want: []string{"open-local.driver64=YSBi"}},
		"what is too long is left out":   {driver: "d", cluster: strings.Repeat("x", 2000), want: []string{"open-local.driver=d"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := volume.OwnerTags(test.driver, test.cluster, test.namespace, test.claim)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("tags (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDriverFromTags(t *testing.T) {
	for name, test := range map[string]struct {
		tags []string
		want string
	}{
		"no tags name no driver":         {},
		"other tags name no driver":      {tags: []string{"open-local.id=a", "open-local.drivers=x"}},
		"a driver is read":               {tags: []string{"x", "open-local.driver=a.b"}, want: "a.b"},
		"an encoded driver is read":      {tags: []string{"open-local.driver64=YSBi"}, want: "a b"},
		"what cannot be read is no name": {tags: []string{"open-local.driver64=!"}},
	} {
		t.Run(name, func(t *testing.T) {
			if got, ok := volume.DriverFromTags(test.tags); got != test.want || ok != (test.want != "") {
				t.Errorf("got %q (%v), want %q", got, ok, test.want)
			}
		})
	}
}

func TestValidTag(t *testing.T) {
	for tag, want := range map[string]bool{
		"":                        false,
		"-a":                      false,
		"a-":                      true,
		"a b":                     false,
		"@a":                      false,
		"a\x00":                   false,
		"a\u00e4":                 false,
		strings.Repeat("a", 1024): true,
		strings.Repeat("a", 1025): false,
	} {
		if got := volume.ValidTag(tag); got != want {
			t.Errorf("ValidTag(%.20q) with %d bytes is %v, want %v", tag, len(tag), got, want)
		}
	}
}

func FuzzTags(f *testing.F) {
	f.Add("local-1", "driver", "cluster", "ns", "claim")
	f.Add("\x80 ,@", "", "-", "/", "=")
	f.Fuzz(func(t *testing.T, id, driver, cluster, namespace, claim string) {
		tags := volume.OwnerTags(driver, cluster, namespace, claim)
		if volume.ValidID(id) == nil {
			tags = append(tags, volume.IDTag(id))
			if got, ok := volume.IDFromTags(tags); !ok || got != id {
				t.Errorf("read %q (%v) from %q, want %q", got, ok, tags, id)
			}
		}
		for _, tag := range tags {
			if !volume.ValidTag(tag) {
				t.Errorf("LVM would refuse the tag %q", tag)
			}
		}
	})
}

func TestTagsTellTheClaim(t *testing.T) {
	for name, tc := range map[string]struct {
		tags            []string
		namespace, name string
		ok              bool
	}{
		"a claim":              {volume.OwnerTags("d", "c", "shop", "data-0"), "shop", "data-0", true},
		"no claim":             {volume.OwnerTags("d", "c", "", ""), "", "", false},
		"a claim and no space": {[]string{"open-local.claim=data-0"}, "data-0", "", false},
		"two that differ":      {append(volume.OwnerTags("d", "c", "a", "b"), volume.OwnerTags("d", "c", "a", "c")...), "", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			namespace, claim, ok := volume.ClaimFromTags(tc.tags)
			if ok != tc.ok || ok && (namespace != tc.namespace || claim != tc.name) {
				t.Errorf("got %q/%q, %t", namespace, claim, ok)
			}
		})
	}
}
