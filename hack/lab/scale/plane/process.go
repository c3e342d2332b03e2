package plane

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// grace is how long a program may take to end when it is told to.
const grace = 5 * time.Second

// A Process is one program that runs. It ends with this process, whatever becomes of
// that.
type Process struct {
	Name string

	cmd  *exec.Cmd
	log  string
	done chan struct{} // closed when it has ended
	err  error         // how, once done is closed
}

// launch starts the program argv, which writes to a log of its name in dir.
func launch(dir, name string, environment []string, argv []string) (*Process, error) {
	p := &Process{Name: name, log: filepath.Join(dir, name+".log"), done: make(chan struct{})}
	file, err := os.Create(p.log)
	if err != nil {
		return nil, fmt.Errorf("making the log of %s: %w", name, err)
	}
	defer file.Close()
	p.cmd = exec.Command(argv[0], argv[1:]...)
	p.cmd.Stdout, p.cmd.Stderr = file, file
	p.cmd.Env = append(os.Environ(), environment...)
	// A ^C is for this process, which ends the others in their order.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// ended returns nil while the program runs, and then why it does not.
func (p *Process) ended() error {
	select {
	case <-p.done:
		return fmt.Errorf("%s ended (%w); %s ends with:\n%s", p.Name, cause(p.err), p.log, tail(p.log))
	default:
		return nil
	}
}

func cause(err error) error {
	if err == nil {
		return errors.New("exit status 0")
	}
	return err
}

// tail returns the end of a log.
func tail(file string) string {
	content, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(content)), "\n")
	return strings.Join(lines[max(0, len(lines)-8):], "\n")
}

// stop ends the program, and returns when it has ended.
func (p *Process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended by itself
	select {
	case <-p.done:
	case <-time.After(grace):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// Usage is what a program takes of the machine.
type Usage struct {
	RSS, Peak int64         // bytes of memory, now and at most
	CPU       time.Duration // since it started
}

// ticks is the unit of times in /proc, on every architecture that Go knows.
const ticks = time.Second / 100

// Usage reads what the program takes.
func (p *Process) Usage() (Usage, error) {
	dir := filepath.Join("/proc", strconv.Itoa(p.cmd.Process.Pid))
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return Usage{}, fmt.Errorf("reading what %s takes: %w", p.Name, err)
	}
	status, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		return Usage{}, fmt.Errorf("reading what %s takes: %w", p.Name, err)
	}
	return parseUsage(stat, status)
}

// parseUsage reads proc(5)'s stat and status.
func parseUsage(stat, status []byte) (Usage, error) {
	var u Usage
	// The name, in brackets, may have blanks.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 13 {
		return u, fmt.Errorf("reading %q: too few fields", stat)
	}
	for _, field := range fields[11:13] { // of the process: user, system
		n, err := strconv.ParseInt(string(field), 10, 64)
		if err != nil {
			return u, fmt.Errorf("reading %q: %w", stat, err)
		}
		u.CPU += time.Duration(n) * ticks
	}
	for line := range strings.Lines(string(status)) {
		key, value, _ := strings.Cut(line, ":")
		into := map[string]*int64{"VmRSS": &u.RSS, "VmHWM": &u.Peak}[key]
		if into == nil {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		if err != nil {
			return u, fmt.Errorf("reading %q: %w", line, err)
		}
		*into = n << 10
	}
	return u, nil
}
