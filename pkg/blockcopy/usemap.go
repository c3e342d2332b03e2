package blockcopy

import (
	"iter"
	"math/bits"
)

const (
	// defaultGrain is the least that is told apart as used or not. Less than this is
	// read as quickly as it is skipped.
	defaultGrain = 64 << 10
	// maxGrains bounds the memory of a map to 32 MiB. Of a device above 16 TiB the
	// grains are larger, though never more than a piece, which lasts to 256 TiB.
	maxGrains = 1 << 28
)

// useMap says which grains of a device are in use: a bit for each.
type useMap struct {
	size, grain int64
	words       []uint64
}

// newUseMap returns the map of a device of which nothing is in use.
func newUseMap(size int64) *useMap {
	m := &useMap{size: size, grain: defaultGrain}
	for size/m.grain >= maxGrains && m.grain < pieceSize {
		m.grain *= 2
	}
	m.words = make([]uint64, (m.grains()+63)/64)
	return m
}

func (m *useMap) grains() int64 { return (m.size + m.grain - 1) / m.grain }

// use marks every grain that a part of the device touches. What lies outside of the
// device is not marked.
func (m *useMap) use(at, length int64) {
	at, end := max(at, 0), min(at+length, m.size)
	if at < end {
		m.mark(at/m.grain, (end+m.grain-1)/m.grain, true)
	}
}

// free takes the mark off every grain that lies wholly in a part of the device.
func (m *useMap) free(at, length int64) {
	at, end := max(at, 0), min(at+length, m.size)
	first, last := (at+m.grain-1)/m.grain, end/m.grain
	if end == m.size {
		last = m.grains()
	}
	m.mark(first, last, false)
}

// mark changes the grains from first to before last.
func (m *useMap) mark(first, last int64, used bool) {
	for first < last {
		word, bit := first/64, first%64
		n := min(64-bit, last-first)
		mask := ^uint64(0) >> (64 - n) << bit
		if used {
			m.words[word] |= mask
		} else {
			m.words[word] &^= mask
		}
		first += n
	}
}

func (m *useMap) used(grain int64) bool { return m.words[grain/64]>>(grain%64)&1 != 0 }

// bytes returns how much is in use.
func (m *useMap) bytes() int64 {
	grains := 0
	for _, word := range m.words {
		grains += bits.OnesCount64(word)
	}
	total := int64(grains) * m.grain
	if last := m.grains() - 1; last >= 0 && m.used(last) {
		total -= m.grains()*m.grain - m.size
	}
	return total
}

// runs yields offset and length of what is in use, in pieces of at most the given
// length, from the start of the device to its end.
func (m *useMap) runs(most int64) iter.Seq2[int64, int64] {
	return func(yield func(at, length int64) bool) {
		for grain := int64(0); grain < m.grains(); {
			word := m.words[grain/64] >> (grain % 64)
			if word == 0 {
				grain += 64 - grain%64
				continue
			}
			grain += int64(bits.TrailingZeros64(word))
			end := grain + 1
			for end < m.grains() && m.used(end) && (end-grain+1)*m.grain <= most {
				end++
			}
			if !yield(grain*m.grain, min(end*m.grain, m.size)-grain*m.grain) {
				return
			}
			grain = end
		}
	}
}
