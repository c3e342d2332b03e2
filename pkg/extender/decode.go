package extender

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	extenderv1 "k8s.io/kube-scheduler/extender/v1"
)

// errJSON means that the request is not the object it should be.
var errJSON = errors.New("not a JSON object of Pod, Nodes and NodeNames")

// decodeArgs reads what the scheduler sends. Names of thousands of nodes take most of
// it, so the object and its list of names are taken apart here, and encoding/json reads
// the rest.
func decodeArgs(body io.Reader, into *extenderv1.ExtenderArgs, w *space) error {
	w.text.Reset()
	if _, err := w.text.ReadFrom(body); err != nil {
		return err
	}
	s := scanner{text: w.text.String()}
	if !s.take('{') {
		return errJSON
	}
	for more := !s.take('}'); more; {
		key, ok := s.word()
		if !ok || !s.take(':') {
			return errJSON
		}
		if err := s.field(key, into, w); err != nil {
			return err
		}
		if more = s.take(','); !more && !s.take('}') {
			return errJSON
		}
	}
	s.space()
	if s.text[s.at:] != "" {
		return errJSON
	}
	return nil
}

// field reads the value of one key. Like encoding/json it does not mind the case of a
// key it knows, nor one it does not know.
func (s *scanner) field(key string, into *extenderv1.ExtenderArgs, w *space) error {
	begun := *s
	if strings.EqualFold(key, "NodeNames") {
		if names, plain := s.names(w.names[:0]); plain {
			w.names, into.NodeNames = names, &names
			return nil
		}
		*s = begun
	}
	value, ok := s.value()
	if !ok {
		return errJSON
	}
	var err error
	switch {
	case strings.EqualFold(key, "Pod"):
		err = json.Unmarshal([]byte(value), &into.Pod)
	case strings.EqualFold(key, "Nodes"):
		err = json.Unmarshal([]byte(value), &into.Nodes)
	case strings.EqualFold(key, "NodeNames"):
		err = json.Unmarshal([]byte(value), &into.NodeNames)
	case !json.Valid([]byte(value)):
		err = errJSON
	}
	if err != nil {
		return fmt.Errorf("field %.20q: %w", key, err)
	}
	return nil
}

// A scanner takes JSON apart. What it returns is part of the text, not a copy.
type scanner struct {
	text string
	at   int
}

func (s *scanner) space() {
	for s.at < len(s.text) {
		switch s.text[s.at] {
		case ' ', '\t', '\r', '\n':
			s.at++
		default:
			return
		}
	}
}

// take skips space, and the character if it comes next.
func (s *scanner) take(c byte) bool {
	s.space()
	if s.at < len(s.text) && s.text[s.at] == c {
		s.at++
		return true
	}
	return false
}

// word returns a string of printable ASCII in which nothing is escaped, as all keys and
// names of nodes are, and false for any other.
func (s *scanner) word() (string, bool) {
	if !s.take('"') {
		return "", false
	}
	end := strings.IndexByte(s.text[s.at:], '"')
	if end < 0 {
		return "", false
	}
	word := s.text[s.at : s.at+end]
	s.at += end + 1
	return word, plain(word)
}

// plain reports whether text is printable ASCII without a quote and a backslash, so that
// it stands in JSON as it is. Eight bytes are looked at together: this is most of what
// reading and writing thousands of names costs.
func plain(text string) bool {
	at := 0
	for ; at+8 <= len(text); at += 8 {
		if !plainWord(eight(text[at:])) {
			return false
		}
	}
	if at < len(text) && at > 0 { // the last eight, some of them again
		return plainWord(eight(text[len(text)-8:]))
	}
	for ; at < len(text); at++ {
		if c := text[at]; c < ' ' || c >= 0x7f || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// eight returns the first eight bytes as one word.
func eight(s string) uint64 {
	_ = s[7]
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
		uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
}

// plainWord is plain for eight bytes. The highest bit of a byte in odd is set where that
// byte is not plain; what borrows and carries spoil stands beside one that is not.
func plainWord(w uint64) bool {
	const each = 0x0101010101010101
	zero := func(w uint64) uint64 { return (w - each) &^ w } // where a byte is zero
	odd := w | (w + each) | (w-' '*each)&^w | zero(w^'"'*each) | zero(w^'\\'*each)
	return odd&(0x80*each) == 0
}

// names appends an array of words to names, and returns false for any other value.
func (s *scanner) names(names []string) ([]string, bool) {
	if !s.take('[') {
		return nil, false
	}
	if names == nil {
		names = []string{}
	}
	if s.take(']') {
		return names, true
	}
	for {
		name, ok := s.word()
		if !ok {
			return nil, false
		}
		names = append(names, name)
		if s.take(']') {
			return names, true
		}
		if !s.take(',') {
			return nil, false
		}
	}
}

// value returns the text of the next value, found by its brackets: whoever uses it must
// check that it is JSON.
func (s *scanner) value() (string, bool) {
	s.space()
	begun, depth := s.at, 0
	for s.at < len(s.text) {
		switch s.text[s.at] {
		case '"':
			if !s.skipString() {
				return "", false
			}
			continue
		case '{', '[':
			depth++
		case '}', ']', ',':
			if depth == 0 {
				return s.text[begun:s.at], s.at > begun
			}
			if s.text[s.at] != ',' {
				depth--
			}
		}
		s.at++
	}
	return "", false
}

// skipString skips a string, whatever is in it.
func (s *scanner) skipString() bool {
	for s.at++; s.at < len(s.text); s.at++ {
		switch s.text[s.at] {
		case '\\':
			s.at++
		case '"':
			s.at++
			return true
		}
	}
	return false
}
