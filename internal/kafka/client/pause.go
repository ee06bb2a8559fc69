package client

import (
	"os"
	"sync"
	"time"
)

// A throttle time in a response asks the client for a silence on that connection (KIP-219). The library would
// sleep and not notice the connection's end. So responses reach the library without a throttle time, and the
// next request waits in the connection's Write for the end of the pause or of the connection.

// pause is the broker's pause on one connection. Its methods are safe for concurrent use.
type pause struct {
	mtx         sync.Mutex
	until       time.Time     // zero = nothing was asked for
	allowed     time.Duration // for the write to come; 0 = no limit
	interrupted bool          // the write to come is to fail at once
	wake        chan struct{} // has a token when interrupted is set
}

// ask begins or extends a pause.
func (p *pause) ask(d time.Duration) {
	p.mtx.Lock()
	defer p.mtx.Unlock()
	if until := time.Now().Add(d); until.After(p.until) {
		p.until = until
	}
}

// left returns how long the pause lasts from now on.
func (p *pause) left() time.Duration {
	p.mtx.Lock()
	defer p.mtx.Unlock()
	if p.until.IsZero() {
		return 0
	}
	return max(time.Until(p.until), 0)
}

// deadline sets the deadline of the next write. A past deadline interrupts the write.
func (p *pause) deadline(t time.Time) {
	p.mtx.Lock()
	defer p.mtx.Unlock()
	p.allowed = 0
	if !t.IsZero() {
		p.allowed = time.Until(t)
	}
	if p.interrupted = !t.IsZero() && p.allowed <= 0; p.interrupted {
		select {
		case p.wake <- struct{}{}:
		default:
		}
	}
}

// state returns whether the next write was interrupted, and its remaining time.
func (p *pause) state() (interrupted bool, allowed time.Duration) {
	p.mtx.Lock()
	defer p.mtx.Unlock()
	return p.interrupted, p.allowed
}

// rest waits until the broker's pause is over, and starts a write's deadline then. An error reports the
// earlier end of the connection or the write.
func (c *Conn) rest() error {
	if !c.known || c.pause.left() == 0 {
		return nil
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		interrupted, allowed := c.pause.state()
		left := c.pause.left()
		switch {
		case interrupted:
			return os.ErrDeadlineExceeded
		case c.usage.ended():
			return &IdleEnded{errGone}
		case left == 0 && allowed > 0:
			return c.Conn.SetWriteDeadline(time.Now().Add(allowed))
		case left == 0:
			return nil
		}
		timer.Reset(min(left, LookAfter))
		select {
		case <-timer.C:
		case <-c.pause.wake:
		}
	}
}

// SetWriteDeadline implements net.Conn.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c.pause.deadline(t)
	return c.Conn.SetWriteDeadline(t)
}

// SetDeadline implements net.Conn.
func (c *Conn) SetDeadline(t time.Time) error {
	c.pause.deadline(t)
	return c.Conn.SetDeadline(t)
}

// throttled begins the broker's pause.
func (c *Conn) throttled(d time.Duration) { c.pause.ask(d) }

// ThrottledFor returns the rest of the broker's pause.
func (c *Conn) ThrottledFor() time.Duration { return c.pause.left() }
