package client

import (
	"errors"
	"math"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// retainedBytes is the limit of a buffer kept for the next requests.
const retainedBytes = 2 << 20

// write writes the queue to the connection; the caller has set writing. inline ends the call before a write
// that may block.
func (l *Link) write(c *linkConn, inline bool) {
	for {
		err := guarded(l.all.hooks.log, "writing to a broker", func() error { return l.writeSome(c) })
		if err != nil {
			l.fail(c, err)
			c.Close() // wakes the reading goroutine, which ends the requests
		}
		l.mtx.Lock()
		if l.conn != c || len(l.queue) == 0 || l.expired(c) {
			l.settle()
			l.mtx.Unlock()
			return
		}
		blocks := inline && !l.inline(c)
		l.mtx.Unlock()
		if blocks {
			go l.write(c, false)
			return
		}
	}
}

// settle ends the turn of a writer. The caller holds mtx.
func (l *Link) settle() {
	l.writing = false
	l.settled.Broadcast()
}

// writeSome writes the first requests of the queue. An error ends the connection.
func (l *Link) writeSome(c *linkConn) error {
	if err := c.ready(); err != nil {
		return err
	}
	if c.version < 0 {
		l.end(l.take(true), VersionsDoNotFit)
		return nil
	}
	sent := l.append(c, l.take(false))
	if len(sent) == 0 {
		return nil
	}
	if !l.begin(c, sent) {
		l.requeue(c, sent, errDied)
		return nil
	}
	if l.all.Unanswered {
		_ = c.Conn.Conn.SetWriteDeadline(time.Now().Add(l.all.timeout))
	}
	n, err := l.transmit(c)
	if err != nil {
		l.cut(c, sent, n)
		return err
	}
	l.wrote(c, sent)
	return nil
}

// transmit writes the appended requests.
func (l *Link) transmit(c *linkConn) (n int, err error) {
	defer l.out.reset()
	if len(l.out.references) > 0 {
		return c.vector(l.out.buffers())
	}
	return c.Conn.Conn.Write(l.out.Own)
}

// take removes the first requests of the queue for one write, or all.
func (l *Link) take(all bool) []entry {
	l.mtx.Lock()
	defer l.mtx.Unlock()
	n, size := 0, 0
	for ; n < len(l.queue); n++ {
		if size += l.queue[n].Size(); n > 0 && size > combinedBytes && !all {
			break
		}
	}
	taken := l.queue[:n:n]
	l.queue = l.queue[n:]
	return taken
}

// append makes the bytes of requests. Requests with an error end.
func (l *Link) append(c *linkConn, requests []entry) (sent []entry) {
	l.out.reset()
	l.out.copies = c.vector == nil
	for _, e := range requests {
		from, own, references := l.out.Len(), len(l.out.Own), len(l.out.references)
		if err := e.Append(&l.out, c.version, correlation(c.number)); err != nil {
			l.out.truncate(own, references)
			l.end([]entry{e}, err)
			continue
		}
		e.number, e.wrote = c.number, l.out.Len()-from
		c.number++
		sent = append(sent, e)
	}
	return sent
}

// correlation is the number of a request in its header.
func correlation(number int64) int32 { return int32(number & math.MaxInt32) }

// begin books requests before their answers can come, and reports whether the connection still accepts
// requests.
func (l *Link) begin(c *linkConn, sent []entry) bool {
	l.mtx.Lock()
	defer l.mtx.Unlock()
	if l.conn != c {
		return false
	}
	c.fresh = false
	if l.all.Unanswered {
		return true
	}
	if len(c.pending) == 0 {
		c.since = time.Now()
		c.arm(c.since.Add(c.silence), false)
	}
	c.pending = append(c.pending, sent...)
	return true
}

// arm sets the deadline of reads. Without move the deadline only gets earlier: the reading goroutine looks
// again after it. Caller must hold the link's mtx.
func (c *linkConn) arm(at time.Time, move bool) {
	if move || c.armed.IsZero() || at.Before(c.armed) {
		c.armed = at
		_ = c.Conn.Conn.SetReadDeadline(at)
	}
}

// wrote books written requests.
func (l *Link) wrote(c *linkConn, sent []entry) {
	if l.all.log.Enabled("protocol") {
		l.all.log.Logf("protocol", "wrote %d %s v%d to broker %d, %d bytes", len(sent), l.all.Key.Name(), c.version, l.node, total(sent))
	}
	if !l.all.Unanswered {
		l.mtx.Lock()
		defer l.mtx.Unlock()
		if c.written = c.number; c.early {
			l.settled.Broadcast()
		}
		if len(c.pending) > 0 && c.pending[0].number >= sent[0].number {
			c.since = time.Now() // a long request is written for a while
		}
		return
	}
	for _, e := range sent {
		l.observe(c, kgo.BrokerE2E{BytesWritten: e.wrote})
		e.Ended(c.version, nil, nil)
	}
}

func total(sent []entry) (bytes int) {
	for i := range sent {
		bytes += sent[i].wrote
	}
	return bytes
}

// cut books requests with only the first n bytes written.
func (l *Link) cut(c *linkConn, sent []entry, n int) {
	l.mtx.Lock()
	defer l.mtx.Unlock()
	if l.all.Unanswered {
		c.pending = sent // for the reading goroutine, to end them
	}
	c.unwritten = c.number
	for i := range c.pending {
		e := &c.pending[i]
		switch {
		case e.number < sent[0].number:
		case n == 0:
			c.unwritten = min(c.unwritten, e.number)
		default:
			e.cut = n < e.wrote
			e.wrote = min(n, e.wrote)
			n -= e.wrote
		}
	}
}

// expired reports whether the connection needs another login before the next request, and starts one. Caller
// must hold mtx.
func (l *Link) expired(c *linkConn) bool {
	if c.expires.IsZero() || c.fresh || time.Now().Before(c.expires) {
		return false
	}
	if l.all.Unanswered { // unexpected answers could be in between
		l.breakOff(&IdleEnded{errors.New("the login has expired")})
		return true
	}
	c.renew = true
	if len(c.pending) == 0 {
		c.arm(time.Unix(1, 0), true) // wakes the reading goroutine
	}
	return true
}
