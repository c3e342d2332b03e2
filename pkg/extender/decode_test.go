package extender

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	extenderv1 "k8s.io/kube-scheduler/extender/v1"
)

// requests are what is read like encoding/json reads it, or not at all.
var requests = []string{
	`{}`, `{"Pod":null,"Nodes":null,"NodeNames":null}`,
	`{"Pod":{"metadata":{"name":"p]},\\"}},"NodeNames":["n1","n2"]}`,
	` { "NodeNames" : [ "n1" , "n2" ] , "Pod" : { } } ` + "\n",
	`{"nodenames":[],"other":[{"a":"}"}]}`, `{"NodeNames":["\u00fc","n\"1"]}`, `{"NodeNames":["ü"]}`,
	`{"Nodes":{"items":[{"metadata":{"name":"n1"}}]}}`,
	``, `null`, `[]`, `{`, `{"Pod"}`, `{"Pod":}`, `{"Pod":{}`, `{"Pod":{},}`, `{"NodeNames":["n1",]}`, `{"NodeNames":["n1"]]}`,
	`{"NodeNames":"n1"}`, `{"NodeNames":[1]}`, `{"Pod":{}} x`, `{"x":}`, `{"x":01}`, `{"x":nonsense}`, `{"Pod":{"metadata":{"name":"\`,
	`{"NodeNames":["n1"`, `{"NodeNames":["n1`, `{,}`, `{"a":1 "b":2}`, `{"a":1,}`, `{"a":[}`, "{\"NodeNames\":[\"a\x01\"]}",
}

// sameAsStandard fails when decodeArgs reads text otherwise than encoding/json does. It
// may refuse what nobody sends: null for the whole, and keys that are escaped.
func sameAsStandard(t *testing.T, text string) {
	t.Helper()
	var got, want extenderv1.ExtenderArgs
	err := decodeArgs(strings.NewReader(text), &got, new(space))
	wantErr := json.Unmarshal([]byte(text), &want)
	if err != nil {
		if wantErr == nil && strings.TrimSpace(text) != "null" && !strings.ContainsAny(text, `\`) && ascii(text) {
			t.Errorf("%q is refused: %v", text, err)
		}
		return
	}
	if wantErr != nil {
		t.Fatalf("%q is read as %+v, but it is not JSON: %v", text, got, wantErr)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%q (-want +got):\n%s", text, diff)
	}
}

func ascii(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return r >= 0x7f })
}

func TestRequestsAreReadLikeEncodingJSONReadsThem(t *testing.T) {
	for _, text := range requests {
		sameAsStandard(t, text)
	}
}

func FuzzDecodeArgs(f *testing.F) {
	for _, text := range requests {
		f.Add(text)
	}
	f.Fuzz(sameAsStandard)
}
