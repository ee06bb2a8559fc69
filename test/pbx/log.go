package pbx

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
)

// follower reports the growth of a file.
type follower struct {
	path string

	mu    sync.Mutex
	grown chan struct{} // closed and replaced at each change
}

func newFollower(path string) *follower {
	return &follower{path: path, grown: make(chan struct{})}
}

// changes is closed at the next change. Call changes before a read of the file, so no change is missed.
func (f *follower) changes() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.grown
}

func (f *follower) changed() {
	f.mu.Lock()
	defer f.mu.Unlock()
	close(f.grown)
	f.grown = make(chan struct{})
}

// follow watches until stop is called, which waits for the watching to end. The directory must exist.
func (f *follower) follow() (stop func(), err error) {
	fd, err := syscall.InotifyInit1(syscall.IN_CLOEXEC | syscall.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watching %s: %w", f.path, err)
	}
	// Non-blocking and in the runtime's poller, so a close ends a read.
	events := os.NewFile(uintptr(fd), "inotify")
	if _, err := syscall.InotifyAddWatch(fd, filepath.Dir(f.path), syscall.IN_MODIFY|syscall.IN_CREATE); err != nil {
		_ = events.Close()
		return nil, fmt.Errorf("watching %s: %w", f.path, err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buffer := make([]byte, 64<<10)
		for {
			if _, err := events.Read(buffer); err != nil {
				return
			}
			f.changed()
		}
	}()
	return func() {
		_ = events.Close()
		<-done
		f.changed()
	}, nil
}

// from reads the file from an offset on. A missing file counts as empty.
func (f *follower) from(offset int64) (string, error) {
	file, err := os.Open(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer file.Close()
	if _, err := file.Seek(offset, io.SeekStart); err != nil {
		return "", err
	}
	data, err := io.ReadAll(file)
	return string(data), err
}

// LogLines returns Asterisk's log so far, of all runs, without newlines and without an incomplete line.
func (p *PBX) LogLines() []string {
	text := p.log()
	return strings.Split(strings.TrimSuffix(text[:strings.LastIndexByte(text, '\n')+1], "\n"), "\n")
}

func (p *PBX) log() string {
	text, err := p.lines.from(0)
	if err != nil {
		text += "reading the log: " + err.Error() + "\n"
	}
	return text
}

// LogMark is the present end of the log, for WaitLogSince.
func (p *PBX) LogMark() int64 {
	info, err := os.Stat(p.lines.path)
	if err != nil {
		return 0
	}
	return info.Size()
}

// WaitLog waits for a line of this run's log that pattern matches, earlier lines included, and returns the
// line.
func (p *PBX) WaitLog(ctx context.Context, pattern *regexp.Regexp) (string, error) {
	running := p.latest()
	if running == nil {
		return "", errNotStarted
	}
	return p.WaitLogSince(ctx, running.logStart, pattern)
}

// WaitLogSince is WaitLog for lines after the mark from LogMark. Asterisk's end ends the wait early, with an
// error.
func (p *PBX) WaitLogSince(ctx context.Context, mark int64, pattern *regexp.Regexp) (string, error) {
	running := p.latest()
	if running == nil {
		return "", errNotStarted
	}
	for {
		grown := p.lines.changes()
		ended := running.hasEnded() // Read before the log, so the last lines are included.
		text, err := p.lines.from(mark)
		if err != nil {
			return "", fmt.Errorf("reading the log: %w", err)
		}
		for line := range strings.Lines(text) {
			// A line without its newline is incomplete.
			if strings.HasSuffix(line, "\n") && pattern.MatchString(line) {
				return strings.TrimSuffix(line, "\n"), nil
			}
		}
		if ended {
			return "", fmt.Errorf("waiting for %q in the log: Asterisk has ended\n%s", pattern, p.tail())
		}
		select {
		case <-grown:
		case <-running.ended:
		case <-ctx.Done():
			return "", fmt.Errorf("waiting for %q in the log: %w\n%s", pattern, ctx.Err(), p.tail())
		}
	}
}

// tailLines is how much of the log an error shows.
const tailLines = 30

// tail returns the end of the log and of the process's output, for an error.
func (p *PBX) tail() string {
	lines := strings.Split(strings.TrimSuffix(p.log(), "\n"), "\n")
	lines = lines[max(0, len(lines)-tailLines):]
	text := "the log ends with:\n\t" + strings.Join(lines, "\n\t")
	if printed, err := os.ReadFile(p.path("log", outputName)); err == nil && len(printed) > 0 {
		lines := strings.Split(strings.TrimSuffix(string(printed), "\n"), "\n")
		text += "\nit printed:\n\t" + strings.Join(lines[max(0, len(lines)-tailLines):], "\n\t")
	}
	return text
}
