package kafka

import (
	"encoding/binary"
	"net"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// underway knows what the brokers may have without having said so: the records that may have been in a produce request.
// What it does not count was never on a broker, so that another client can carry it without a duplicate. The producer's
// mtx guards it.
//
// A record is in doubt when it was given to the client before the last produce request was written, and has no outcome.
// That is more than need be, as the request may not have held it, but never less.
type underway struct {
	aloft   int    // produce requests written, or being written, and not answered
	given   uint64 // the number of the last batch that Send made
	written uint64 // and of the last whose records a request may have held; 0 = none that matters
	sealed  bool   // no produce request is written any more
}

// Underway is how many batches have records that a broker may have and that have no outcome yet. At 0 the brokers have
// nothing that this client does not know of: to close it then costs no duplicate. Without idempotence what was lost with
// its connection does not count: the client itself would send it once more. It does not block.
func (p *Producer) Underway() int {
	p.mtx.Lock()
	defer p.mtx.Unlock()
	return p.doubts()
}

// doubts is Underway. The caller holds mtx.
func (p *Producer) doubts() int {
	n := 0
	for b := range p.live {
		if b.number <= p.underway.written {
			n++
		}
	}
	return n
}

// Recall asks for all records back, for another client to carry them. Those no broker can have come back at once, with
// ErrClosed as their outcome, and so do those that Send brings from now on; for the others the client goes on asking, and it
// closes itself when there are none left. With idempotence it so returns no record that may be on a broker, and whoever
// waits for it sends nothing twice; a broker that does not answer can make that take for ever, which Close ends. Without idempotence it
// waits for answers that can still come. It does not block.
func (p *Producer) Recall() {
	already := p.recalled.Swap(true)
	p.mtx.Lock()
	p.seal()
	p.mtx.Unlock()
	if already || !p.cancellable {
		return // with idempotence the library would give back what an earlier attempt may have left on a broker
	}
	go func() { _ = p.client.AbortBufferedRecords(p.life) }()
}

// seal closes a client that was recalled as soon as nothing is in doubt. The caller holds mtx.
func (p *Producer) seal() {
	if p.recalled.Load() && !p.underway.sealed && !p.closed && p.doubts() == 0 {
		p.underway.sealed = true
		go p.Close()
	}
}

// produceConn keeps the account of the produce requests on one connection. The client library has one connection to a broker
// for them alone, writes each request as a whole, and reads the answers in the order of the requests; what makes the
// connection ready is over before the first. The producer's mtx guards the counters.
type produceConn struct {
	net.Conn
	producer *Producer

	open   int // produce requests without an answer
	others int // logins without an answer: a session is renewed between requests, when none is open
	closed bool

	// Of the reading goroutine, once a produce request was written.
	producing bool
	header    [4]byte // the length of an answer
	got       int     // bytes of it
	rest      uint32  // bytes of the answer that are to come
}

// begin is told that a request is about to be written, and says whether it may be.
func (c *produceConn) begin(produce bool) bool {
	p := c.producer
	p.mtx.Lock()
	defer p.mtx.Unlock()
	if !produce {
		c.others++
		return true
	}
	if c.closed || p.underway.sealed {
		return false
	}
	c.open++
	p.underway.aloft++
	p.underway.written = p.underway.given
	return true
}

// end is told that a request has its answer, or never left.
func (c *produceConn) end() {
	p := c.producer
	p.mtx.Lock()
	defer p.mtx.Unlock()
	switch {
	case c.others > 0:
		c.others--
	case c.open > 0:
		c.open--
		p.underway.aloft--
	}
}

// Write implements net.Conn. A request is its length in 4 bytes, then its key.
func (c *produceConn) Write(b []byte) (int, error) {
	produce := len(b) >= 6 && kmsg.Key(binary.BigEndian.Uint16(b[4:])) == kmsg.Produce
	if !produce && !c.producing {
		return c.Conn.Write(b)
	}
	if c.producer.answered && !c.producing {
		c.producing = true
	}
	if !c.begin(produce) {
		return 0, net.ErrClosed
	}
	n, err := c.Conn.Write(b)
	if err != nil && n == 0 || !c.producer.answered { // it never left, or there will be no answer
		c.end()
	}
	return n, err
}

// Read implements net.Conn.
func (c *produceConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.producing {
		c.count(b[:n])
	}
	return n, err
}

// count takes the next bytes of the answers.
func (c *produceConn) count(b []byte) {
	for len(b) > 0 {
		if c.got < len(c.header) {
			n := copy(c.header[c.got:], b)
			c.got += n
			b = b[n:]
			if c.got < len(c.header) {
				return
			}
			c.rest = binary.BigEndian.Uint32(c.header[:])
		}
		n := min(uint64(c.rest), uint64(len(b)))
		c.rest -= uint32(n)
		b = b[n:]
		if c.rest == 0 {
			c.got = 0
			c.end()
		}
	}
}

// Close implements net.Conn. What is open will have no answer.
func (c *produceConn) Close() error {
	err := c.Conn.Close() // first: nothing of a request that waits to be written leaves any more
	p := c.producer
	p.mtx.Lock()
	defer p.mtx.Unlock()
	if p.underway.aloft -= c.open; c.open > 0 && p.cancellable && p.underway.aloft == 0 {
		p.underway.written = 0
	}
	c.open, c.closed = 0, true
	p.seal()
	return err
}
