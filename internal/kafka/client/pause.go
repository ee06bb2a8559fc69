package client

import (
	"os"
	"sync"
	"time"
)

// A throttle time in a response asks the client to send nothing on that connection for a while (KIP-219). The library would
// sleep and not notice the connection's end. So responses reach the library without a throttle time, and the next request
// waits in the connection's Write until the pause is over or the connection has ended.

// pause is the time that a broker asked for on one connection. Its methods are safe for concurrent use.
type pause struct {
	mtx         sync.Mutex
	until       time.Time     // zero = nothing was asked for
	allowed     time.Duration // for the write to come; 0 = no limit
	interrupted bool          // the write to come is to fail at once
	wake        chan struct{} // has a token when interrupted is set
}

// ask begins a pause, or prolongs the one that lasts.
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

// deadline notes the deadline of the write to come. One that is past interrupts it.
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

// state returns whether the write to come was interrupted, and how long it may take.
func (p *pause) state() (interrupted bool, allowed time.Duration) {
	p.mtx.Lock()
	defer p.mtx.Unlock()
	return p.interrupted, p.allowed
}

// rest waits until the broker's pause is over, and has the deadline of a write begin then. It returns an error when the connection
// or the write ends first.
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

// throttled begins a pause that the broker asked for.
func (c *Conn) throttled(d time.Duration) { c.pause.ask(d) }

// ThrottledFor returns how long the pause that the broker asked for lasts from now on.
func (c *Conn) ThrottledFor() time.Duration { return c.pause.left() }
