package capacity

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

func TestSizesAreWrittenAsPersonsCompareThem(t *testing.T) {
	for size, want := range map[Bytes]string{
		0:                "0",
		1:                "1",
		1023:             "1023",
		1024:             "1Ki",
		20 * GiB:         "20Gi",
		1536 * MiB:       "1536Mi",
		1536*MiB + 4*KiB: "1536.0Mi",
		GiB + 1:          "1024.0Mi",
		12*GiB + 345*MiB: "12.3Gi",
		2 * TiB:          "2Ti",
		20*TiB + 1:       "20.0Ti",
		-4 * MiB:         "-4Mi",
		math.MinInt64:    "-8Ei",
	} {
		if got := size.String(); got != want {
			t.Errorf("%d bytes are written %q, want %q", int64(size), got, want)
		}
	}
}

func TestExtentsRoundUpAndFloorRoundsDown(t *testing.T) {
	for name, test := range map[string]struct {
		size, extent, up, down Bytes
	}{
		"whole extents stay":                    {8 * MiB, 4 * MiB, 8 * MiB, 8 * MiB},
		"one byte takes an extent":              {1, 4 * MiB, 4 * MiB, 0},
		"nothing takes an extent":               {0, 4 * MiB, 4 * MiB, 0},
		"100M is 24 extents and gives 23":       {100_000_000, 4 * MiB, 96 * MiB, 92 * MiB},
		"no extent size means no rounding":      {5, 0, 5, 5},
		"less than nothing is nothing":          {-5, 4, 4, 0},
		"the largest size cannot be rounded up": {math.MaxInt64, 4 * MiB, math.MaxInt64, math.MaxInt64 - (4*MiB - 1)},
	} {
		t.Run(name, func(t *testing.T) {
			if got := test.size.Extents(test.extent); got != test.up {
				t.Errorf("up: got %d, want %d", got, test.up)
			}
			if got := test.size.Floor(test.extent); got != test.down {
				t.Errorf("down: got %d, want %d", got, test.down)
			}
		})
	}
}

func TestRoundingIsTight(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		extent := Bytes(rapid.Int64Range(1, int64(4*GiB)).Draw(t, "extent"))
		size := Bytes(rapid.Int64Range(1, int64(8*TiB)).Draw(t, "size"))
		up, down := size.Extents(extent), size.Floor(extent)
		if up%extent != 0 || up < size || up-size >= extent {
			t.Errorf("%d rounds up to %d in extents of %d", size, up, extent)
		}
		if down%extent != 0 || down > size || size-down >= extent {
			t.Errorf("%d rounds down to %d in extents of %d", size, down, extent)
		}
		if again := up.Extents(extent); again != up {
			t.Errorf("rounding %d again gives %d", up, again)
		}
	})
}
