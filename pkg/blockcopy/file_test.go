package blockcopy_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/open-local/open-local/pkg/hostexec"
)

const mib = 1 << 20

func program(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := hostexec.OnHost("/").Run(t.Context(), name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// noise returns bytes that are never zero, the same for the same seed.
func noise(seed uint64, size int) []byte {
	random := rand.New(rand.NewPCG(seed, 0))
	p := make([]byte, size)
	for i := range p {
		p[i] = byte(random.UintN(255)) + 1
	}
	return p
}

func write(t testing.TB, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// former makes a file of a size with something that a former owner left in each grain
// of it.
func former(t testing.TB, path string, size int64) {
	t.Helper()
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	const every, length = 64 << 10, 4096
	left := bytes.Repeat([]byte("former owner... "), length/16)
	for at := int64(0); at+length <= size; at += every {
		if _, err := file.WriteAt(left, at+at/every%(every/length)*length); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(file.Truncate(size), file.Close()); err != nil {
		t.Fatal(err)
	}
}
