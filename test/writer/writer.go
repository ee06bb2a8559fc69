// Package writer runs a real stage in its own process, which puts frames like Asterisk: see
// testdata/writer.c.
package writer

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"unsafe"
)

// Writer is such a process. Thread n puts frames of topic "t" with the key 'A'+n. Values begin with the
// frame's number, 8 bytes in the machine's order. Threads alternate between the gates 1 and 2, of the stages
// "one" and "two".
type Writer struct {
	Files  []*os.File // control memory, plain slabs, eventfd
	Folder string     // the staging folder

	t        testing.TB
	cmd      *exec.Cmd
	commands io.WriteCloser
	answers  io.Reader
	counts   []byte // accepted frames of each thread, in 64 bytes each
	alive    bool
}

// root returns the repository's top folder: the first folder with a go.mod above the tested package. A
// program built with -trimpath does not know the place of its sources.
func root() string {
	folder, err := os.Getwd()
	if err != nil {
		return "."
	}
	for at := folder; at != "/"; at = filepath.Dir(at) {
		if _, err := os.Stat(filepath.Join(at, "go.mod")); err == nil {
			return at
		}
	}
	return folder
}

// Compile compiles a C program that may include the repository's headers. It skips the test without a
// compiler.
func Compile(t testing.TB, binary, source string, flags ...string) {
	t.Helper()
	compiler := os.Getenv("CC")
	if compiler == "" {
		compiler = "cc"
	}
	if _, err := exec.LookPath(compiler); err != nil {
		t.Skip("SKIPPED: there is no C compiler")
	}
	args := append([]string{"-std=gnu11", "-I" + root(), "-O2", "-o", binary, source}, flags...)
	if out, err := exec.Command(compiler, args...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// program is compiled once for each test program, and then stays an open file: no file remains after the
// test.
var program struct {
	once sync.Once
	file *os.File
}

// Start starts a writer with this number of threads. interval: us between two puts of a thread, 0 = none;
// size: bytes of a value, -1 = at random, sometimes large. The test's end kills the writer.
func Start(t testing.TB, folder string, threads, interval, size int) *Writer {
	t.Helper()
	program.once.Do(func() {
		dir, err := os.MkdirTemp("", "writer")
		if err != nil {
			t.Fatal(err)
		}
		stage, _ := filepath.Glob(filepath.Join(root(), "stage/*.c"))
		defer func() { _ = os.RemoveAll(dir) }()
		path := filepath.Join(dir, "writer")
		Compile(t, path, filepath.Join(root(), "test/writer/testdata/writer.c"), append(stage, "-pthread")...)
		if program.file, err = os.Open(path); err != nil {
			t.Fatal(err)
		}
	})
	if program.file == nil {
		t.Skip("SKIPPED: there is no writer")
	}
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "ours"), os.NewFile(uintptr(pair[1]), "theirs")
	defer func() { _ = ours.Close(); _ = theirs.Close() }()
	counts, err := os.CreateTemp("", "counts")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = counts.Close(); _ = os.Remove(counts.Name()) }()
	w := &Writer{t: t, Folder: folder, alive: true}
	if err = counts.Truncate(4096); err == nil {
		w.counts, err = syscall.Mmap(int(counts.Fd()), 0, 4096, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Munmap(w.counts) })
	w.cmd = exec.Command(fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), program.file.Fd()), folder, strconv.Itoa(threads), strconv.Itoa(interval), strconv.Itoa(size))
	w.cmd.ExtraFiles = []*os.File{theirs, counts}
	w.cmd.Stderr = os.Stderr
	if w.commands, err = w.cmd.StdinPipe(); err == nil {
		w.answers, err = w.cmd.StdoutPipe()
	}
	if err == nil {
		err = w.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Kill)
	_ = theirs.Close()
	if w.Files, err = receive(pair[0]); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, f := range w.Files {
			_ = f.Close()
		}
	})
	return w
}

// receive receives the writer's descriptors.
func receive(socket int) (files []*os.File, err error) {
	var one [1]byte
	rights := make([]byte, syscall.CmsgSpace(3*4))
	_, n, _, _, err := syscall.Recvmsg(socket, one[:], rights, syscall.MSG_CMSG_CLOEXEC)
	if err != nil {
		return nil, err
	}
	messages, err := syscall.ParseSocketControlMessage(rights[:n])
	if err != nil || len(messages) != 1 {
		return nil, fmt.Errorf("%d messages: %w", len(messages), err)
	}
	descriptors, err := syscall.ParseUnixRights(&messages[0])
	for _, descriptor := range descriptors {
		files = append(files, os.NewFile(uintptr(descriptor), "shared"))
	}
	return files, err
}

// Tell sends a command, and waits until it is done: n = there is a new engine, l = it is lost, s = the
// threads stop.
func (w *Writer) Tell(command byte) {
	w.t.Helper()
	answer := make([]byte, 1)
	if _, err := w.commands.Write([]byte{command}); err != nil {
		w.t.Fatal(err)
	}
	if _, err := io.ReadFull(w.answers, answer); err != nil || answer[0] != command {
		w.t.Fatalf("the writer answers %q, %v", answer, err)
	}
}

// Kill kills the writer. Idempotent.
func (w *Writer) Kill() {
	if w.alive {
		w.alive = false
		_ = w.cmd.Process.Kill()
		_ = w.cmd.Wait()
	}
}

// Accepted returns how many frames of a thread were accepted.
func (w *Writer) Accepted(thread int) uint64 {
	return (*atomic.Uint64)(unsafe.Pointer(&w.counts[64*thread])).Load()
}
