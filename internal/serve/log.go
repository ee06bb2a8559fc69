package serve

import (
	"fmt"
	"sync/atomic"
	"time"

	"reskafka/internal/boundary"
	"reskafka/internal/host"
)

// longestLine is the limit of a line, bytes: more than Asterisk's log writes of a line.
const longestLine = 8 << 10

// lines is a host.Logger with the module as destination. A line logged before an answer arrives before the
// answer. No part of the engine waits for Asterisk's log: while the module does not read, lines are dropped
// and counted. lines is safe for concurrent use.
type lines struct {
	conn *boundary.Conn
	lost atomic.Uint64 // lines since the last queued line
}

var _ host.Logger = (*lines)(nil)

// Log implements host.Logger. It never blocks.
func (l *lines) Log(level host.Level, file string, line int, function, text string) {
	l.count()
	if len(text) > longestLine {
		text = text[:longestLine] + "..."
	}
	if !l.post(boundary.LogRequest{Level: boundary.Level(level), File: file, Line: int32(line), Function: function, Text: text}) {
		l.lost.Add(1)
	}
}

// count logs how many lines are lost.
func (l *lines) count() {
	n := l.lost.Swap(0)
	if n > 0 && !l.post(boundary.LogRequest{Level: boundary.LevelWarning, File: "serve/log.go", Function: "lines.count",
		Text: fmt.Sprintf("%d line(s) of the engine's log are lost: Asterisk did not read them in time", n)}) {
		l.lost.Add(n)
	}
}

func (l *lines) post(line boundary.LogRequest) bool { return l.conn.Post(boundary.LogKind, &line) }

// end waits until all lines are written, the connection is broken, or patience has passed.
func (l *lines) end(patience time.Duration) {
	written := make(chan struct{})
	go func() {
		defer close(written)
		_ = l.conn.Flush()
		l.count()
		_ = l.conn.Flush()
	}()
	select {
	case <-written:
	case <-time.After(patience):
	}
}
