package reserve

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
)

// RoomPath is where the extender keeps room for logical volumes of which no claim speaks:
// POST keeps it, DELETE gives it back. The first gin parameter is the node; it is named
// as in Path because both stand at one place.
const RoomPath = "/apis/scheduling/:namespace/logicalvolumes/:name"

// A Room is what is about to be taken of a node's volume group by a volume that grows or
// by a snapshot.
type Room struct {
	Node, Group string
	Volume      string // the name of the logical volume
	Bytes       int64  // what it shall have in all
	New         bool   // it is made, not made larger
}

// A Kept is what the extender writes when room is kept.
type Kept struct {
	Node   string `json:"node"`
	Group  string `json:"vgName"`
	Volume string `json:"logicalVolume"`
	Bytes  int64  `json:"bytes"`
}

// Keep has room kept on the node until its agent reports what was made of it, or for as
// long as the extender keeps promises. Asking again is free. The errors are ErrNoRoom,
// ErrInvalid and ErrNotReady.
func (c *Client) Keep(ctx context.Context, r Room) error {
	var kept Kept
	body, err := c.do(ctx, http.MethodPost, c.roomURL(r))
	if err == nil {
		if err = json.Unmarshal(body, &kept); err != nil {
			err = fmt.Errorf("reading the answer %.200q: %w", body, err)
		}
	}
	if err == nil && (kept.Node != r.Node || kept.Volume != r.Volume) {
		err = fmt.Errorf("%w: the answer is for logical volume %q on node %q", ErrElsewhere, kept.Volume, kept.Node)
	}
	if err != nil {
		return fmt.Errorf("keeping room for logical volume %s/%s on node %q: %w", r.Group, r.Volume, r.Node, err)
	}
	return nil
}

// GiveBack ends what Keep did: nothing more is made.
func (c *Client) GiveBack(ctx context.Context, r Room) error {
	if _, err := c.do(ctx, http.MethodDelete, c.roomURL(r)); err != nil {
		return fmt.Errorf("giving back the room for logical volume %s/%s on node %q: %w", r.Group, r.Volume, r.Node, err)
	}
	return nil
}

func (c *Client) roomURL(r Room) string {
	path := "/apis/scheduling/" + url.PathEscape(r.Node) + "/logicalvolumes/" + url.PathEscape(r.Volume)
	query := url.Values{"vgName": {r.Group}, "bytes": {strconv.FormatInt(r.Bytes, 10)}, "new": {strconv.FormatBool(r.New)}}
	return c.endpoint + path + "?" + query.Encode()
}
