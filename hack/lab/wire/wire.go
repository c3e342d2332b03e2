// Package wire carries one command's life over one byte stream: its input and
// signals one way, its two outputs and how it ended the other way. The stream
// may be a serial line of a virtual machine or a socket. It does not know what
// runs the command.
package wire

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
)

// Kind says what a frame carries.
type Kind byte

// The kinds of frames.
const (
	Stdout Kind = iota + 1 // bytes the command printed
	Stderr                 // bytes the command printed as errors
	Exit                   // a Result, the last frame
	Stdin                  // bytes for the command; an empty one ends its input
	Signal                 // one byte: the signal's number
	Start                  // a Command, the first frame of a request; without payload: ready for input
	Taken                  // the command has taken the last Stdin frame
)

// maxPayload bounds a frame, so that line noise is an error and not a huge
// allocation.
const maxPayload = 1 << 20

// A Command is what to run. Env nil means the environment of the far side.
type Command struct {
	Argv  []string `json:"argv"`
	Env   []string `json:"env,omitempty"`
	Dir   string   `json:"dir,omitempty"`
	Token string   `json:"token,omitempty"` // shows that the caller may run commands
}

// A Result is how a command ended.
type Result struct {
	Code  int    `json:"code"`            // exit code; 128+n when ended by signal n
	Error string `json:"error,omitempty"` // why it could not be run at all
}

// A Conn reads and writes frames. Writes may come from several goroutines;
// reads from one.
type Conn struct {
	r  io.Reader
	mu sync.Mutex // guards w, so that frames do not mix
	w  io.Writer

	taken chan struct{} // holds a token when input may be sent
	ended chan struct{} // closed when Receive returns
}

// New returns a Conn over the two directions of a stream.
func New(r io.Reader, w io.Writer) *Conn {
	c := &Conn{r: r, w: w, taken: make(chan struct{}, 1), ended: make(chan struct{})}
	c.taken <- struct{}{}
	return c
}

// Write sends one frame, cutting long payloads into several.
func (c *Conn) Write(kind Kind, payload []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		part := payload[:min(len(payload), maxPayload)]
		frame := make([]byte, 5, 5+len(part))
		frame[0] = byte(kind)
		binary.BigEndian.PutUint32(frame[1:], uint32(len(part)))
		if _, err := c.w.Write(append(frame, part...)); err != nil {
			return fmt.Errorf("writing a frame of kind %d: %w", kind, err)
		}
		if payload = payload[len(part):]; len(payload) == 0 {
			return nil
		}
	}
}

// WriteJSON sends one frame holding v as JSON.
func (c *Conn) WriteJSON(kind Kind, v any) error {
	payload, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encoding a frame of kind %d: %w", kind, err)
	}
	return c.Write(kind, payload)
}

// Read returns the next frame, or io.EOF when the stream ended between frames.
func (c *Conn) Read() (Kind, []byte, error) {
	var head [5]byte
	if _, err := io.ReadFull(c.r, head[:]); err != nil {
		return 0, nil, err
	}
	kind, size := Kind(head[0]), binary.BigEndian.Uint32(head[1:])
	if kind < Stdout || kind > Taken || size > maxPayload {
		return 0, nil, fmt.Errorf("frame of kind %d and size %d: not our protocol", kind, size)
	}
	payload := make([]byte, size)
	if _, err := io.ReadFull(c.r, payload); err != nil {
		return 0, nil, fmt.Errorf("reading a frame of kind %d: %w", kind, err)
	}
	return kind, payload, nil
}

// Output returns a writer whose bytes become frames of kind.
func (c *Conn) Output(kind Kind) io.Writer { return output{c, kind} }

type output struct {
	conn *Conn
	kind Kind
}

func (o output) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if err := o.conn.Write(o.kind, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// ErrLost says that the stream ended before the command's result came.
var ErrLost = errors.New("the connection ended before the command did")

// AwaitReady waits until the far side can take input.
func (c *Conn) AwaitReady() error {
	kind, _, err := c.Read()
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrLost, err)
	case kind != Start:
		return fmt.Errorf("first frame is of kind %d, not %d", kind, Start)
	}
	return nil
}

// inputPart is how much input is under way at a time. A serial line into a
// User-Mode Linux kernel loses its way when more comes than a terminal holds,
// which is 4096 bytes.
const inputPart = 2048

// SendInput sends what r gives as the command's input, and its end. r nil is an
// empty input. It returns when all is sent or the command ended, which is not an
// error: a command need not read its input. Receive must run at the same time.
func (c *Conn) SendInput(r io.Reader) error {
	for part := make([]byte, inputPart); r != nil; {
		n, err := r.Read(part)
		if n > 0 {
			select {
			case <-c.taken:
			case <-c.ended:
				return nil
			}
			if err := c.Write(Stdin, part[:n]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("reading input: %w", err)
		}
	}
	return c.Write(Stdin, nil)
}

// Receive copies a command's outputs until its result comes. It is called once.
func (c *Conn) Receive(stdout, stderr io.Writer) (Result, error) {
	defer close(c.ended)
	for {
		kind, payload, err := c.Read()
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return Result{}, ErrLost
		}
		if err != nil {
			return Result{}, fmt.Errorf("%w: %w", ErrLost, err)
		}
		switch kind {
		case Stdout:
			_, err = stdout.Write(payload)
		case Stderr:
			_, err = stderr.Write(payload)
		case Taken:
			select {
			case c.taken <- struct{}{}:
			default: // more were taken than were sent: not our concern
			}
		case Exit:
			var result Result
			if err := json.Unmarshal(payload, &result); err != nil {
				return Result{}, fmt.Errorf("decoding the command's result: %w", err)
			}
			return result, nil
		default:
			err = fmt.Errorf("frame of kind %d: not part of an answer", kind)
		}
		if err != nil {
			return Result{}, fmt.Errorf("passing on output: %w", err)
		}
	}
}
