package kafka

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	// shortcutFor is how long after a request has left by way of the library others may take the shortcut. The library renews a
	// login that is about to end when it is given a request, at least a second before, and closes a connection that it has not
	// used for connections_max_idle_ms. It does not count from the answer: a slow one says nothing about what is left of the login.
	shortcutFor = 500 * time.Millisecond
	// longestAnswered is more than any answer to a request of quickMost bytes takes, in bytes.
	longestAnswered = 1 << 20
)

// shortcut is the connection that the library has made to a broker for produce requests, on which short ones go without the library:
// it takes each through five goroutines with contexts, hooks and deadlines of their own, which at a few hundred messages a second
// is a quarter of what the messages cost.
//
// The connection is the shortcut's while the library has no request under way on it, for only then does it read or write there.
// dispatch sees to that: a flight that takes the shortcut is the only one of its broker.
//
// A shortcut is used by one goroutine at a time.
type shortcut struct {
	conn    *boundedConn
	flights chan *flight // to be carried; closed when there come no more
	format  *kmsg.RequestFormatter
	number  int32  // of the last request
	bytes   []byte // of a request, then of its answer
}

// errNotWritten is when nothing of a request has been written: the library may still send it, on another connection.
var errNotWritten = errors.New("nothing was written")

// toldError is why a connection was given up, for the library to hear: the administrator has been told.
type toldError struct{ err error }

func (e *toldError) Error() string { return e.err.Error() }
func (e *toldError) Unwrap() error { return e.err }

// shortcuts are the connections that the library sends produce requests on, by broker. It is a part of the dialer.
type shortcuts struct {
	leaving func(node int32) *atomic.Pointer[flight] // of the producer's node; nil = it has none of that number

	mtx   sync.Mutex
	conns map[int32]*boundedConn
}

// opened notes that the library has a connection with which it begins to send produce requests.
func (s *shortcuts) opened(c *boundedConn) {
	s.mtx.Lock()
	defer s.mtx.Unlock()
	s.conns[c.node] = c
}

func (s *shortcuts) closed(c *boundedConn) {
	if c.version.Load() < 0 { // it has not been opened, or is at this moment: then the next one takes its place
		return
	}
	s.mtx.Lock()
	defer s.mtx.Unlock()
	if s.conns[c.node] == c {
		delete(s.conns, c.node)
	}
}

// to is the connection to a broker, nil if there is none.
func (s *shortcuts) to(node int32) *boundedConn {
	s.mtx.Lock()
	defer s.mtx.Unlock()
	return s.conns[node]
}

// overhear finds out whether the library sends produce requests here, and in what version. It writes each request as a whole: its
// length in 4 bytes, its key in 2, its version in 2.
func (c *boundedConn) overhear(p []byte) {
	if c.shortcuts != nil && c.known && len(p) >= 8 && kmsg.Key(binary.BigEndian.Uint16(p[4:])) == kmsg.Produce {
		if c.version.Swap(int32(binary.BigEndian.Uint16(p[6:]))) < 0 {
			c.shortcuts.opened(c)
		}
	}
}

// abandon ends a connection that is of no use any more. The library hears of the reason when it is to write there the next time,
// and of what it is to write there nothing is written.
func (c *boundedConn) abandon(n *node, err error) {
	if c.broken.Load() == nil {
		c.leaving = &n.leaving
	}
	c.broken.CompareAndSwap(nil, &err)
	c.shortcuts.closed(c)
	_ = c.Conn.Close()
}

// unwritten notes that the library was kept from writing p. If that is a flight's request, the flight counts as departed since the
// library asked for these bytes, and would for as long as the next connection takes. leaving is its node's; nil = there is none.
func unwritten(leaving *atomic.Pointer[flight], p []byte) {
	if leaving == nil {
		return
	}
	if f := leaving.Load(); f != nil && len(p) >= 6 && kmsg.Key(binary.BigEndian.Uint16(p[4:])) == kmsg.Produce && f.first == &p[0] {
		f.state.CompareAndSwap(departed, boarding)
	}
}

// renewed notes that p goes by another connection because this one was idle.
func (c *boundedConn) renewed(p []byte) {
	if c.shortcuts != nil && c.known {
		unwritten(c.shortcuts.leaving(c.node), p)
	}
}

