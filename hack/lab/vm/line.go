package vm

import (
	"fmt"
	"os"
)

// serialLine is the pair of pipes behind a machine's serial line, and one whose
// closing tells the machine that its owner is gone.
type serialLine struct {
	nearIn, farIn   *os.File // to the machine
	nearOut, farOut *os.File // from the machine
	lifeline, held  *os.File
}

func openLine() (*serialLine, error) {
	var l serialLine
	for _, pipe := range []struct{ r, w **os.File }{{&l.farIn, &l.nearIn}, {&l.nearOut, &l.farOut}, {&l.lifeline, &l.held}} {
		r, w, err := os.Pipe()
		if err != nil {
			l.close()
			return nil, fmt.Errorf("making the machine's serial line: %w", err)
		}
		*pipe.r, *pipe.w = r, w
	}
	return &l, nil
}

// closeFar closes the ends that only the machine uses, so that its end is seen.
func (l *serialLine) closeFar() {
	for _, f := range []*os.File{l.farIn, l.farOut, l.lifeline} {
		_ = f.Close()
	}
}

func (l *serialLine) close() {
	for _, f := range []*os.File{l.nearIn, l.farIn, l.nearOut, l.farOut, l.lifeline, l.held} {
		if f != nil {
			_ = f.Close()
		}
	}
}
