package reserve

import (
	"errors"
	"net/http"
	"testing"
)

var snapshot = Room{Node: "n1", Group: "pool", Volume: "snap-1", Bytes: 4096, New: true}

func TestRoomIsAskedForAndGivenBack(t *testing.T) {
	client, got := extender(t, http.StatusOK, `{"node":"n1","vgName":"pool","logicalVolume":"snap-1","bytes":4096}`)
	const where = "/apis/scheduling/n1/logicalvolumes/snap-1?bytes=4096&new=true&vgName=pool"
	if err := client.Keep(t.Context(), snapshot); err != nil {
		t.Fatal(err)
	}
	if got.Method != http.MethodPost || got.URL.RequestURI() != where {
		t.Errorf("asked %s %s", got.Method, got.URL.RequestURI())
	}
	if err := client.GiveBack(t.Context(), snapshot); err != nil {
		t.Fatal(err)
	}
	if got.Method != http.MethodDelete || got.URL.RequestURI() != where {
		t.Errorf("asked %s %s", got.Method, got.URL.RequestURI())
	}
}

func TestRoomThatIsRefused(t *testing.T) {
	for name, test := range map[string]struct {
		status int
		body   string
		want   error
		text   string
	}{
		"no room": {
			507, `{"message":"vg pool: wants 20Gi, 12Gi free"}`, ErrNoRoom,
			`keeping room for logical volume pool/snap-1 on node "n1": no room on the node: vg pool: wants 20Gi, 12Gi free`,
		},
		"not ready": {503, `{"message":"caches"}`, ErrNotReady, `keeping room for logical volume pool/snap-1 on node "n1": the scheduler extender cannot answer now: caches`},
		"another's answer": {
			200, `{"node":"n2","logicalVolume":"snap-1"}`, ErrElsewhere,
			`keeping room for logical volume pool/snap-1 on node "n1": the volume has its place on another node: the answer is for logical volume "snap-1" on node "n2"`,
		},
		"no JSON": {200, `x`, nil, `keeping room for logical volume pool/snap-1 on node "n1": reading the answer "x": invalid character 'x' looking for beginning of value`},
	} {
		t.Run(name, func(t *testing.T) {
			client, _ := extender(t, test.status, test.body)
			err := client.Keep(t.Context(), snapshot)
			if err == nil || err.Error() != test.text {
				t.Errorf("got %v, want %s", err, test.text)
			}
			if test.want != nil && !errors.Is(err, test.want) {
				t.Errorf("%v is not %v", err, test.want)
			}
		})
	}
}
