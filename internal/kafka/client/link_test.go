package client

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"reskafka/internal/config"
	"reskafka/test/kafkatest"
)

// TestLink_SeveralRequests_AreAnsweredInOrder verifies a broker that reads several requests before its first
// answer. A wrong order would acknowledge records missing at the broker.
func TestLink_SeveralRequests_AreAnsweredInOrder(t *testing.T) {
	b := newLinkBroker(t)
	var frames [][]byte
	b.serve = func(conn net.Conn, frame []byte) bool {
		frames = append(frames, frame)
		if len(frames) < 5 {
			return true
		}
		for _, f := range frames {
			acknowledge(conn, f)
		}
		frames = nil
		return true
	}
	l := b.link()
	for range 3 {
		var all []*parcel
		for i := range 5 {
			p := newParcel(20_000 * (i + 1)) // some together, some by themselves
			all = append(all, p)
			l.Queue(p)
			l.Flush()
		}
		for _, p := range all {
			p.succeeds(t)
			if p.appended.Load() != 1 {
				t.Errorf("appended %d times", p.appended.Load())
			}
		}
	}
	if b.opened.Load() != 1 {
		t.Errorf("%d connections", b.opened.Load())
	}
}

// TestLink_BrokerDoesNotRead_FlushReturns verifies that a broker with a full socket does not block the
// caller.
func TestLink_BrokerDoesNotRead_FlushReturns(t *testing.T) {
	for size, times := range map[int]int{32 << 20: 2, 30 << 10: 2000} {
		b := newLinkBroker(t)
		b.serve = func(conn net.Conn, frame []byte) bool {
			acknowledge(conn, frame)
			return false
		}
		l := b.link(func(c *config.Connection) { c.SocketTimeout = time.Hour })
		p := newParcel(100)
		l.Queue(p)
		l.Flush()
		p.succeeds(t)
		returned := make(chan struct{})
		go func() {
			defer close(returned)
			for range times {
				l.Queue(newParcel(size))
				l.Flush()
			}
		}()
		kafkatest.Await(t, returned)
	}
}

// TestLink_WriteFails_KnowsWhatWasWritten verifies for each request of one write whether a broker may have
// it.
func TestLink_WriteFails_KnowsWhatWasWritten(t *testing.T) {
	for n, want := range map[int]struct {
		lost int
		cut  bool
	}{0: {1, false}, 1: {2, true}, 99: {2, true}, 100: {2, false}, 101: {3, true}, 250: {4, true}} {
		l, c := newLinkBroker(t).link(), &linkConn{unwritten: 1 << 40}
		sent := []entry{{number: 6, wrote: 100}, {number: 7, wrote: 100}, {number: 8, wrote: 100}}
		c.pending, c.number = append([]entry{{number: 5, wrote: 7}}, sent...), 9
		l.cut(c, sent, n)
		lost, back := c.split()
		if len(lost) != want.lost || len(lost)+len(back) != 4 || lost[len(lost)-1].cut != want.cut || lost[0].wrote != 7 {
			t.Errorf("%d bytes written: %+v may be there, %+v not", n, lost, back)
		}
	}
}

// TestLink_NothingWritten_NextConnectionTakesIt ends the connection after its set-up, before and after the
// request's Queue.
func TestLink_NothingWritten_NextConnectionTakesIt(t *testing.T) {
	b := newLinkBroker(t)
	l := b.link()
	for range 3 {
		p := newParcel(100)
		l.Queue(p)
		l.Flush()
		p.succeeds(t)
		c := l.Conn()
		c.usage.last.Store(int64(-2 * time.Hour)) // idle for longer than connections_max_idle_ms
	}
	if b.opened.Load() != 3 {
		t.Errorf("%d connections, want 3", b.opened.Load())
	}
}

// refusing is a TCP connection with failing writes of records, before their first byte.
type refusing struct {
	net.Conn
	left *atomic.Int32
}

func (c *refusing) Write(p []byte) (int, error) {
	if len(p) == 100 && c.left.Add(-1) >= 0 {
		return 0, syscall.EPIPE
	}
	return c.Conn.Write(p)
}

