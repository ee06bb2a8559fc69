package pbx

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// With this variable the test binary runs itself as the parent to be killed.
const orphanDir = "PBX_TEST_ORPHAN_DIR"

func TestAsteriskEndsWithItsParent(t *testing.T) {
	if dir := os.Getenv(orphanDir); dir != "" {
		beParent(t, dir)
		return
	}
	testRoot(t)
	dir := t.TempDir()
	parent := exec.CommandContext(testContext(t), os.Args[0], "-test.run=^TestAsteriskEndsWithItsParent$")
	parent.Env = append(os.Environ(), orphanDir+"="+dir)
	output, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(output)
	if !lines.Scan() {
		t.Fatalf("the parent printed nothing: %v", parent.Wait())
	}
	pid, err := strconv.Atoi(lines.Text())
	if err != nil {
		t.Fatalf("the parent printed %q", lines.Text())
	}
	asterisk := openPID(t, pid)
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait()
	if !ends(t, asterisk, time.Minute) {
		_ = syscall.Kill(pid, syscall.SIGKILL)
		t.Errorf("process %d outlives its parent", pid)
	}
}

// beParent runs an Asterisk until its own kill.
func beParent(t *testing.T, dir string) {
	p, err := New(Config{Root: testRoot(t), Dir: filepath.Join(dir, "pbx")})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(testContext(t)); err != nil {
		t.Fatal(err)
	}
	_, _ = os.Stdout.WriteString(strconv.Itoa(p.PID()) + "\n")
	<-p.Ended()
	t.Error(p.Crashed())
}

// openPID opens a process other than a child (pidfd_open(2)), for a wait for its end.
func openPID(t *testing.T, pid int) int {
	t.Helper()
	const sysPidfdOpen = 434
	fd, _, errno := syscall.Syscall(sysPidfdOpen, uintptr(pid), 0, 0)
	if errno != 0 {
		t.Fatal(errno)
	}
	t.Cleanup(func() { _ = syscall.Close(int(fd)) })
	return int(fd)
}

// ends waits for the end of an opened process.
func ends(t *testing.T, fd int, limit time.Duration) bool {
	t.Helper()
	var readable syscall.FdSet
	readable.Bits[fd/strconv.IntSize] |= 1 << (fd % strconv.IntSize)
	timeout := syscall.NsecToTimeval(int64(limit))
	n, err := syscall.Select(fd+1, &readable, nil, nil, &timeout)
	if err != nil {
		t.Fatal(err)
	}
	return n > 0
}
