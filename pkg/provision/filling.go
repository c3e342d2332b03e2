package provision

import (
	"time"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/devmapper"
)

// How the space of a snapshot is kept ahead of what is written.
const (
	// calm is how often a snapshot is looked at that cannot fill soon, and restless one
	// that can.
	calm, restless = time.Second, 20 * time.Millisecond
	// fastest is what a disk is thought to be able to write at most, a second: how soon
	// a snapshot must be looked at again of which nothing is known.
	fastest = 2 * capacity.GiB
	// ahead is for how long a space that grows shall last at the present rate.
	ahead = 10 * time.Second
	// growing is how long it may take until a space has grown: a snapshot that would be
	// full before has those wait who write to its origin.
	growing = 3 * time.Second
	// afterRefusal is how long nothing is tried after the group had no room.
	afterRefusal = 5 * time.Second
)

// filling is what is remembered of one snapshot from look to look.
type filling struct {
	at    time.Time      // of the last look; zero before the first
	taken capacity.Bytes // then
	rate  float64        // bytes a second that are taken, of late; a peak wears off by and by
	most  capacity.Bytes // more than that it can never need; 0 while not known
	retry time.Time      // when growing may be tried again
	busy  bool           // it is being grown
	pause *pause         // for those who write to its origin meanwhile; nil where they must not wait
	told  string         // the trouble that was told last
}

// A verdict is what is to be done about a snapshot.
type verdict struct {
	grow  capacity.Bytes // to which size; 0 leaves it as it is
	hold  bool           // have writers wait until it has grown
	again time.Duration  // until the next look
}

// see takes a look into account.
func (f *filling) see(now time.Time, seen devmapper.Snapshot) {
	if passed := now.Sub(f.at).Seconds(); !f.at.IsZero() && passed > 0 {
		rate := max(0, float64(seen.Taken-f.taken)/passed)
		f.rate = max(rate, f.rate*0.9)
		if f.rate < 1 {
			f.rate = 0
		}
	}
	f.at, f.taken = now, seen.Taken
}

// judge decides what is to be done about a snapshot that was seen so.
func (f *filling) judge(now time.Time, seen devmapper.Snapshot, w Watched) verdict {
	if f.most > 0 && seen.Space >= f.most {
		return verdict{again: calm} // it will never be full
	}
	left := seen.Space - seen.Taken
	v := verdict{again: min(after(left, float64(fastest))/2, after(left, f.rate)/4)}
	v.again = max(restless, min(v.again, calm))
	full := seen.Taken*100 >= seen.Space*capacity.Bytes(w.Threshold)
	if !full && after(left, f.rate) > ahead/2 {
		return v
	}
	v.hold = f.rate > 0 && after(left, f.rate) < growing
	if f.busy || now.Before(f.retry) {
		return v
	}
	v.grow = seen.Space + max(w.Step, capacity.Bytes(f.rate*ahead.Seconds()))
	if f.most > 0 {
		v.grow = min(v.grow, f.most)
	}
	return v
}

// after returns in what time so much is written at that rate; a day stands for ever.
func after(size capacity.Bytes, rate float64) time.Duration {
	const ever = 24 * time.Hour
	seconds := float64(max(size, 0)) / max(rate, 1e-9)
	return time.Duration(min(seconds, ever.Seconds()) * float64(time.Second))
}
