package allocator

import (
	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/volume"
)

// Room returns how many bytes volumes such as this one may still take on the node, whatever
// its size: all of them together, and the largest of them.
func Room(node capacity.Node, like volume.Claim) (all, largest capacity.Bytes) {
	for i := range node.Groups {
		if group := &node.Groups[i]; group.Trouble == "" && eligible(&like, group) {
			most := group.Largest(like.Layout)
			all += most
			largest = max(largest, most)
		}
	}
	return all, largest
}
