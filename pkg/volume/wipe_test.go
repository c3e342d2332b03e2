package volume

import "testing"

func TestTagsKeepWhatBecomesOfTheData(t *testing.T) {
	for name, test := range map[string]struct {
		tags []string
		want Wipe
	}{
		"nothing is said":           {[]string{"somebody.else=zero"}, WipeDiscard},
		"it stays":                  {[]string{IDTag("v"), WipeTag(WipeNone)}, WipeNone},
		"it is discarded":           {[]string{WipeTag(WipeDiscard)}, WipeDiscard},
		"it is overwritten":         {[]string{WipeTag(WipeZero), IDTag("v")}, WipeZero},
		"what is said is no way":    {[]string{tagWipe + "=shred"}, WipeDiscard},
		"two things are said of it": {[]string{WipeTag(WipeZero), WipeTag(WipeNone)}, WipeDiscard},
	} {
		t.Run(name, func(t *testing.T) {
			if got := WipeFromTags(test.tags); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}