// arrived notes that a flight was answered: whether the next may take the shortcut, and whether the broker wants to be left alone
// for a while. The caller holds mtx.
func (p *Producer) arrived(f *flight) {
	n := f.node
	p.throttled(n)
	if f.shortcut != nil {
		return
	}
	if p.acks == 0 || p.log.wants("protocol") { // the first has no answers, of the second the library writes lines
		return
	}
	conn := p.shortcuts.to(n.id)
	if n.shortcut != nil && n.shortcut.conn != conn {
		n.dropShortcut()
	}
	if n.shortcut == nil && conn != nil {
		n.shortcut = &shortcut{conn: conn, flights: make(chan *flight, 1), format: p.format}
		go p.serve(n.shortcut)
	}
	n.shortcutUntil = f.left.Add(shortcutFor)
}

// serve carries the flights that take a shortcut: one goroutine for all, whose stack has grown.
func (p *Producer) serve(s *shortcut) {
	for f := range s.flights {
		p.carry(f)
	}
}

// dropShortcut ends a broker's shortcut, if there is one. The caller holds mtx.
func (n *node) dropShortcut() {
	if n.shortcut != nil {
		close(n.shortcut.flights)
		n.shortcut = nil
	}
}

// depart sends a flight on its way, by the shortcut if it may take it. The caller holds mtx.
func (p *Producer) depart(f *flight) {
	n := f.node
	n.flights++
	f.left = p.now()
	if n.shortcut == nil || n.flights > 1 || f.bytes > quickMost || !f.left.Before(n.shortcutUntil) {
		go p.carry(f)
		return
	}
	f.shortcut, n.alone = n.shortcut, true
	n.shortcut.flights <- f // never blocks: this is the only one
}

// exchange sends a request and waits for its answer. After an error the connection is closed.
func (s *shortcut) exchange(request *produceRequest) (*kmsg.ProduceResponse, error) {
	response, written, err := s.try(request)
	if err != nil {
		if written == 0 { // the library hears of it at once
			s.conn.abandon(request.flight.node, err)
			return nil, fmt.Errorf("%w: %w", errNotWritten, err)
		}
		s.conn.abandon(request.flight.node, &toldError{err})
		return nil, err
	}
	return response, nil
}

func (s *shortcut) try(request *produceRequest) (response *kmsg.ProduceResponse, written int, err error) {
	s.number++
	request.SetVersion(int16(s.conn.version.Load()))
	s.bytes = s.format.AppendRequest(s.bytes[:0], request, s.number)
	if err = s.conn.Conn.SetDeadline(time.Now().Add(s.conn.silence)); err != nil {
		return nil, 0, err
	}
	if written, err = s.conn.Conn.Write(s.bytes); err != nil {
		return nil, written, err
	}
	body, err := s.answer()
	if err != nil {
		return nil, written, err
	}
	r := kbin.Reader{Src: body}
	if number := r.Int32(); number != s.number {
		return nil, written, fmt.Errorf("the answer to request %d came for request %d", number, s.number)
	}
	if request.IsFlexible() {
		kmsg.SkipTags(&r)
	}
	if err = r.Complete(); err != nil {
		return nil, written, err
	}
	response = kmsg.NewPtrProduceResponse()
	response.SetVersion(request.GetVersion())
	return response, written, response.ReadFrom(r.Src)
}

// answer reads an answer as a whole and gives it without its length. It is overwritten by the next request.
func (s *shortcut) answer() ([]byte, error) {
	s.bytes = s.bytes[:cap(s.bytes)]
	n, err := io.ReadAtLeast(s.conn, s.bytes, 4)
	if err != nil {
		return nil, err
	}
	length := int(binary.BigEndian.Uint32(s.bytes))
	if length > longestAnswered {
		return nil, fmt.Errorf("an answer of %d bytes", length)
	}
	whole := 4 + length
	if n > whole {
		return nil, fmt.Errorf("%d bytes behind an answer that was the only one to come", n-whole)
	}
	s.bytes = slices.Grow(s.bytes[:n], whole-n)[:whole]
	if _, err = io.ReadFull(s.conn, s.bytes[n:]); err != nil {
		return nil, err
	}
	return s.bytes[4:], nil
}
