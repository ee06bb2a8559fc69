package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"reskafka/internal/boundary"
	"reskafka/internal/serve/servetest"
)

// build builds the command like the installation: without cgo, which decides the settings possible for all
// threads.
var build = sync.OnceValues(func() (path string, err error) {
	if buildDir, err = os.MkdirTemp("", "reskafka"); err != nil {
		return "", err
	}
	cmd := exec.Command("go", "build", "-o", buildDir, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%v: %s", err, out)
	}
	if err := os.Symlink("reskafka", filepath.Join(buildDir, fromDescriptor)); err != nil {
		return "", err
	}
	return filepath.Join(buildDir, "reskafka"), nil
})

// fromDescriptor is the engine's program name from the module, which starts the engine from a descriptor.
const fromDescriptor = "7"

var buildDir string // removed by TestMain

// process is an engine with a module as its peer.
type process struct {
	*servetest.Module
	t      *testing.T
	memory *servetest.Memory
	cmd    *exec.Cmd
	stderr bytes.Buffer
	words  *os.File // reading end of its standard error
	read   chan struct{}
}

// startEngine starts the engine like the module. more are foreign descriptors, from 7 on. limit, if not 0, is
// its address space, in kilobytes.
func startEngine(t *testing.T, limit int, more ...*os.File) *process {
	t.Helper()
	path, err := build()
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(filepath.Dir(path), fromDescriptor)
	ours, theirs := servetest.Sockets(t)
	p := &process{t: t, memory: servetest.NewMemory(t), read: make(chan struct{})}
	control, slabs, wake := p.memory.Duplicates()
	files := []*os.File{theirs, os.NewFile(uintptr(control), "control"), os.NewFile(uintptr(slabs), "slabs"), os.NewFile(uintptr(wake), "wake")}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	p.cmd = exec.CommandContext(ctx, path, "engine")
	if limit > 0 {
		p.cmd = exec.CommandContext(ctx, "sh", "-c", fmt.Sprintf("ulimit -v %d; exec %s engine", limit, path))
	}
	p.cmd.ExtraFiles = append(files, more...)
	words, theirWords, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p.words, p.cmd.Stderr, p.cmd.Stdout = words, theirWords, theirWords
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for _, f := range append(files, theirWords) {
		_ = f.Close()
	}
	p.Module = servetest.NewModule(t, ours)
	go func() {
		defer close(p.read)
		_, _ = p.stderr.ReadFrom(words)
	}()
	t.Cleanup(func() {
		_ = p.Conn.Close()
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
		_ = words.Close()
	})
	return p
}

// hello begins the connection. The test's end removes the engine's shared memory.
func (p *process) hello() {
	p.t.Helper()
	folder := p.Hello(p.t.TempDir()).StageFolder
	p.t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		_ = os.RemoveAll(folder)
	})
}

// ended waits for the end of the process and returns its exit status and standard error.
func (p *process) ended() (status int, stderr string) {
	p.t.Helper()
	_ = p.cmd.Wait()
	<-p.read
	return p.cmd.ProcessState.ExitCode(), p.stderr.String()
}

// TestEngine_ByHand_Declines verifies the answer to a person who starts the engine.
func TestEngine_ByHand_Declines(t *testing.T) {
	path, err := build()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), path, "engine")
	out, _ := cmd.CombinedOutput()
	if want := "started by Asterisk's module res_kafka.so"; cmd.ProcessState.ExitCode() != exitUsage || !strings.Contains(string(out), want) {
		t.Errorf("status %d, %q", cmd.ProcessState.ExitCode(), out)
	}
}

// TestEngine_Memory_OfAnotherBuild verifies that the engine maps no unknown memory.
func TestEngine_Memory_OfAnotherBuild(t *testing.T) {
	path, err := build()
	if err != nil {
		t.Fatal(err)
	}
	_, theirs := servetest.Sockets(t)
	cmd := exec.CommandContext(t.Context(), path, "engine")
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	cmd.ExtraFiles = []*os.File{theirs, null, null, null}
	out, _ := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != exitError || !strings.HasPrefix(string(out), "reskafka engine: using the memory") {
		t.Errorf("status %d, %q", cmd.ProcessState.ExitCode(), out)
	}
}

// proc reads a file of the process.
func (p *process) proc(name string) string {
	p.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", p.cmd.Process.Pid, name))
	if err != nil {
		p.t.Fatal(err)
	}
	return string(text)
}

