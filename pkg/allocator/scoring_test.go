package allocator

import (
	"os"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/volume"
)

// TestTheExamplesOfTheDocumentation reads the table of docs/scoring.md.
func TestTheExamplesOfTheDocumentation(t *testing.T) {
	page, err := os.ReadFile("../../docs/scoring.md")
	if err != nil {
		t.Fatal(err)
	}
	examples := 0
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		if prefer, err := PreferenceNamed(cells[0]); err == nil && len(cells) == 5 {
			examples++
			t.Run(strings.Join(cells, ";"), func(t *testing.T) { example(t, prefer, cells) })
		}
	}
	if examples < 15 {
		t.Errorf("the page has %d examples", examples)
	}
}

func example(t *testing.T, prefer Preference, cells []string) {
	n := capacity.Node{Name: "n1"}
	for text := range strings.SplitSeq(cells[1], ", ") {
		words := strings.Fields(text)
		used, all, _ := strings.Cut(words[1], "/")
		g := group(words[0], size(t, all))
		g.Free -= size(t, used)
		if len(words) > 2 {
			g.Media = capacity.Media(words[2])
		}
		n.Groups = append(n.Groups, g)
	}
	var wants []volume.Claim
	for text := range strings.SplitSeq(cells[2], ", ") {
		words := strings.Fields(text)
		c := claim("c", size(t, words[0]))
		if len(words) == 3 && words[1] == "in" {
			c.Group = words[2]
		} else if len(words) == 3 {
			c.Media = volume.Media(words[2])
		}
		wants = append(wants, c)
	}
	spots, err := Place(n, wants, prefer)
	if err != nil {
		if cells[3] != "none" {
			t.Error(err)
		}
		return
	}
	var groups []string
	for _, spot := range spots {
		groups = append(groups, spot.Group)
	}
	if got := strings.Join(groups, ", "); got != cells[3] {
		t.Errorf("they go to %s", got)
	}
	if got := resource.NewQuantity(Score(n, wants, spots, prefer), resource.DecimalSI).String(); got != cells[4] {
		t.Errorf("the score is %s", got)
	}
}

func size(t *testing.T, text string) capacity.Bytes {
	t.Helper()
	q, err := resource.ParseQuantity(text)
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return capacity.Bytes(q.Value())
}
