// Package wire watches the requests of clients at a broker, and lets tests disturb both directions: see
// Fault.
package wire

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Request is a request as received.
type Request struct {
	Client string // client id in the header
	kmsg.Request
}

// Wire stores the requests at a broker, and can delay them. Methods are safe for concurrent use.
type Wire struct {
	mtx    sync.Mutex
	all    []Request
	grown  chan struct{}
	held   map[kmsg.Key]chan struct{}
	faults []Fault
	open   map[*Conn]struct{}
}

// New returns a Wire without requests.
func New() *Wire {
	return &Wire{grown: make(chan struct{}), held: map[kmsg.Key]chan struct{}{}, open: map[*Conn]struct{}{}}
}

// Listen wraps a listener to watch its connections. Plaintext is required; other connections pass unread.
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
	return l.wire.Watch(conn), nil
}

// Proxy is a listener in front of a broker. The wire in use at an accept watches the connection.
type Proxy struct {
	Address string

	listener net.Listener
	mtx      sync.Mutex
	target   string
	wire     *Wire
	conns    map[net.Conn]struct{}
	all      sync.WaitGroup
}

// NewProxy listens; Use sets the broker.
func NewProxy() (*Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{Address: l.Addr().String(), listener: l, wire: New(), conns: map[net.Conn]struct{}{}}
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
		client := wire.Watch(conn)
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

// Close ends the proxy and its connections.
func (p *Proxy) Close() {
	p.listener.Close()
	p.mtx.Lock()
	for conn := range p.conns {
		conn.Close()
	}
	p.mtx.Unlock()
	p.all.Wait()
}

// parse decodes a request behind its header.
func parse(h Header, body []byte) (Request, bool) {
	request := kmsg.RequestForKey(int16(h.Key))
	if request == nil {
		return Request{}, false
	}
	request.SetVersion(h.Version)
	if request.IsFlexible() {
		if len(body) == 0 || body[0] != 0 { // no client sends tags in a header
			return Request{}, false
		}
		body = body[1:]
	}
	// Decoded records refer to the bytes, so the request needs its own memory.
	if err := request.ReadFrom(append([]byte{}, body...)); err != nil {
		return Request{}, false
	}
	return Request{h.Client, request}, true
}

// passed is for requests without a delay.
var passed = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// take stores a request and returns the channel to wait for before the broker may see the request.
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

// End ends all open connections.
func (w *Wire) End(how Ending) {
	w.mtx.Lock()
	open := slices.Collect(maps.Keys(w.open))
	w.mtx.Unlock()
	for _, c := range open {
		c.End(how)
	}
}

// Seen returns the requests so far that match.
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

// Await waits for the first request that matches, including earlier requests.
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