// nice reads the niceness of a thread.
func nice(t *testing.T, stat string) int {
	t.Helper()
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	n, err := strconv.Atoi(fields[16])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestEngine_Start_SetsItselfUp verifies the settings that protect the PBX from the engine.
func TestEngine_Start_SetsItselfUp(t *testing.T) {
	leaked, other, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer leaked.Close()
	defer other.Close()
	p := startEngine(t, 0, leaked, other)
	p.hello()
	own, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		t.Fatal(err)
	}
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", p.cmd.Process.Pid))
	if err != nil || len(tasks) < 3 {
		t.Fatalf("%d threads: %v", len(tasks), err)
	}
	for _, task := range tasks {
		if got, want := nice(t, p.proc("task/"+task.Name()+"/stat")), min(nice(t, string(own))+niceness, maxNice); got != want {
			t.Errorf("thread %s has niceness %d, want %d", task.Name(), got, want)
		}
		if name := p.proc("task/" + task.Name() + "/comm"); name != "reskafka\n" {
			t.Errorf("thread %s is called %q in ps and top", task.Name(), name)
		}
		if status := p.proc("task/" + task.Name() + "/status"); !strings.Contains(status, "NoNewPrivs:\t1\n") {
			t.Errorf("thread %s can get privileges: %s", task.Name(), status)
		} else if got := capabilities(t, status); os.Geteuid() == 0 && got != keptCapabilities || got&^keptCapabilities != 0 {
			t.Errorf("thread %s has capabilities %#x, want %#x", task.Name(), got, keptCapabilities)
		}
	}
	for file, want := range map[string]string{
		"status":        `(?m)^Umask:\t0077$`,
		"limits":        `(?m)^Max core file size +0 +0 `,
		"oom_score_adj": `^` + raised(t) + `\n$`,
	} {
		if text := p.proc(file); !regexp.MustCompile(want).MatchString(text) {
			t.Errorf("%s does not match %s: %s", file, want, text)
		}
	}
	if text := p.proc("limits"); regexp.MustCompile(`(?m)^Max address space +unlimited`).MatchString(text) {
		t.Errorf("the address space has no limit: %s", text)
	}
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	if cwd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", p.cmd.Process.Pid)); cwd != here || err != nil {
		t.Errorf("it works in %s, not in %s: %v", cwd, here, err)
	}
	p.withoutPipes()
}

// capabilities reads the permitted set of a thread.
func capabilities(t *testing.T, status string) uint64 {
	t.Helper()
	_, set, _ := strings.Cut(status, "CapPrm:\t")
	set, _, _ = strings.Cut(set, "\n")
	n, err := strconv.ParseUint(set, 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// raised is the score of a process of ours with killScore.
func raised(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("/proc/self/oom_score_adj")
	if err != nil {
		t.Fatal(err)
	}
	score, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return strconv.Itoa(min(score+killScore, maxKillScore))
}

// withoutPipes fails if the process has a pipe besides its standard output and error.
func (p *process) withoutPipes() {
	p.t.Helper()
	folder := fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid)
	fds, err := os.ReadDir(folder)
	if err != nil {
		p.t.Fatal(err)
	}
	for _, fd := range fds {
		if to, _ := os.Readlink(filepath.Join(folder, fd.Name())); strings.HasPrefix(to, "pipe:") && fd.Name() != "1" && fd.Name() != "2" {
			p.t.Errorf("descriptor %s is %s", fd.Name(), to)
		}
	}
}

// TestEngine_Signals_WaitForTheSocket verifies that a stop of the whole service does not end the engine
// before Asterisk.
func TestEngine_Signals_WaitForTheSocket(t *testing.T) {
	p := startEngine(t, 0)
	p.hello()
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGTERM, syscall.SIGINT, syscall.SIGINT, syscall.SIGHUP, syscall.SIGPIPE} {
		if err := p.cmd.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
		p.Ask(boundary.PingKind, nil, nil)
	}
	_ = p.Conn.Close()
	if status, stderr := p.ended(); status != exitOK || stderr != "" {
		t.Errorf("status %d, %q", status, stderr)
	}
}

// TestEngine_NobodyReadsStandardError_GoesOn guards the last records of a killed Asterisk: a line without a
// reader must not end the engine.
func TestEngine_NobodyReadsStandardError_GoesOn(t *testing.T) {
	p := startEngine(t, 0)
	p.hello()
	_ = p.words.Close()
	<-p.read
	var a boundary.FaultAnswer
	p.Ask(boundary.FaultKind, &boundary.FaultRequest{How: "panic"}, &a) // which is written to standard error
	if a.Result != boundary.ResultPanic {
		t.Errorf("the answer is %d", a.Result)
	}
	_ = p.Conn.Close()
	if status, _ := p.ended(); status != exitOK {
		t.Errorf("status %d", status)
	}
}

// TestEngine_Faults_EndWithLastWords verifies the module's information about a dead engine.
func TestEngine_Faults_EndWithLastWords(t *testing.T) {
	for how, want := range map[string]struct {
		status int
		words  []string
		limit  int
	}{
		"crash":  {status: 2, words: []string{"panic: a fault that a test asked for", "serve.(*Server).wait", "[running]", "[select"}},
		"exit":   {status: 7},
		"memory": {status: 2, words: []string{"out of memory"}, limit: 2_500_000},
	} {
		t.Run(how, func(t *testing.T) {
			p := startEngine(t, want.limit)
			p.hello()
			p.Post(boundary.FaultKind, &boundary.FaultRequest{How: how})
			status, stderr := p.ended()
			if status != want.status {
				t.Errorf("status %d, want %d", status, want.status)
			}
			for _, word := range want.words {
				if !strings.Contains(stderr, word) {
					t.Errorf("%q is not in %s", word, stderr)
				}
			}
		})
	}
}
