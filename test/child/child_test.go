package child

import (
	"errors"
	"os/exec"
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
