package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// A build compiles one program so that the result depends on the source alone.
type build struct {
	dir             string // of the module
	pkg             string // the main package
	version, commit string // told to the program
	arch            string
}

func (b build) run(ctx context.Context, output string) error {
	output, err := filepath.Abs(output)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false",
		"-ldflags", fmt.Sprintf("-s -w -buildid= -X main.version=%s -X main.commit=%s", b.version, b.commit),
		"-o", output, b.pkg)
	cmd.Dir = b.dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+b.arch)
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building %s for %s: %w\n%s", b.pkg, b.arch, err, said)
	}
	return nil
}

// state is where in history a working tree stands.
type state struct {
	commit string
	when   time.Time
}

// stateOf asks git. A tree that git does not know, such as an unpacked release,
// is of an unknown commit and of the time in SOURCE_DATE_EPOCH, or of no time.
func stateOf(ctx context.Context, dir string) state {
	s := state{commit: "unknown", when: time.Unix(0, 0).UTC()}
	if said, err := git(ctx, dir, "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"); err == nil {
		s.commit = said
	}
	seconds := os.Getenv("SOURCE_DATE_EPOCH")
	if seconds == "" {
		if said, err := git(ctx, dir, "log", "-1", "--format=%ct"); err == nil {
			seconds = said
		}
	}
	if n, err := strconv.ParseInt(seconds, 10, 64); err == nil {
		s.when = time.Unix(n, 0).UTC()
	}
	return s
}

func git(ctx context.Context, dir string, args ...string) (string, error) {
	said, err := exec.CommandContext(ctx, "git", append([]string{"-C", dir}, args...)...).Output()
	return strings.TrimSpace(string(said)), err
}
