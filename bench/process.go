package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// used is the usage of a process's present threads.
type used struct {
	cpu       time.Duration
	voluntary int64 // number of waits
}

// usedBy returns the usage of a process; zero for process 0, a variant without an engine.
func usedBy(pid int) (used, error) {
	var total used
	if pid == 0 {
		return total, nil
	}
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	if err != nil || len(tasks) == 0 {
		return total, fmt.Errorf("process %d has no threads: %w", pid, os.ErrNotExist)
	}
	for _, task := range tasks {
		// A thread that ends just now has no file any more.
		var ran, queued, slices int64
		if text, err := os.ReadFile(filepath.Join(task, "schedstat")); err == nil {
			if _, err := fmt.Sscan(string(text), &ran, &queued, &slices); err != nil {
				return total, fmt.Errorf("reading how long threads have run: %w", err)
			}
		}
		total.cpu += time.Duration(ran)
		total.voluntary += procNumber(filepath.Join(task, "status"), "voluntary_ctxt_switches:")
	}
	return total, nil
}

// procNumber returns the number behind a name in a file of /proc, 0 if missing.
func procNumber(file, name string) (n int64) {
	text, _ := os.ReadFile(file)
	for line := range strings.Lines(string(text)) {
		if rest, found := strings.CutPrefix(line, name); found {
			_, _ = fmt.Sscan(rest, &n)
		}
	}
	return n
}

// usedByBoth returns the usage of Asterisk and its engine.
func (r *round) usedByBoth() (used, error) {
	asterisk, err := usedBy(r.asterisk.PID())
	engine, engineErr := usedBy(r.asterisk.EnginePID())
	return used{asterisk.cpu + engine.cpu, asterisk.voluntary + engine.voluntary}, errors.Join(err, engineErr)
}

// usage returns the output of `kafka bench usage` for Asterisk's process, plus the engine's usage. Memory
// mapped by both counts once: Linux counts it as resident in each (proc(5), RssShmem).
func (r *round) usage() (values, error) {
	found, err := r.command("usage")
	pid := r.asterisk.EnginePID()
	if err != nil || pid == 0 {
		return found, err
	}
	engine, err := usedBy(pid)
	status := fmt.Sprintf("/proc/%d/status", pid)
	shared := procNumber(status, "RssShmem:")
	found["user_us"] += float64(engine.cpu.Microseconds())
	found["voluntary"] += float64(engine.voluntary)
	found["resident_kb"] += float64(procNumber(status, "VmRSS:") - shared)
	found["peak_kb"] += float64(procNumber(status, "VmHWM:") - shared)
	found["threads"] += float64(procNumber(status, "Threads:"))
	return found, err
}

// endEngine kills the engine, which would go on delivering for a while after Asterisk was killed, into the next round.
func endEngine(pid int) error {
	if pid == 0 {
		return nil
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("ending the engine: %w", err)
	}
	for range 500 {
		if !lives(pid) {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return fmt.Errorf("the engine, process %d, does not end", pid)
}

// lives reports whether a process runs. A zombie, which waits for its parent, has ended.
func lives(pid int) bool {
	state, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(state), ") Z ")
}
