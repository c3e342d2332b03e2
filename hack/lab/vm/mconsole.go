package vm

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"
)

// The management console of a User-Mode Linux kernel takes one datagram as an
// order and answers with one or more.
const (
	consoleMagic   = 0xcafebabe
	consoleVersion = 2
	consoleData    = 512 // bytes of text in a datagram
	consoleTimeout = 10 * time.Second
)

// PlugIn gives the running machine another disk: number i, counting from 1.
func (k Kernel) PlugIn(ctx context.Context, i int, d Disk) error {
	return k.order(ctx, "config "+d.argument(i))
}

// PullOut takes disk number i away. The kernel refuses while the disk is open.
func (k Kernel) PullOut(ctx context.Context, i int) error {
	return k.order(ctx, "remove ubd"+letter(i))
}

// order sends the machine's kernel an order.
func (k Kernel) order(ctx context.Context, text string) error {
	request, err := consoleRequest(text)
	if err == nil {
		err = k.exchange(ctx, request)
	}
	if err != nil {
		return fmt.Errorf("telling the kernel of machine %s %q: %w", k.Name, text, err)
	}
	return nil
}

// exchange sends a datagram and reads the answer, whose text matters only when
// it is a refusal.
func (k Kernel) exchange(ctx context.Context, request []byte) error {
	// The kernel answers to an address, so the socket must have one.
	own := filepath.Join(k.Dir, fmt.Sprintf("mc-%d-%d", os.Getpid(), time.Now().UnixNano()))
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: own, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer os.Remove(own)
	defer socket.Close()
	deadline := time.Now().Add(consoleTimeout)
	if earlier, ok := ctx.Deadline(); ok && earlier.Before(deadline) {
		deadline = earlier
	}
	if err := socket.SetDeadline(deadline); err != nil {
		return err
	}
	kernel := &net.UnixAddr{Name: filepath.Join(k.Dir, k.Name, "mconsole"), Net: "unixgram"}
	if _, err := socket.WriteToUnix(request, kernel); err != nil {
		return err
	}
	for datagram := make([]byte, 12+consoleData); ; {
		n, err := socket.Read(datagram)
		if err != nil {
			return err
		}
		if more, _, err := consoleAnswer(datagram[:n]); err != nil || !more {
			return err
		}
	}
}

// consoleRequest encodes an order: magic, version, length and text, numbers in
// the machine's own byte order.
func consoleRequest(text string) ([]byte, error) {
	if len(text) >= consoleData {
		return nil, fmt.Errorf("order of %d bytes: the kernel takes %d", len(text), consoleData-1)
	}
	request := make([]byte, 12+consoleData)
	binary.NativeEndian.PutUint32(request[0:], consoleMagic)
	binary.NativeEndian.PutUint32(request[4:], consoleVersion)
	binary.NativeEndian.PutUint32(request[8:], uint32(len(text)))
	copy(request[12:], text)
	return request, nil
}

// consoleAnswer decodes an answer: whether it is an error, whether more follows,
// length and text.
func consoleAnswer(datagram []byte) (more bool, text string, err error) {
	if len(datagram) < 12 {
		return false, "", fmt.Errorf("answer of %d bytes: too short", len(datagram))
	}
	length := binary.NativeEndian.Uint32(datagram[8:])
	if int(length) > len(datagram)-12 {
		return false, "", fmt.Errorf("answer says it has %d bytes of text, but has %d", length, len(datagram)-12)
	}
	text = string(bytes.TrimRight(datagram[12:12+length], "\x00"))
	if binary.NativeEndian.Uint32(datagram[0:]) != 0 {
		return false, text, errors.New(text)
	}
	return binary.NativeEndian.Uint32(datagram[4:]) != 0, text, nil
}
