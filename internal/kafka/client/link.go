package client

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl"

	"reskafka/internal/config"
	"reskafka/internal/host"
)

// InlineBytes is the limit of a request written by Link.Flush itself. An empty send buffer of a TCP socket
// has room for the request: in Linux 46 KB at first, ten segments of a usual length.
const InlineBytes = 32 << 10

// combinedBytes is the limit of requests in one write.
const combinedBytes = 256 << 10

// Request is one request on a Link. The link calls all methods without a lock, one at a time.
type Request interface {
	// Size returns an upper bound of the request's length, bytes.
	Size() int
	// Append adds the request to the bytes of a write, with length and header, right before the write. An
	// error ends the request unwritten.
	Append(to *Parts, version int16, correlation int32) error
	// Unwritten reports that nothing of an appended request was written. The request is appended again, or
	// ends.
	Unwritten()
	// Ended ends the request. answer is the body of the answer, valid during the call; nil for requests
	// without answers.
	Ended(version int16, answer []byte, err error)
}

// Links are the connections of one client for one kind of request, one for each broker. Set the exported
// fields before the first link's use.
type Links struct {
	Key        kmsg.Key // of the requests
	MinVersion int16    // the oldest possible version of the requests
	Unanswered bool     // brokers do not answer the requests
	Closed     func()   // called after the end of a connection; nil = unused

	dialer    *Dialer
	hooks     *Hooks
	log       *Logger
	mechanism sasl.Mechanism // nil = no login
	format    *kmsg.RequestFormatter
	timeout   time.Duration // of a write without an answer
	cluster   atomic.Pointer[string]
	running   sync.WaitGroup // goroutines of links
}

// NewLinks returns the links of a client of connection c. An error names the option at fault.
func NewLinks(c *config.Connection, d *Dialer, h *Hooks, log *Logger) (*Links, error) {
	mechanism, err := saslMechanism(c)
	if err != nil {
		return nil, err
	}
	return &Links{
		dialer: d, hooks: h, log: log, mechanism: mechanism, timeout: Clamp(c.SocketTimeout, MinRequestTimeout, MaxRequestTimeout),
		format: kmsg.NewRequestFormatter(kmsg.FormatterClientID(ClientID(c.ClientID))),
	}, nil
}

// Format returns the formatter of requests, with the client's id.
func (s *Links) Format() *kmsg.RequestFormatter { return s.format }

// SetCluster sets the cluster's id for the brokers: another cluster's broker refuses the connection
// (KIP-1242).
func (s *Links) SetCluster(id *string) { s.cluster.Store(id) }

// Wait waits until all goroutines of closed links have ended.
func (s *Links) Wait() { s.running.Wait() }

// Link carries requests to one broker, over one connection at a time. A queued request starts a connection;
// one goroutine reads from the start to the end of the connection. Requests and answers have the order of the
// Queue calls. The methods are safe for concurrent use.
type Link struct {
	all  *Links
	node int32

	// The next fields belong to the goroutine of the link.
	apiVersion int16 // of ApiVersions at the broker; -1 = unknown
	resets     int   // consecutive connections reset by ApiVersions

	out Parts // of the writing goroutine

	mtx     sync.Mutex
	settled sync.Cond          // writing is no longer set, or a connection's written is higher
	meta    kgo.BrokerMetadata // with the address
	listed  bool               // the cluster lists the broker
	moves   int                // changes of meta
	cancel  context.CancelFunc // ends the attempt to connect; nil = there is none
	queue   []entry
	running bool      // a goroutine opens or reads a connection
	writing bool      // a goroutine writes to the connection, or logs in once more
	conn    *linkConn // ready for requests; nil = there is none
	closed  bool
}

// entry is a request in a link.
type entry struct {
	Request
	number int64 // of the request on its connection
	wrote  int   // bytes
	cut    bool  // only some of them
	again  bool  // an earlier connection ended before its writing
}

