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
	`{"NodeNames":["node-00001.example.org","node-00002.example.\u006frg","node\x7f-00001"]}`, `{"NodeNames":["n1"],"NodeNames":null}`,
	`{"NodeNames":["n1","n2"],"nodenames":["\u006e3"]}`, `{"NodeNames":["node-00001.example.org\"]}`,
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

// TestPlainTextNeedsNoEscaping tries every byte at every place of short texts.
func TestPlainTextNeedsNoEscaping(t *testing.T) {
	for length := 1; length <= 17; length++ {
		for at := range length {
			for c := range 256 {
				text := []byte("node-00001.example.org"[:length])
				text[at] = byte(c)
				if want := c >= ' ' && c < 0x7f && c != '"' && c != '\\'; plain(string(text)) != want {
					t.Fatalf("%q is plain: %t, want %t", text, !want, want)
				}
			}
		}
	}
}

func FuzzDecodeArgs(f *testing.F) {
	for _, text := range requests {
		f.Add(text)
	}
	f.Fuzz(sameAsStandard)
}
