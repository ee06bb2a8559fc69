package spool

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// LockedError reports a spool in use.
type LockedError struct {
	Dir string
	PID int // of the process in use; 0 = unknown
}

func (e *LockedError) Error() string {
	who := "another process"
	switch e.PID {
	case 0:
	case os.Getpid():
		who = "this process"
	default:
		who = "process " + strconv.Itoa(e.PID)
	}
	return fmt.Sprintf("spool %s is in use by %s", e.Dir, who)
}

// Who only asks whether a spool is in use holds the lock for a moment; Open tries again then.
const (
	lockTries = 5
	lockPause = 20 * time.Millisecond
)

// takeLock locks the spool for this process, until the file is closed or the process ends in any way.
func takeLock(d dirFS) (*os.File, error) {
	dir := d.path
	f, err := d.openFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE)
	if err != nil {
		return nil, fmt.Errorf("opening the lock: %w", err)
	}
	for try := 1; ; try++ {
		if err = flock(f, syscall.LOCK_EX); err == nil {
			break
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) || try == lockTries {
			pid := lockPID(f)
			_ = f.Close()
			if errors.Is(err, syscall.EWOULDBLOCK) {
				return nil, &LockedError{dir, pid}
			}
			return nil, fmt.Errorf("locking %s: %w", dir, err)
		}
		time.Sleep(lockPause)
	}
	// The number is for people; the lock works without it.
	if f.Truncate(0) == nil {
		_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	return f, nil
}

func flock(f *os.File, how int) error {
	for {
		err := syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

func lockPID(f *os.File) int {
	text, _ := io.ReadAll(io.NewSectionReader(f, 0, 32))
	pid, _ := strconv.Atoi(strings.TrimSpace(string(text)))
	return pid
}

// inUse reports whether a process has the spool open, and its pid; 0 = unknown.
func inUse(d dirFS) (pid int, used bool, err error) {
	f, err := d.openFile(filepath.Join(d.path, lockName), os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, fmt.Errorf("opening the lock: %w", err)
	}
	defer func() { _ = f.Close() }()
	if flock(f, syscall.LOCK_SH) == nil {
		return 0, false, nil
	}
	return lockPID(f), true, nil
}
