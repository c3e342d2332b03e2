package chart

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

// TestTheProgramKnowsWhatItIsTold builds the program and asks it for its flags: a
// flag that one of them renamed alone would keep every pod from starting.
func TestTheProgramKnowsWhatItIsTold(t *testing.T) {
	program := filepath.Join(t.TempDir(), "open-local")
	// Built as for the image, so that what is compiled once serves both.
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", program, "./cmd/open-local")
	build.Dir = "../.."
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if said, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the program: %v\n%s", err, said)
	}
	told := 0
	for name, c := range ours(install(t, values{"scheduler": values{"tls": values{"enabled": true, "clientCertificates": true}}})) {
		known := flagsOf(t, program, c.Args[0])
		for _, arg := range c.Args[1:] {
			flag, _, _ := strings.Cut(strings.TrimPrefix(arg, "--"), "=")
			if !known[flag] {
				t.Errorf("%s is told %s, which %q does not know", name, arg, c.Args[0])
			}
			told++
		}
	}
	if told == 0 {
		t.Error("no program is told anything")
	}
}

// ours returns the containers that run our program, by the names of their pod's
// owner and their own.
func ours(all objects) map[string]corev1.Container {
	found := map[string]corev1.Container{}
	collect := func(owner string, pod corev1.PodSpec) {
		for _, c := range pod.Containers {
			if strings.Contains(c.Image, "/open-local:") {
				found[owner+"/"+c.Name] = c
			}
		}
	}
	for _, o := range all {
		switch w := o.(type) {
		case *appsv1.Deployment:
			collect(w.Name, w.Spec.Template.Spec)
		case *appsv1.DaemonSet:
			collect(w.Name, w.Spec.Template.Spec)
		}
	}
	return found
}

var flagInHelp = regexp.MustCompile(`(?m)^\s+(?:-\w, )?--([a-z0-9-]+)`)

func flagsOf(t *testing.T, program, subcommand string) map[string]bool {
	t.Helper()
	said, err := exec.CommandContext(t.Context(), program, subcommand, "--help").Output()
	if err != nil {
		t.Fatalf("asking %s for its flags: %v", subcommand, err)
	}
	known := map[string]bool{}
	for _, match := range flagInHelp.FindAllStringSubmatch(string(said), -1) {
		known[match[1]] = true
	}
	return known
}
