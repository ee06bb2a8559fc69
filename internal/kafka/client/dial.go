package client

import (
	"context"
	"crypto/tls"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"reskafka/internal/config"
	"reskafka/internal/dns"
)

// Resolver finds the addresses of a host. Lookup may be called from any goroutine and blocks until ctx is done at most.
type Resolver interface {
	Lookup(ctx context.Context, host string) ([]netip.Addr, error)
}

// Dialer opens the connections of one client: TCP, TLS, the checks of responses, and the wait between
// attempts. Set the exported fields before the client's use.
type Dialer struct {
	TCP      func(ctx context.Context, network, address string) (net.Conn, error) // the system's by default
	Resolver Resolver                                                             // every client's by default

	setup          time.Duration // for TCP and TLS together
	unacknowledged time.Duration // limit of the kernel's wait for the other side's kernel
	Silence        time.Duration // longest wait for an answer
	idle           time.Duration // longest time without a request
	files          *tlsFiles     // nil for plaintext
	names          bool          // verify the host's name in its certificate
	facts          Facts
	closing        context.Context // done when the client closes: kgo's own context of a dial may be a record's deadline

	conf      *config.Connection
	Observer  ResponseObserver // nil for a client of one request
	reconnect *reconnect
	attempt   func(addr string) (over func()) // notes an attempt to connect
	log       *Logger
}

// resolver serves every client, to remember silent DNS servers.
var resolver dns.Resolver

// NewDialer returns a dialer for a client of connection c. It reads the TLS files and touches no network.
// closing ends attempts to connect; status is for this client alone; log may be nil. An error names the
// option at fault.
func NewDialer(c *config.Connection, closing context.Context, status *Status, log *Logger) (*Dialer, error) {
	files, err := newTLSFiles(c, log)
	if err != nil {
		return nil, err
	}
	status.facts = FactsOf(c)
	return &Dialer{
		TCP:            (&net.Dialer{}).DialContext,
		Resolver:       &resolver,
		setup:          min(c.SocketTimeout, maxSetupTimeout),
		unacknowledged: c.SocketTimeout,
		Silence:        c.SocketTimeout,
		idle:           c.ConnectionsMaxIdle,
		files:          files,
		names:          c.HostCheck != "none",
		facts:          status.facts,
		closing:        closing,
		attempt:        status.attempt,

		conf:      c,
		reconnect: newReconnect(Backoff(c.ReconnectBackoff, c.ReconnectBackoffMax, rand.Float64)),
		log:       log,
	}, nil
}

// Until returns a copy of d with another context for the end of attempts.
func (d *Dialer) Until(closing context.Context) *Dialer {
	other := *d
	other.closing = closing
	return &other
}

// LimitBackoff bounds the wait before the next attempt to connect.
func (d *Dialer) LimitBackoff(longest time.Duration) {
	c := d.conf
	d.reconnect = newReconnect(Backoff(min(c.ReconnectBackoff, longest), min(c.ReconnectBackoffMax, longest), rand.Float64))
}

// Backoff returns the wait for the next attempt at a broker after that many consecutive failures.
func (d *Dialer) Backoff(failures int) time.Duration { return d.reconnect.wait(failures) }

// Dial connects to addr, host:port, in turn. Every failure is a *net.OpError of Op "dial". kgo takes this
// type for an unreachable broker, so records wait; any other type is an answer, so records fail.
func (d *Dialer) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := d.dial(ctx, network, addr, func(conn net.Conn) net.Conn { return conn })
	if err != nil {
		return nil, err
	}
	return c, nil
}

// dial is Dial with a function for a wrapper of the TCP connection.
func (d *Dialer) dial(ctx context.Context, network, addr string, wrap func(net.Conn) net.Conn) (*Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(d.closing, cancel)()
	if err := d.reconnect.turn(ctx, addr); err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	}
	over := d.attempt(addr)
	conn, err := d.connect(ctx, network, addr, wrap)
	if err != nil {
		over()
		if ctx.Err() == nil { // otherwise given up, without a verdict on the broker
			d.reconnect.failed(addr)
		}
		return nil, err
	}
	conn.over = over
	return conn, nil
}

