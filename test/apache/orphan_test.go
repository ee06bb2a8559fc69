package apache

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// With these variables set, the test binary runs itself as the parent to kill.
const orphanDir, orphanKafka = "APACHE_TEST_ORPHAN_DIR", "APACHE_TEST_ORPHAN_KAFKA"

func TestNodesEndWithTheirParent(t *testing.T) {
	if dir := os.Getenv(orphanDir); dir != "" {
		beParent(t, Config{Dir: dir, Kafka: os.Getenv(orphanKafka)})
		return
	}
	eachVersion(t, func(t *testing.T, kafka string) {
		parent := exec.CommandContext(testContext(t), os.Args[0], "-test.run=^TestNodesEndWithTheirParent$")
		parent.Env = append(os.Environ(), orphanDir+"="+t.TempDir(), orphanKafka+"="+kafka)
		output, err := parent.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := parent.Start(); err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(output).ReadString('\n')
		if err != nil {
			t.Fatalf("the parent printed nothing: %v, %v", err, parent.Wait())
		}
		pid, err := strconv.Atoi(strings.TrimSpace(line))
		if err != nil {
			t.Fatalf("the parent printed %q", line)
		}
		// The process is not our child, so its end is visible through pidfd_open(2) only.
		const sysPidfdOpen = 434
		fd, _, errno := syscall.Syscall(sysPidfdOpen, uintptr(pid), 0, 0)
		if errno != 0 {
			t.Fatal(errno)
		}
		defer syscall.Close(int(fd))
		if err := parent.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = parent.Wait()
		var readable syscall.FdSet
		readable.Bits[fd/strconv.IntSize] |= 1 << (fd % strconv.IntSize)
		limit := syscall.NsecToTimeval(int64(time.Minute))
		if n, err := syscall.Select(int(fd)+1, &readable, nil, nil, &limit); err != nil || n == 0 {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			t.Errorf("process %d outlives its parent: %v", pid, err)
		}
	})
}

// beParent runs a cluster until the process is killed.
func beParent(t *testing.T, config Config) {
	c, err := Start(testContext(t), config)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = os.Stdout.WriteString(strconv.Itoa(c.PID(1)) + "\n")
	_, err = c.WaitLog(context.Background(), 1, started)
	if err == nil {
		<-c.node(1).run.Load().ended
	}
	t.Error("the node ended before its parent: ", err)
}
