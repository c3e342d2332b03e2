package follow

import (
	"iter"
	"math/bits"
)

// A table has values under hashes, any number under one. It takes 20 bytes for each; a map
// from the key of a value to the value takes 70.
//
// A value lies at the slot that its hash says, or at the first free one behind that. So
// between the two there is no free slot, and where one becomes free others move up.
type table[T comparable] struct {
	hashes []uint32
	values []T // the zero T: nothing is there
	count  int
}

// leastSlots is the number of slots of a table that has anything.
const leastSlots = 16

// home returns the slot that a hash says.
func (t *table[T]) home(hash uint32) int {
	high, _ := bits.Mul64(uint64(hash)<<32, uint64(len(t.values)))
	return int(high)
}

func (t *table[T]) next(slot int) int {
	if slot++; slot < len(t.values) {
		return slot
	}
	return 0
}

// add puts the value under the hash, once more if it is there already.
func (t *table[T]) add(hash uint32, value T) {
	if 4*(t.count+1) > 3*len(t.values) {
		t.resize(max(leastSlots, len(t.values)+len(t.values)/2))
	}
	t.put(hash, value)
	t.count++
}

func (t *table[T]) put(hash uint32, value T) {
	var nothing T
	slot := t.home(hash)
	for t.values[slot] != nothing {
		slot = t.next(slot)
	}
	t.hashes[slot], t.values[slot] = hash, value
}

// resize gives the table so many slots, more than it has values.
func (t *table[T]) resize(slots int) {
	var nothing T
	before := *t
	t.hashes, t.values = make([]uint32, slots), make([]T, slots)
	for slot, value := range before.values {
		if value != nothing {
			t.put(before.hashes[slot], value)
		}
	}
}

// roomFor makes room for so many values at once.
func (t *table[T]) roomFor(count int) {
	if slots := count + count/2; slots > len(t.values) {
		t.resize(max(leastSlots, slots))
	}
}

// under returns the values that are under the hash.
func (t *table[T]) under(hash uint32) iter.Seq[T] {
	return func(yield func(T) bool) {
		var nothing T
		if t.count == 0 {
			return
		}
		for slot := t.home(hash); t.values[slot] != nothing; slot = t.next(slot) {
			if t.hashes[slot] == hash && !yield(t.values[slot]) {
				return
			}
		}
	}
}

// remove takes the value from under the hash, once.
func (t *table[T]) remove(hash uint32, value T) {
	var nothing T
	if t.count == 0 {
		return
	}
	slot := t.home(hash)
	for t.values[slot] != value || t.hashes[slot] != hash {
		if t.values[slot] == nothing {
			return // it is not there
		}
		slot = t.next(slot)
	}
	t.count--
	free := slot
	for {
		slot = t.next(slot)
		if t.values[slot] == nothing {
			break
		}
		if t.mayMove(slot, free) {
			t.hashes[free], t.values[free] = t.hashes[slot], t.values[slot]
			free = slot
		}
	}
	t.hashes[free], t.values[free] = 0, nothing
}

// mayMove reports whether what is in a slot may be in one before it: its home is not
// between the two.
func (t *table[T]) mayMove(from, to int) bool {
	home := t.home(t.hashes[from])
	if to <= from {
		return home <= to || home > from
	}
	return home <= to && home > from // the end lies between the two
}

// all returns all values.
func (t *table[T]) all() iter.Seq[T] {
	return func(yield func(T) bool) {
		var nothing T
		for _, value := range t.values {
			if value != nothing && !yield(value) {
				return
			}
		}
	}
}
