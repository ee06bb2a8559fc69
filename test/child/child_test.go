package child

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// TestStart checks that a process runs until the kill, and the end is reported. The separate thread for
// Pdeathsig is not visible here: Go rarely ends a thread.
func TestStart(t *testing.T) {
	cmd := exec.Command("cat")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	input, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	if err := Start(cmd, func(err error) { ended <- err }); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		t.Fatalf("it has ended: %v", err)
	default:
	}
	_ = input.Close()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		_ = cmd.Process.Kill()
		t.Error("its end was not told")
	}
}

// TestStartFails checks that a failed start is reported at once, without an end.
func TestStartFails(t *testing.T) {
	err := Start(exec.Command("/nonexistent/program"), func(error) { t.Error("an end was told") })
	if !errors.Is(err, syscall.ENOENT) {
		t.Errorf("the error is %v", err)
	}
}

// TestPause checks that a busy process with several threads has stopped after Pause, and that Pause of an ended
// process fails.
func TestPause(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Env = append(os.Environ(), "RES_KAFKA_BUSY=1")
	output, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	if err := Start(cmd, func(err error) { ended <- err }); err != nil {
		t.Fatal(err)
	}
	pid := cmd.Process.Pid
	if _, err := output.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if err := Pause(pid); err != nil {
			t.Fatal(err)
		}
		if moves, err := running(pid); moves || err != nil {
			t.Errorf("after Pause a thread runs: %v, %v", moves, err)
		}
		_ = syscall.Kill(pid, syscall.SIGCONT)
	}
	_ = syscall.Kill(pid, syscall.SIGKILL)
	<-ended
	if err := Pause(pid); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("Pause of an ended process: %v", err)
	}
}

// TestMain is also the process of TestPause: eight busy threads.
func TestMain(m *testing.M) {
	if os.Getenv("RES_KAFKA_BUSY") == "" {
		os.Exit(m.Run())
	}
	runtime.GOMAXPROCS(8)
	var turns atomic.Int64
	for range 7 {
		go func() {
			for {
				turns.Add(1)
			}
		}()
	}
	_, _ = os.Stdout.WriteString("busy\n")
	for {
		turns.Add(1)
	}
}
