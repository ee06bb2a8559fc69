package serve

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"reskafka/internal/boundary"
	"reskafka/internal/host"
	"reskafka/internal/serve/servetest"
)

// TestLines_ModuleDoesNotRead_LostAndCounted verifies that the engine never waits for Asterisk's log, and
// that the log counts dropped lines.
func TestLines_ModuleDoesNotRead_LostAndCounted(t *testing.T) {
	ours, theirs := servetest.Sockets(t)
	l := &lines{conn: boundary.NewConn(theirs, boundary.EngineSide)}
	text := strings.Repeat("x", 1000)
	const count = 4 * boundary.PostMax / 1000
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range count {
			l.Log(host.Notice, "a/b.go", 1, "f", text)
		}
	}()
	select {
	case <-done:
	case <-time.After(servetest.Patience):
		t.Fatal("logging waits")
	}
	m := servetest.NewModule(t, ours)
	later := 0
	servetest.Eventually(t, "the log says that lines are lost", func() bool {
		later++
		l.Log(host.Debug, "a/b.go", 1, "f", "a later line")
		return len(m.With("are lost")) > 0
	})
	l.end(servetest.Patience)
	_ = theirs.Close()
	m.Closed()
	lost := 0
	for _, line := range m.With("warning: ", "line(s) of the engine's log are lost") {
		var n int
		if _, err := fmt.Sscanf(line, "warning: %d", &n); err != nil {
			t.Fatal(err)
		}
		lost += n
	}
	if came := len(m.With("notice: "+text)) + len(m.With("debug: ")); came+lost != count+later || came < count/8 {
		t.Errorf("%d lines came and %d are said to be lost, of %d", came, lost, count+later)
	}
}

// TestLines_BeforeAnAnswer_ComeFirst verifies the order of a refusal: first the log line with the reason,
// then the answer.
func TestLines_BeforeAnAnswer_ComeFirst(t *testing.T) {
	s := greeted(t)
	for i := range 100 {
		var a boundary.ConfigureAnswer
		s.Ask(boundary.ConfigureKind, &boundary.ConfigureRequest{Entries: entriesOf(fmt.Sprintf("[c%d]\ntype = connection\nacks = many\n", i))}, &a)
		if a.Result != boundary.ResultEINVAL || len(s.With("error: ", "no connection can be used")) != i+1 {
			t.Fatalf("round %d: %d, %q", i, a.Result, s.With())
		}
	}
}

// TestLines_Long_Cut verifies that a single line cannot fill the queue.
func TestLines_Long_Cut(t *testing.T) {
	ours, theirs := servetest.Sockets(t)
	l, m := &lines{conn: boundary.NewConn(theirs, boundary.EngineSide)}, servetest.NewModule(t, ours)
	l.Log(host.Error, "a/b.go", 7, "f", strings.Repeat("x", boundary.PostMax))
	m.Line("error: xxx", "x...")
	if text := m.With("error")[0]; len(text) > longestLine+100 {
		t.Errorf("the line has %d bytes", len(text))
	}
	if l := m.Lines()[0]; l.Level != boundary.LevelError || l.File != "a/b.go" || l.Line != 7 || l.Function != "f" {
		t.Errorf("the line is %+v", l)
	}
}

// TestLines_ModuleStopped_EndDoesNotWait verifies the limit of the end with a module that neither reads nor
// ends.
func TestLines_ModuleStopped_EndDoesNotWait(t *testing.T) {
	_, theirs := servetest.Sockets(t)
	l := &lines{conn: boundary.NewConn(theirs, boundary.EngineSide)}
	for range 1000 {
		l.Log(host.Error, "a/b.go", 7, "f", strings.Repeat("x", 1000))
	}
	began := time.Now()
	l.end(100 * time.Millisecond)
	if took := time.Since(began); took < 100*time.Millisecond || took > servetest.Patience {
		t.Errorf("the end took %v", took)
	}
}
