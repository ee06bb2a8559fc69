package client

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/internal/config"
)

// ResponseObserver gets events from a broker's responses. Its methods must not block.
type ResponseObserver interface {
	// throttled reports a pause requested by the broker at addr.
	throttled(addr string, pause time.Duration)
	// refusedBatch reports that a record batch of that broker was made unreadable, and the reason.
	refusedBatch(addr string, err error)
}

// refusedResponse is a response hidden from the client library.
type refusedResponse struct {
	key kmsg.Key
	why error
}

func (e *refusedResponse) Error() string { return e.sentence().String() }

func (e *refusedResponse) sentence() Sentence {
	return SentenceOf(responseRefused, e.key.Name(), e.why.Error())
}

// Unwrap makes the client library try again on another connection, as after a broken one.
func (e *refusedResponse) Unwrap() []error { return []error{e.why, io.ErrUnexpectedEOF} }

// sentRequest is the data of a request needed to check its response.
type sentRequest struct {
	key     kmsg.Key
	version int16
	number  int32 // the correlation number
	raw     bool  // a token of a login without any header
}

// checkedConn checks a broker's responses on arrival, before the client library decodes them, and reads the
// library's writes to know the next response: brokers answer the requests of a connection in order.
type checkedConn struct {
	net.Conn
	addr     string
	tokens   int // tokens of the login's mechanism
	observer ResponseObserver
	pause    func(pause time.Duration) // receives the broker's pauses; nil = ignored

	mtx     sync.Mutex
	waiting []sentRequest // without a response so far
	raw     int           // tokens still to come of a login without headers

	// The next fields belong to the reader.
	head    [8]byte // the length of a response and its correlation number
	have    int     // bytes of head
	current sentRequest
	known   bool // current was asked
	check   responseCheck
	refused error
}

func newCheckedConn(conn net.Conn, addr string, c *config.Connection, observer ResponseObserver) *checkedConn {
	checked := &checkedConn{Conn: conn, addr: addr, tokens: 1, observer: observer}
	if strings.HasPrefix(c.SASLMechanism, "SCRAM") {
		checked.tokens = 2
	}
	checked.check.batch.maxRecords = BatchBudget(c) / RecordCost
	return checked
}

// Write implements net.Conn. The library writes one request at a time, a link several.
func (c *checkedConn) Write(p []byte) (int, error) {
	c.mtx.Lock()
	for rest := p; len(rest) >= 4; {
		n := len(rest)
		if size := int64(binary.BigEndian.Uint32(rest)); size < int64(n-4) {
			n = 4 + int(size)
		}
		c.note(rest[:n])
		rest = rest[n:]
	}
	c.mtx.Unlock()
	return c.Conn.Write(p)
}

// writeAll writes requests in several buffers to the connection below. Each buffer after the beginning of a
// request is within the request, or begins one.
func (c *checkedConn) writeAll(to *net.TCPConn, buffers net.Buffers) (int, error) {
	c.mtx.Lock()
	within := int64(0) // bytes of the last request in the next buffers
	for _, p := range buffers {
		for int64(len(p)) > within {
			p = p[within:]
			c.note(p)
			within = 4 + int64(binary.BigEndian.Uint32(p))
		}
		within -= int64(len(p))
	}
	c.mtx.Unlock()
	n, err := buffers.WriteTo(to)
	return int(n), err
}

// note stores an answered request. Caller must hold mtx.
func (c *checkedConn) note(p []byte) {
	if c.raw > 0 {
		c.raw--
		c.waiting = append(c.waiting, sentRequest{key: kmsg.SASLAuthenticate, raw: true})
		return
	}
	if len(p) < 12 {
		return
	}
	r := sentRequest{
		key: kmsg.Key(binary.BigEndian.Uint16(p[4:])), version: int16(binary.BigEndian.Uint16(p[6:])),
		number: int32(binary.BigEndian.Uint32(p[8:])),
	}
	if r.key == kmsg.Produce && unanswered(p, r.version) {
		return
	}
	if r.key == kmsg.SASLHandshake && r.version == 0 {
		c.raw = c.tokens
	}
	c.waiting = append(c.waiting, r)
}

// unanswered reports whether a produce request has acks = 0, after the ids of client and transaction.
func unanswered(p []byte, version int16) bool {
	if len(p) < 14 {
		return false
	}
	at := 14 + max(int(int16(binary.BigEndian.Uint16(p[12:]))), 0)
	switch {
	case version >= 9:
		at += 2 // no tags in the header, no transaction
	case version >= 3:
		at += 2
	}
	return len(p) >= at+2 && binary.BigEndian.Uint16(p[at:]) == 0
}

