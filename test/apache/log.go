package apache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"sync"
)

// nodeLog writes a node's output to a file and notifies waiters of growth.
type nodeLog struct {
	file *os.File

	mtx    sync.Mutex
	length int64         // of the file
	grown  chan struct{} // closed and replaced at each write
}

func newNodeLog(path string) (*nodeLog, error) {
	file, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	return &nodeLog{file: file, grown: make(chan struct{})}, nil
}

// Write is for the process.
func (l *nodeLog) Write(text []byte) (int, error) {
	n, err := l.file.Write(text)
	l.mtx.Lock()
	defer l.mtx.Unlock()
	l.length += int64(n)
	close(l.grown)
	l.grown = make(chan struct{})
	return n, err
}

func (l *nodeLog) size() int64 {
	l.mtx.Lock()
	defer l.mtx.Unlock()
	return l.length
}

// growth is closed at the next write. Get the channel before a read, so no write is missed.
func (l *nodeLog) growth() <-chan struct{} {
	l.mtx.Lock()
	defer l.mtx.Unlock()
	return l.grown
}

// since reads the log from an offset on.
func (l *nodeLog) since(offset int64) (string, error) {
	// A new descriptor, so the log of a closed cluster is still readable.
	file, err := os.Open(l.file.Name())
	if err != nil {
		return "", fmt.Errorf("reading a node's log: %w", err)
	}
	defer file.Close()
	text, err := io.ReadAll(io.NewSectionReader(file, offset, l.size()-offset))
	return string(text), err
}

// tail is the end of the log, for errors, without the frames of Java's stacks.
func (l *nodeLog) tail() string {
	const read, most = 64 << 10, 40 // bytes, lines
	text, err := l.since(max(0, l.size()-read))
	lines := []string{fmt.Sprint("reading its log: ", err)}
	if err == nil {
		lines = nil
	}
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "\tat ") {
			lines = append(lines, line)
		}
	}
	return "its log ends with\n" + strings.Join(lines[max(0, len(lines)-most):], "")
}

// Log returns a node's log so far, over all its runs.
func (c *Cluster) Log(id int) (string, error) { return c.node(id).log.since(0) }

// LogMark is the present end of a node's log, for WaitLogSince.
func (c *Cluster) LogMark(id int) int64 { return c.node(id).log.size() }

// WaitLog waits for a line of a node's log that matches, and returns the line; earlier lines of the present
// run count. WaitLog ends early, with an error, when the node ends.
func (c *Cluster) WaitLog(ctx context.Context, id int, pattern *regexp.Regexp) (string, error) {
	return c.WaitLogSince(ctx, id, c.node(id).run.Load().logStart, pattern)
}

// WaitLogSince is WaitLog for lines after the mark of LogMark.
func (c *Cluster) WaitLogSince(ctx context.Context, id int, mark int64, pattern *regexp.Regexp) (string, error) {
	n := c.node(id)
	run := n.run.Load()
	for {
		// Before the read, so no event is missed.
		ended, grown := run.hasEnded(), n.log.growth()
		text, err := n.log.since(mark)
		if err != nil {
			return "", err
		}
		// An incomplete line is for the next read.
		whole := text[:strings.LastIndexByte(text, '\n')+1]
		mark += int64(len(whole))
		for line := range strings.Lines(whole) {
			if pattern.MatchString(line) {
				return strings.TrimSuffix(line, "\n"), nil
			}
		}
		if ended {
			return "", fmt.Errorf("waiting for %q: %w", pattern, errors.Join(errors.New("the node has ended"), n.crashed()))
		}
		select {
		case <-grown:
		case <-run.ended:
		case <-ctx.Done():
			return "", fmt.Errorf("waiting for %q: %w\n%s", pattern, ctx.Err(), n.log.tail())
		}
	}
}
