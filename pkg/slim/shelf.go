package slim

import (
	"hash/maphash"
	"sync"
)

// An index of a cache has a map for each value, which takes 200 bytes however little is in
// it. Where nearly each value is of one object alone, values are put on shelves, and who
// looks for a value looks through its shelf.

// shelfCount is how many there are: with half a million values some thirty are on each.
const shelfCount = 1 << 14

// seed makes it hard to have all values put on one shelf.
var seed = maphash.MakeSeed()

// shelves returns the labels of all of them, so that nobody needs memory for one.
var shelves = sync.OnceValue(func() string {
	var labels [2 * shelfCount]byte
	for i := range shelfCount {
		labels[2*i], labels[2*i+1] = byte(i>>8), byte(i)
	}
	return string(labels[:])
})

// Shelf returns the value under which an index has those who have this value.
func Shelf(value string) string {
	at := 2 * int(maphash.String(seed, value)%shelfCount)
	return shelves()[at : at+2]
}