// Read implements net.Conn.
func (c *checkedConn) Read(p []byte) (int, error) {
	if c.refused != nil {
		return 0, c.refused
	}
	n, err := c.Conn.Read(p)
	whole, why := c.follow(p[:n])
	if why == nil {
		return n, err
	}
	c.refused = &refusedResponse{c.current.key, why}
	if whole > 0 { // otherwise the refusal would count for an earlier request
		return whole, nil
	}
	return 0, c.refused
}

// follow checks the next bytes and corrects them in place. whole is the number of bytes before the refused
// response.
func (c *checkedConn) follow(p []byte) (whole int, why error) {
	for rest := p; len(rest) > 0; {
		if c.check.left == 0 && c.have == 0 {
			whole = len(p) - len(rest)
		}
		if rest, why = c.step(rest); why != nil {
			return whole, why
		}
	}
	return 0, nil
}

// step checks the first of the bytes and returns the others.
func (c *checkedConn) step(p []byte) (rest []byte, err error) {
	switch {
	case c.check.left > 0:
		n := min(c.check.left, len(p))
		if err = c.check.feed(p[:n]); err == nil {
			c.report()
		}
		return p[n:], err
	case c.have < 4:
		n := copy(c.head[c.have:4], p)
		if c.have += n; c.have == 4 {
			err = c.begin()
		}
		return p[n:], err
	default:
		n := copy(c.head[c.have:8], p)
		if c.have += n; c.have == 8 {
			err = c.identify()
		}
		return p[n:], err
	}
}

// begin looks at the length of a response.
func (c *checkedConn) begin() error {
	size := int(int32(binary.BigEndian.Uint32(c.head[:])))
	c.mtx.Lock()
	c.known = len(c.waiting) > 0
	if c.current = (sentRequest{key: -1}); c.known {
		c.current = c.waiting[0]
		c.waiting = slices.Delete(c.waiting, 0, 1)
	}
	c.mtx.Unlock()
	limit := maxUnlistedResponse
	if c.known {
		limit = maxResponseSize(c.current.key)
	}
	// The library explains a length from a server other than Kafka.
	if limit > 0 && size > limit && !plainText(c.head[:4]) {
		return fmt.Errorf("it has %d bytes, more than %d", uint32(size), limit)
	}
	if size > largeResponse {
		debug.FreeOSMemory() // the library allocates the whole response next
	}
	if c.current.raw || size < 4 {
		c.have = 0
		c.check.start(max(size, 0), nil, false)
	}
	return nil
}

// plainText reports whether a length is the beginning of an answer in HTTP or of a TLS alert.
func plainText(head []byte) bool {
	return string(head) == "HTTP" || head[0] == 21 && head[1] == 3
}

// identify looks at the correlation number of a response.
func (c *checkedConn) identify() error {
	c.have = 0
	number := int32(binary.BigEndian.Uint32(c.head[4:]))
	size := int(binary.BigEndian.Uint32(c.head[:])) - 4
	if !c.known {
		c.check.start(size, nil, false)
		return nil
	}
	if number != c.current.number {
		return fmt.Errorf("it belongs to request %d and not to %d", number, c.current.number)
	}
	l, headerTags := layoutOf(c.current.key, c.current.version)
	c.check.start(size, l, headerTags)
	if c.current.key == kmsg.OffsetForLeaderEpoch {
		c.check.epochs.begin()
	}
	c.check.fallback = c.current.key == kmsg.ApiVersions
	return nil
}

// pausesAfter reports whether a response's throttle time is still to come. Old versions have it at the end.
func pausesAfter(to sentRequest) bool {
	response := kmsg.ResponseForKey(int16(to.key))
	if response == nil {
		return false
	}
	response.SetVersion(to.version)
	throttled, ok := response.(kmsg.ThrottleResponse)
	if !ok {
		return false
	}
	_, after := throttled.Throttle()
	return after
}

// report passes on the results.
func (c *checkedConn) report() {
	if pause := c.check.throttle; pause > 0 {
		c.check.throttle = 0
		if c.pause != nil && pausesAfter(c.current) {
			c.pause(min(pause, maxThrottle))
		}
		if c.observer != nil {
			c.observer.throttled(c.addr, pause)
		}
	}
	for _, err := range c.check.batch.refused {
		if c.observer != nil {
			c.observer.refusedBatch(c.addr, err)
		}
	}
	c.check.batch.refused = nil
}