// linkConn is a connection of a link. The link's mtx guards it.
type linkConn struct {
	*Conn
	meta                    kgo.BrokerMetadata
	version                 int16     // of the requests; -1 = no common version
	flexible                bool      // headers of answers have tags
	handshake, authenticate int16     // versions of the requests of a login; -1 = the broker has none
	expires                 time.Time // when the login expires; zero = never
	renew                   bool      // requests wait for another login
	fresh                   bool      // nothing was written since the login

	pending   []entry   // written, or being written, without an answer
	number    int64     // of the next request
	written   int64     // requests below this number are written
	early     bool      // the reading goroutine waits for written
	since     time.Time // when the answer to the first of pending began to be due
	armed     time.Time // deadline of reads; zero = none
	err       error     // the first failure
	unwritten int64     // requests from this number on were not written

	in frames // of the reading goroutine
}

// To returns a link to a broker, without an address.
func (s *Links) To(node int32) *Link {
	l := &Link{all: s, node: node, apiVersion: -1}
	l.settled.L = &l.mtx
	return l
}

// Move sets the broker's address. A changed address ends the connection, and so does listed = false: the
// cluster no longer lists the broker. Never blocks.
func (l *Link) Move(broker string, port int32, listed bool) {
	l.mtx.Lock()
	defer l.mtx.Unlock()
	if listed == l.listed && (!listed || broker == l.meta.Host && port == l.meta.Port) {
		return
	}
	l.listed = listed
	if listed {
		l.meta = kgo.BrokerMetadata{NodeID: l.node, Host: broker, Port: port}
	}
	l.moves++
	l.breakOff(errEndedHere)
}

// Close ends the connection and all requests. Never blocks.
func (l *Link) Close() {
	l.mtx.Lock()
	defer l.mtx.Unlock()
	l.closed = true
	l.breakOff(context.Canceled)
}

// breakOff ends the connection, or the attempt to open one. Caller must hold mtx.
func (l *Link) breakOff(err error) {
	if l.cancel != nil {
		l.cancel()
	}
	if c := l.conn; c != nil {
		l.conn, c.err = nil, err
		go c.Close() // TLS says good-bye first, which may block
	}
}

// Conn returns the ready connection, or nil.
func (l *Link) Conn() *Conn {
	l.mtx.Lock()
	defer l.mtx.Unlock()
	if l.conn == nil {
		return nil
	}
	return l.conn.Conn
}

// Queue adds a request for Flush. Never blocks.
func (l *Link) Queue(r Request) {
	l.mtx.Lock()
	defer l.mtx.Unlock()
	l.queue = append(l.queue, entry{Request: r})
}

// Flush writes the queued requests: short requests inline on a connection without unanswered requests,
// because such a write cannot block, and the rest on goroutines. The caller must not hold a lock needed by
// Request's methods.
func (l *Link) Flush() {
	l.mtx.Lock()
	c := l.conn
	switch {
	case len(l.queue) == 0 || l.writing:
	case l.closed && !l.running:
		rest := l.queue
		l.queue = nil
		l.mtx.Unlock()
		l.end(rest, context.Canceled)
		return
	case !l.running:
		l.running = true
		l.all.running.Add(1)
		go l.run()
	case c == nil || l.expired(c):
	default:
		l.writing = true
		inline := l.inline(c)
		l.mtx.Unlock()
		if inline {
			l.write(c, true)
		} else {
			go l.write(c, false)
		}
		return
	}
	l.mtx.Unlock()
}

// inline reports whether the queue can be written without blocking. The caller holds mtx.
func (l *Link) inline(c *linkConn) bool {
	if l.all.Unanswered || len(c.pending) > 0 || c.ThrottledFor() > 0 {
		return false
	}
	size := 0
	for i := range l.queue {
		size += l.queue[i].Size()
	}
	return size <= InlineBytes
}

