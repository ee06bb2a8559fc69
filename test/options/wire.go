package options

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Request is one request as it came over the wire.
type Request struct {
	Client string // client id of its header
	kmsg.Request
}

// Wire keeps the requests that reach a broker, and can hold them back. Its methods may be called from any goroutine.
type Wire struct {
	mtx   sync.Mutex
	all   []Request
	grown chan struct{}
	held  map[kmsg.Key]chan struct{}
}

// NewWire makes one that has seen nothing.
func NewWire() *Wire { return &Wire{grown: make(chan struct{}), held: map[kmsg.Key]chan struct{}{}} }

// Listen makes the connections of a listener be watched. They must be in plaintext; others are passed on unread.
func (w *Wire) Listen(l net.Listener) net.Listener { return watchedListener{l, w} }

type watchedListener struct {
	net.Listener
	wire *Wire
}

func (l watchedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &watchedConn{Conn: conn, wire: l.wire, ended: make(chan struct{})}, nil
}

// Proxy is a listener in front of a broker. The connections that it takes are watched by the wire in use at that moment.
type Proxy struct {
	Address string

	listener net.Listener
	mtx      sync.Mutex
	target   string
	wire     *Wire
	conns    map[net.Conn]struct{}
	all      sync.WaitGroup
}

// NewProxy listens; Use says for whom.
func NewProxy() (*Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{Address: l.Addr().String(), listener: l, wire: NewWire(), conns: map[net.Conn]struct{}{}}
	p.all.Go(p.serve)
	return p, nil
}

// Use has new connections go to target and be watched by a wire.
func (p *Proxy) Use(target string, wire *Wire) {
	p.mtx.Lock()
	defer p.mtx.Unlock()
	p.target, p.wire = target, wire
}

func (p *Proxy) serve() {
	for conn, err := p.listener.Accept(); err == nil; conn, err = p.listener.Accept() {
		p.mtx.Lock()
		target, wire := p.target, p.wire
		p.mtx.Unlock()
		broker, err := net.Dial("tcp", target)
		if err != nil {
			conn.Close()
			continue
		}
		client := &watchedConn{Conn: conn, wire: wire, ended: make(chan struct{})}
		p.pass(broker, client)
		p.pass(client, broker)
	}
}

// pass copies until one end closes, and then closes both.
func (p *Proxy) pass(to, from net.Conn) {
	p.mtx.Lock()
	p.conns[from] = struct{}{}
	p.mtx.Unlock()
	p.all.Go(func() {
		_, _ = io.Copy(to, from)
		to.Close()
		from.Close()
		p.mtx.Lock()
		defer p.mtx.Unlock()
		delete(p.conns, from)
	})
}

// Close ends it and its connections.
func (p *Proxy) Close() {
	p.listener.Close()
	p.mtx.Lock()
	for conn := range p.conns {
		conn.Close()
	}
	p.mtx.Unlock()
	p.all.Wait()
}

// watchedConn is the broker's end of a connection.
type watchedConn struct {
	net.Conn
	wire    *Wire
	pending []byte
	blind   bool // what comes is not Kafka in plaintext
	end     sync.Once
	ended   chan struct{}
}

// Read implements net.Conn. It gives the end of a request that is held back only when that is over.
func (c *watchedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if !c.blind {
		c.pending = append(c.pending, p[:n]...)
		for c.next() {
		}
	}
	return n, err
}

// Close implements net.Conn.
func (c *watchedConn) Close() error {
	c.end.Do(func() { close(c.ended) })
	return c.Conn.Close()
}

// most is the largest request that a test sends, with room to spare: a longer one is TLS.
const most = 64 << 20

// next takes one whole request off what was read.
func (c *watchedConn) next() bool {
	if len(c.pending) < 4 {
		return false
	}
	size := int(binary.BigEndian.Uint32(c.pending))
	if size > most {
		c.blind, c.pending = true, nil
		return false
	}
	if len(c.pending) < 4+size {
		return false
	}
	request, ok := parse(c.pending[4 : 4+size])
	c.pending = c.pending[4+size:]
	if ok {
		select {
		case <-c.wire.take(request):
		case <-c.ended:
		}
	}
	return true
}

// parse reads a request. Its header: key, version and number of the request, client id, and in newer versions tags.
func parse(b []byte) (Request, bool) {
	if len(b) < 10 {
		return Request{}, false
	}
	request := kmsg.RequestForKey(int16(binary.BigEndian.Uint16(b)))
	if request == nil {
		return Request{}, false
	}
	request.SetVersion(int16(binary.BigEndian.Uint16(b[2:])))
	length, body := int(int16(binary.BigEndian.Uint16(b[8:]))), b[10:]
	client := ""
	if length > 0 && length <= len(body) {
		client, body = string(body[:length]), body[length:]
	}
	if request.IsFlexible() {
		if len(body) == 0 || body[0] != 0 { // nobody sends tags in a header yet
			return Request{}, false
		}
		body = body[1:]
	}
	// A request's records are not copied, so they need memory of their own.
	if err := request.ReadFrom(append([]byte{}, body...)); err != nil {
		return Request{}, false
	}
	return Request{client, request}, true
}

// passed is for requests that are not held back.
var passed = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// take keeps a request and gives what has to be waited for before the broker may see it.
func (w *Wire) take(r Request) <-chan struct{} {
	w.mtx.Lock()
	defer w.mtx.Unlock()
	w.all = append(w.all, r)
	close(w.grown)
	w.grown = make(chan struct{})
	if gate := w.held[kmsg.Key(r.Key())]; gate != nil {
		return gate
	}
	return passed
}

// Hold keeps requests of a kind from the broker from now on, until release is called.
func (w *Wire) Hold(key kmsg.Key) (release func()) {
	w.mtx.Lock()
	defer w.mtx.Unlock()
	gate := make(chan struct{})
	w.held[key] = gate
	return sync.OnceFunc(func() {
		w.mtx.Lock()
		defer w.mtx.Unlock()
		delete(w.held, key)
		close(gate)
	})
}

// Seen gives the requests so far for which match is true.
func (w *Wire) Seen(match func(Request) bool) []Request {
	w.mtx.Lock()
	defer w.mtx.Unlock()
	var some []Request
	for _, r := range w.all {
		if match(r) {
			some = append(some, r)
		}
	}
	return some
}

// Await waits for the first request for which match is true, those that have been seen included.
func (w *Wire) Await(ctx context.Context, match func(Request) bool) (Request, error) {
	for looked := 0; ; {
		w.mtx.Lock()
		all, grown := w.all, w.grown
		w.mtx.Unlock()
		for ; looked < len(all); looked++ {
			if match(all[looked]) {
				return all[looked], nil
			}
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return Request{}, fmt.Errorf("waiting for a request, of %s: %w", names(all), ctx.Err())
		}
	}
}

func names(all []Request) string {
	var list []string
	for _, r := range all {
		list = append(list, kmsg.Key(r.Key()).Name())
	}
	return "[" + strings.Join(list, " ") + "]"
}
