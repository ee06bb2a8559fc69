// Package servetest stands in for the module at the other end of the engine's socket and shared memory, for tests.
package servetest

import (
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"reskafka/internal/boundary"
)

// Patience is a test's longest wait for an event; only a failing test reaches the limit.
const Patience = 20 * time.Second

// Module is the other end of the socket, as res_kafka.so is.
type Module struct {
	Conn *boundary.Conn
	Raw  *os.File // the same end, for damaged bytes

	t testing.TB

	mtx     sync.Mutex // guards the fields below
	number  uint64
	waiting map[uint64]chan boundary.Frame
	lines   []boundary.LogRequest
	members map[uint64]string // as subscriptions are known to the brokers
	grown   chan struct{}     // closed and replaced with each line
	closed  chan struct{}     // closed when the engine has closed the socket
}

// Sockets returns both ends of a socket.
func Sockets(t testing.TB) (ours, theirs *os.File) {
	t.Helper()
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs = os.NewFile(uintptr(pair[0]), "module"), os.NewFile(uintptr(pair[1]), "engine")
	t.Cleanup(func() {
		_ = ours.Close()
		_ = theirs.Close()
	})
	return ours, theirs
}

// NewModule returns a module at its end of a socket, before its hello.
func NewModule(t testing.TB, end *os.File) *Module {
	m := &Module{
		t: t, Conn: boundary.NewConn(end, boundary.ModuleSide), Raw: end,
		waiting: map[uint64]chan boundary.Frame{}, members: map[uint64]string{}, grown: make(chan struct{}), closed: make(chan struct{}),
	}
	go m.read()
	return m
}

func (m *Module) read() {
	defer close(m.closed)
	for {
		f, err := m.Conn.Read()
		if err != nil {
			return
		}
		m.mtx.Lock()
		switch f.Kind {
		case boundary.LogKind:
			var line boundary.LogRequest
			if err := f.Decode(&line); err != nil {
				m.t.Error(err)
			}
			m.lines = append(m.lines, line)
			close(m.grown)
			m.grown = make(chan struct{})
		case boundary.MemberKind:
			var member boundary.MemberRequest
			if err := f.Decode(&member); err != nil {
				m.t.Error(err)
			}
			m.members[member.ID] = member.Member
		default:
			if m.waiting[f.Number] == nil {
				m.t.Errorf("an answer to %s number %d, which nobody asked", f.Kind, f.Number)
			} else {
				m.waiting[f.Number] <- f
				delete(m.waiting, f.Number)
			}
		}
		m.mtx.Unlock()
	}
}

// Member returns the reported member id of a subscription, or "".
func (m *Module) Member(id uint64) string {
	m.mtx.Lock()
	defer m.mtx.Unlock()
	return m.members[id]
}

// Post sends a request; the channel gets the answer.
func (m *Module) Post(kind boundary.Kind, request boundary.Body) <-chan boundary.Frame {
	m.t.Helper()
	came := make(chan boundary.Frame, 1)
	m.mtx.Lock()
	m.number++
	number := m.number
	m.waiting[number] = came
	m.mtx.Unlock()
	if err := m.Conn.Request(kind, number, request); err != nil {
		m.t.Error(err)
	}
	return came
}

// Await waits for an answer and decodes it into answer, which is nil for an answer without fields.
func (m *Module) Await(came <-chan boundary.Frame, answer boundary.Body) {
	m.t.Helper()
	select {
	case f := <-came:
		m.decode(f, answer)
	case <-m.closed:
		select {
		case f := <-came: // arrived before the end
			m.decode(f, answer)
		default:
			m.t.Fatalf("the engine has closed the socket: %q", m.With())
		}
	case <-time.After(Patience):
		m.t.Fatalf("no answer: %q", m.With())
	}
}

func (m *Module) decode(f boundary.Frame, answer boundary.Body) {
	m.t.Helper()
	if err := f.Decode(answer); err != nil {
		m.t.Error(err)
	}
}

// Ask sends a request and waits for its answer.
func (m *Module) Ask(kind boundary.Kind, request, answer boundary.Body) {
	m.t.Helper()
	m.Await(m.Post(kind, request), answer)
}

// Hello begins the connection, for a module with all files below dir.
func (m *Module) Hello(dir string) *boundary.HelloAnswer {
	m.t.Helper()
	var a boundary.HelloAnswer
	m.Ask(boundary.HelloKind, &boundary.HelloRequest{
		ABI: boundary.ABIVersion, Build: boundary.Build, EntityID: "00:11:22:33:44:55", SystemName: "pbx",
		Version: "22.5.0", Hostname: "host.example", SpoolDir: dir,
	}, &a)
	return &a
}

// With returns the log lines that contain all parts.
func (m *Module) With(parts ...string) []string {
	m.mtx.Lock()
	defer m.mtx.Unlock()
	var some []string
	for _, l := range m.lines {
		text := []string{"debug", "notice", "warning", "error"}[l.Level] + ": " + l.Text
		if !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(text, part) }) {
			some = append(some, text)
		}
	}
	return some
}

// Line waits for a log line that contains all parts.
func (m *Module) Line(parts ...string) {
	m.t.Helper()
	for limit := time.After(Patience); len(m.With(parts...)) == 0; {
		m.mtx.Lock()
		grown := m.grown
		m.mtx.Unlock()
		if len(m.With(parts...)) > 0 {
			return
		}
		select {
		case <-grown:
		case <-limit:
			m.t.Fatalf("no line with %q in %q", parts, m.With())
		}
	}
}

// Eventually polls for a state without a notification.
func Eventually(t testing.TB, what string, so func() bool) {
	t.Helper()
	for limit := time.Now().Add(Patience); !so(); time.Sleep(time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("not so after %v: %s", Patience, what)
		}
	}
}

// Lines returns the received log lines.
func (m *Module) Lines() []boundary.LogRequest {
	m.mtx.Lock()
	defer m.mtx.Unlock()
	return slices.Clone(m.lines)
}

// Closed waits until the engine has closed the socket, and all lines have come.
func (m *Module) Closed() {
	m.t.Helper()
	select {
	case <-m.closed:
	case <-time.After(Patience):
		m.t.Fatal("the engine does not close the socket")
	}
}