// run opens and reads connections while requests wait.
func (l *Link) run() {
	defer l.all.running.Done()
	for {
		c, err := l.connect()
		if err != nil {
			l.unconnected(err)
		} else {
			l.Flush()
			l.dispose(c, guarded(l.all.hooks.log, "reading from a broker", func() error { return l.read(c) }))
		}
		if !l.again() {
			return
		}
	}
}

// guarded runs fn and returns its panic as an error.
func guarded(log host.Logger, where string, fn func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			host.LogPanic(log, where, r)
			err = errDied
		}
	}()
	return fn()
}

// again reports whether the link's goroutine continues, because requests wait.
func (l *Link) again() bool {
	l.mtx.Lock()
	if l.closed || len(l.queue) == 0 {
		l.running = false
	}
	on, rest := l.running, []entry(nil)
	if !on {
		rest, l.queue = l.queue, nil
	}
	l.mtx.Unlock()
	l.end(rest, context.Canceled)
	return on
}

// unconnected ends the waiting requests after a failed attempt to connect.
func (l *Link) unconnected(err error) {
	l.mtx.Lock()
	var rest []entry
	if err != errMoved {
		rest, l.queue = l.queue, nil
	}
	l.mtx.Unlock()
	l.end(rest, err)
}

func (l *Link) end(requests []entry, err error) {
	for _, r := range requests {
		r.Ended(0, nil, err)
	}
}

// dispose ends the requests on a connection failed with err. Unwritten requests go to the next one, once.
func (l *Link) dispose(c *linkConn, err error) {
	l.fail(c, err)
	c.Close()
	l.mtx.Lock()
	for l.writing { // Close has ended the write
		l.settled.Wait()
	}
	err = c.err
	lost, back := c.split()
	l.mtx.Unlock()
	further := error(errDied)
	if !ConnectionLost(err) {
		further = errEndedHere
	}

	l.all.hooks.OnBrokerDisconnect(c.meta, c.Conn)
	l.all.log.Logf("broker", "connection to broker %d at %s ended: %v", l.node, Address(c.meta), err)
	l.requeue(c, back, err)
	for _, e := range lost {
		if e.cut {
			l.observe(c, kgo.BrokerE2E{BytesWritten: e.wrote, WriteErr: err})
		} else {
			l.observe(c, kgo.BrokerE2E{BytesWritten: e.wrote, ReadErr: err})
		}
		e.Ended(c.version, nil, err)
		err = further
	}
	if l.all.Closed != nil {
		l.all.Closed()
	}
}

// fail stores a connection's first failure; the connection takes no further request.
func (l *Link) fail(c *linkConn, err error) {
	l.mtx.Lock()
	defer l.mtx.Unlock()
	if l.conn == c {
		l.conn = nil
	}
	if c.err == nil {
		c.err = err
	}
}

// split divides the unanswered requests into possibly received and unwritten requests. Caller must hold the
// link's mtx.
func (c *linkConn) split() (lost, back []entry) {
	for i := range c.pending {
		if c.pending[i].number >= c.unwritten {
			return c.pending[:i], c.pending[i:]
		}
	}
	return c.pending, nil
}

// requeue moves unwritten requests to the next connection, or ends them the second time.
func (l *Link) requeue(c *linkConn, requests []entry, err error) {
	var back []entry
	for _, e := range requests {
		e.Unwritten()
		if e.again {
			l.observe(c, kgo.BrokerE2E{WriteErr: err})
			e.Ended(c.version, nil, err)
			continue
		}
		e.again = true
		back = append(back, e)
	}
	l.mtx.Lock()
	defer l.mtx.Unlock()
	l.queue = append(back, l.queue...)
}

// observe has the end of a request noted in the status and the log.
func (l *Link) observe(c *linkConn, e2e kgo.BrokerE2E) {
	l.all.hooks.OnBrokerE2E(c.meta, int16(l.all.Key), e2e)
}
