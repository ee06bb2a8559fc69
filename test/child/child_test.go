package child

import (
	"errors"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// TestStart holds that a process goes on until somebody ends it, and that its end is told. That it has a thread of its own, which is what
// Pdeathsig is about, is not seen here: Go rarely ends one.
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

// TestStartFails holds that what cannot be started is told at once, and no end of it.
func TestStartFails(t *testing.T) {
	err := Start(exec.Command("/nonexistent/program"), func(error) { t.Error("an end was told") })
	if !errors.Is(err, syscall.ENOENT) {
		t.Errorf("the error is %v", err)
	}
}
