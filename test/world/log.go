package world

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"reskafka/internal/host"
)

// Log is a host.Logger with a store of lines, each as "level: text".
type Log struct {
	mtx   sync.Mutex
	all   []string
	grown chan struct{}
}

// NewLog returns an empty log.
func NewLog() *Log { return &Log{grown: make(chan struct{})} }

// Log implements host.Logger.
func (l *Log) Log(level host.Level, _ string, _ int, _, text string) {
	l.mtx.Lock()
	defer l.mtx.Unlock()
	l.all = append(l.all, fmt.Sprintf("%s: %s", []string{"debug", "notice", "warning", "error"}[level], text))
	close(l.grown)
	l.grown = make(chan struct{})
}

// With returns the lines that contain every part.
func (l *Log) With(parts ...string) []string {
	l.mtx.Lock()
	defer l.mtx.Unlock()
	var some []string
next:
	for _, one := range l.all {
		for _, part := range parts {
			if !strings.Contains(one, part) {
				continue next
			}
		}
		some = append(some, one)
	}
	return some
}

// Await waits for the first line that contains a text.
func (l *Log) Await(ctx context.Context, part string) (string, error) {
	for {
		l.mtx.Lock()
		grown := l.grown
		l.mtx.Unlock()
		if found := l.With(part); len(found) > 0 {
			return found[0], nil
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return "", fmt.Errorf("waiting for a line %q: %w; the log has %q", part, ctx.Err(), l.With())
		}
	}
}
