package wire

import (
	"encoding/binary"
	"net"
	"sync"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Header is the header of a request.
type Header struct {
	Key         kmsg.Key
	Version     int16
	Correlation int32
	Client      string
}

// Ending is how a connection ends.
type Ending int

// The endings of a connection.
const (
	FIN     Ending = iota // closed properly
	RST                   // reset
	Silence               // open, but nothing passes any longer in either direction
)

// Conn is the broker's end of a watched connection.
type Conn struct {
	net.Conn
	wire   *Wire
	faults []Fault

	requests []byte // read and not yet parsed
	blind    bool   // not Kafka in plaintext

	mtx     sync.Mutex
	asked   map[int32]Header // requests without an answer so far, by correlation number
	answers []byte           // written and not yet whole
	silent  bool
	end     sync.Once
	ended   chan struct{}
}

// Watch wraps the broker's end of a connection, with the faults in force at this moment.
func (w *Wire) Watch(conn net.Conn) *Conn {
	w.mtx.Lock()
	c := &Conn{Conn: conn, wire: w, faults: w.faults, asked: map[int32]Header{}, ended: make(chan struct{})}
	w.open[c] = struct{}{}
	w.mtx.Unlock()
	for _, f := range c.faults {
		if f.Opened != nil {
			f.Opened(c)
		}
	}
	return c
}

// Read implements net.Conn. It returns the end of a delayed request only after the delay.
func (c *Conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if !c.blind {
		c.requests = append(c.requests, p[:n]...)
		for c.next() {
		}
	}
	if c.Silent() {
		<-c.ended
		return 0, net.ErrClosed
	}
	return n, err
}

// Write implements net.Conn. With faults, answers pass whole.
func (c *Conn) Write(p []byte) (int, error) {
	if len(c.faults) == 0 || c.blind {
		return c.Conn.Write(p)
	}
	c.answers = append(c.answers, p...)
	for len(c.answers) >= 4 {
		size := 4 + int(binary.BigEndian.Uint32(c.answers))
		if len(c.answers) < size {
			break
		}
		answer := append([]byte{}, c.answers[:size]...)
		c.answers = c.answers[size:]
		if err := c.answer(answer); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// answer passes an answer through the faults.
func (c *Conn) answer(answer []byte) error {
	if len(answer) >= 8 {
		c.mtx.Lock()
		correlation := int32(binary.BigEndian.Uint32(answer[4:]))
		to, known := c.asked[correlation]
		delete(c.asked, correlation)
		c.mtx.Unlock()
		for _, f := range c.faults {
			if f.Answer != nil && known && len(answer) > 0 {
				answer = f.Answer(c, to, answer)
			}
		}
	}
	if len(answer) == 0 || c.Silent() {
		return nil
	}
	_, err := c.Conn.Write(answer)
	return err
}

// Close implements net.Conn.
func (c *Conn) Close() error {
	c.end.Do(func() {
		close(c.ended)
		c.wire.mtx.Lock()
		defer c.wire.mtx.Unlock()
		delete(c.wire.open, c)
	})
	return c.Conn.Close()
}

// End ends the connection.
func (c *Conn) End(how Ending) {
	switch how {
	case Silence:
		c.mtx.Lock()
		c.silent = true
		c.mtx.Unlock()
		return
	case RST:
		conn := c.Conn
		if secure, ok := conn.(interface{ NetConn() net.Conn }); ok {
			conn = secure.NetConn() // which ends without a word of TLS
		}
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		_ = conn.Close()
	}
	c.Close()
}

// Ended is closed with the connection.
func (c *Conn) Ended() <-chan struct{} { return c.ended }

// Silent reports whether the connection has ended in silence.
func (c *Conn) Silent() bool {
	c.mtx.Lock()
	defer c.mtx.Unlock()
	return c.silent
}

// maxRequest is above the largest request of any test: a longer request is TLS.
const maxRequest = 64 << 20

// next removes a whole request from the read bytes.
func (c *Conn) next() bool {
	if len(c.requests) < 4 {
		return false
	}
	size := int(binary.BigEndian.Uint32(c.requests))
	if size > maxRequest {
		c.blind, c.requests = true, nil
		return false
	}
	for _, f := range c.faults {
		if f.Size != nil {
			f.Size(c, size)
		}
	}
	if len(c.requests) < 4+size {
		return false
	}
	header, body, ok := parseHeader(c.requests[4 : 4+size])
	c.requests = c.requests[4+size:]
	if !ok {
		return true
	}
	c.mtx.Lock()
	c.asked[header.Correlation] = header
	c.mtx.Unlock()
	for _, f := range c.faults {
		if f.Request != nil {
			f.Request(c, header)
		}
	}
	if request, ok := parse(header, body); ok {
		select {
		case <-c.wire.take(request):
		case <-c.ended:
		}
	}
	return true
}

// parseHeader reads the header of a request: key, version, correlation number, client id. In newer versions the body
// begins with the header's tags.
func parseHeader(b []byte) (h Header, body []byte, ok bool) {
	if len(b) < 10 {
		return h, nil, false
	}
	h.Key = kmsg.Key(binary.BigEndian.Uint16(b))
	h.Version = int16(binary.BigEndian.Uint16(b[2:]))
	h.Correlation = int32(binary.BigEndian.Uint32(b[4:]))
	length, body := int(int16(binary.BigEndian.Uint16(b[8:]))), b[10:]
	if length > 0 && length <= len(body) {
		h.Client, body = string(body[:length]), body[length:]
	}
	return h, body, true
}