// connect makes the connection, ready for the client's first request.
func (d *Dialer) connect(ctx context.Context, network, addr string, wrap func(net.Conn) net.Conn) (*Conn, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	}
	addrs, err := d.Resolver.Lookup(ctx, host)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	}
	ctx, cancel := context.WithTimeout(ctx, d.setup)
	defer cancel()
	conn, err := d.connectAny(ctx, network, addrs, port)
	if err != nil {
		return nil, err
	}
	socket := socketOf(conn)
	conn = wrap(conn)
	s := &setup{Facts: d.facts}
	if d.files == nil {
		d.log.Logf("security", "%s: connected in plaintext", addr)
	} else if conn, err = d.handshake(ctx, conn, addr, s); err != nil {
		return nil, err
	}
	checked := newCheckedConn(conn, addr, d.conf, d.Observer)
	conn = checked
	if d.facts.mechanism != "" {
		conn = &loginConn{Conn: conn, setup: s}
	}
	c := &Conn{
		Conn: conn, silence: d.Silence, setup: s, failed: sync.OnceFunc(func() { d.reconnect.failed(addr) }),
		usage: usage{limit: d.idle, socket: socket}, pause: pause{wake: make(chan struct{}, 1)},
	}
	checked.pause = c.throttled
	if tcp := plainTCP(checked.Conn); tcp != nil {
		c.vector = func(v net.Buffers) (int, error) { return checked.writeAll(tcp, v) }
	}
	c.usage.touch()
	c.usage.bound(d.unacknowledged)
	return c, nil
}

func (d *Dialer) handshake(ctx context.Context, conn net.Conn, addr string, s *setup) (net.Conn, error) {
	host, _, err := net.SplitHostPort(addr)
	if err == nil {
		base, expires := d.files.current()
		s.expires = expires
		secure := tls.Client(conn, forHost(base, host, d.names, s))
		if err = secure.HandshakeContext(ctx); err == nil {
			state := secure.ConnectionState()
			d.log.Logf("security", "%s: connected with %s, %s; certificate of %s by %s", addr, tls.VersionName(state.Version),
				tls.CipherSuiteName(state.CipherSuite), state.PeerCertificates[0].Subject, state.PeerCertificates[0].Issuer)
			return secure, nil
		}
	}
	conn.Close()
	return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: conn.RemoteAddr(), Err: &HandshakeError{err, s}}
}

// HandshakeError is a failed TLS handshake.
type HandshakeError struct {
	err   error
	setup *setup
}

func (e *HandshakeError) Error() string { return "TLS handshake: " + e.err.Error() }
func (e *HandshakeError) Unwrap() error { return e.err }

// Timeout and Temporary repeat the cause's values for net.OpError: it asks only the error directly below.
func (e *HandshakeError) Timeout() bool   { return IsTimeout(e.err) }
func (e *HandshakeError) Temporary() bool { return IsTimeout(e.err) }

// IsTimeout reports whether an error is a time-out, of the network or of a context.
func IsTimeout(err error) bool {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) {
		return true
	}
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout()
}

// Conn limits the wait of a read. kgo adds the request's own timeout to its overhead; librdkafka's
// socket.timeout.ms, the model of socket_timeout_ms, covers both.
type Conn struct {
	net.Conn
	silence time.Duration
	setup   *setup
	usage   usage
	pause   pause
	known   bool                           // ready for requests
	vector  func(net.Buffers) (int, error) // writes several buffers by one system call; nil = one at a time

	answered atomic.Bool // something was read
	over     func()      // ends the attempt to connect, in the status
	failed   func()      // counts the attempt to connect as failed, once
}

// Write implements net.Conn.
func (c *Conn) Write(p []byte) (int, error) {
	if err := c.ready(); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// ready waits for the permission to write. An error means that another connection is to be made.
func (c *Conn) ready() error {
	if err := c.rest(); err != nil {
		return err
	}
	return c.usage.writing()
}

// Read implements net.Conn.
func (c *Conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 && !c.answered.Load() {
		c.answered.Store(true)
	}
	return n, c.usage.read(n, err)
}

// Close implements net.Conn. A connection without an answer of the broker counts as failed: kgo may try again
// at once.
func (c *Conn) Close() error {
	if !c.answered.Load() {
		c.failed()
	}
	if c.over != nil {
		c.over()
	}
	c.pause.deadline(time.Unix(0, 1)) // ends a waiting write
	return c.Conn.Close()
}

// SetReadDeadline implements net.Conn.
func (c *Conn) SetReadDeadline(t time.Time) error {
	if !t.IsZero() {
		if latest := time.Now().Add(c.silence); t.After(latest) {
			t = latest
		}
	}
	return c.Conn.SetReadDeadline(t)
}