// TestLink_WriteRefused_NextConnectionTakesIt verifies that an unwritten request goes to the next connection,
// once.
func TestLink_WriteRefused_NextConnectionTakesIt(t *testing.T) {
	for refused := range int32(3) {
		b := newLinkBroker(t)
		l := b.link()
		var left atomic.Int32
		left.Store(refused)
		l.all.dialer.TCP = func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, address)
			return &refusing{conn, &left}, err
		}
		p := newParcel(100)
		l.Queue(p)
		l.Flush()
		if err := p.end(t); (err != nil) != (refused == 2) || err != nil && !errors.Is(err, syscall.EPIPE) {
			t.Errorf("%d writes refused: %v", refused, err)
		}
		if p.unwritten.Load() != refused || b.opened.Load() != min(refused+1, 2) {
			t.Errorf("%d writes refused: %d times unwritten, %d connections", refused, p.unwritten.Load(), b.opened.Load())
		}
	}
}

// TestLink_Idle_ConnectionIsClosed verifies a connection's end after connections_max_idle_ms.
func TestLink_Idle_ConnectionIsClosed(t *testing.T) {
	b := newLinkBroker(t)
	l := b.link(func(c *config.Connection) {
		c.ConnectionsMaxIdle, c.SocketTimeout = 300*time.Millisecond, 200*time.Millisecond
	})
	p := newParcel(100)
	l.Queue(p)
	l.Flush()
	p.succeeds(t)
	kafkatest.Soon(t, "it is closed", func() bool { return l.Conn() == nil })
}

// TestLink_NoAnswer_TimesOut verifies socket_timeout_ms, with an answered request before, and further
// requests behind.
func TestLink_NoAnswer_TimesOut(t *testing.T) {
	b := newLinkBroker(t)
	var served atomic.Int32
	b.serve = func(conn net.Conn, frame []byte) bool { return served.Add(1) > 1 || acknowledge(conn, frame) }
	l := b.link(func(c *config.Connection) { c.SocketTimeout = 300 * time.Millisecond })
	p := newParcel(100)
	l.Queue(p)
	l.Flush()
	p.succeeds(t)
	time.Sleep(200 * time.Millisecond) // the second request needs a deadline of its own
	first, second, began := newParcel(100), newParcel(100), time.Now()
	l.Queue(first)
	l.Queue(second)
	l.Flush()
	if err := first.end(t); !IsTimeout(err) {
		t.Errorf("the first: %v", err)
	}
	if took := time.Since(began); took < 290*time.Millisecond {
		t.Errorf("timed out after %v", took)
	}
	if err := second.end(t); err == nil || ConnectionLost(err) { // the broker has not closed the connection
		t.Errorf("the second: %v", err)
	}
}

// TestLink_UnansweredRequests_AnswersAreDropped is Azure Event Hubs, which answers requests with acks = 0.
func TestLink_UnansweredRequests_AnswersAreDropped(t *testing.T) {
	b := newLinkBroker(t)
	l := b.link()
	l.all.Unanswered = true
	for range 20 {
		time.Sleep(2 * time.Millisecond) // for the last answer
		p := newParcel(100)
		p.acks = false
		l.Queue(p)
		l.Flush()
		p.succeeds(t)
	}
	if b.opened.Load() != 1 {
		t.Errorf("%d connections", b.opened.Load())
	}
}

// TestLink_BrokerMoves_RequestsFollow moves a broker to another address and out of the cluster.
func TestLink_BrokerMoves_RequestsFollow(t *testing.T) {
	b, other := newLinkBroker(t), newLinkBroker(t)
	b.serve = func(net.Conn, []byte) bool { return true } // without an answer
	l := b.link()
	lost, behind := newParcel(100), newParcel(100)
	l.Queue(lost)
	l.Flush()
	kafkatest.Soon(t, "it is written", func() bool { return l.Conn() != nil && lost.appended.Load() == 1 })
	other.at(l)
	if err := lost.end(t); !errors.Is(err, errEndedHere) {
		t.Errorf("the request under way: %v", err)
	}
	l.Queue(behind)
	l.Flush()
	behind.succeeds(t)
	l.Move("", 0, false)
	gone := newParcel(100)
	kafkatest.Soon(t, "the connection is closed", func() bool { return l.Conn() == nil })
	l.Queue(gone)
	l.Flush()
	if err := gone.end(t); !errors.Is(err, errUnlisted) {
		t.Errorf("a request to a broker that is not listed: %v", err)
	}
}
