package child

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// Pause stops a process (SIGSTOP), which need not be a child, and returns once all of its threads have stopped or
// the process has ended. kill(2) returns earlier: threads on other processors still run, and can answer a request.
func Pause(pid int) error {
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		return fmt.Errorf("pausing process %d: %w", pid, err)
	}
	for {
		running, err := running(pid)
		if err != nil || !running {
			return err
		}
		time.Sleep(time.Millisecond)
	}
}

// running is whether a thread of the process is neither stopped nor ended.
func running(pid int) (bool, error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil {
		return false, err
	}
	for _, file := range files {
		stat, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // the thread has ended
		}
		if err != nil {
			return false, err
		}
		// proc_pid_stat(5): the state follows the name, which is in parentheses and may contain some itself.
		_, state, found := bytes.Cut(stat[max(bytes.LastIndexByte(stat, ')'), 0):], []byte(" "))
		if !found || !bytes.ContainsAny(state[:1], "TtZX") {
			return true, nil
		}
	}
	return false, nil
}
