package kafka

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"time"

	"reskafka/internal/config"
)

// dialer opens the connections of one client.
type dialer struct {
	net     net.Dialer
	setup   time.Duration   // for TCP and TLS together
	silence time.Duration   // longest wait for an answer
	tls     *tls.Config     // nil for plaintext; without a server name
	closing context.Context // done when the client closes: kgo's own context of a dial may be a record's deadline
}

func newDialer(c *config.Connection, closing context.Context) (*dialer, error) {
	conf, err := tlsConfig(c)
	if err != nil {
		return nil, err
	}
	return &dialer{
		setup:   min(c.SocketTimeout, maxSetupTimeout),
		silence: c.SocketTimeout,
		tls:     conf,
		closing: closing,
	}, nil
}

// dial connects to addr, host:port. Every failure is a *net.OpError of Op "dial", which is what kgo goes by to tell an
// unreachable broker, whose records wait, from one that answered, whose records fail.
func (d *dialer) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.setup)
	defer cancel()
	defer context.AfterFunc(d.closing, cancel)()

	conn, err := d.net.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	if d.tls != nil {
		if conn, err = d.handshake(ctx, conn, addr); err != nil {
			return nil, err
		}
	}
	return &boundedConn{conn, d.silence}, nil
}

func (d *dialer) handshake(ctx context.Context, conn net.Conn, addr string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(addr)
	if err == nil {
		secure := tls.Client(conn, forHost(d.tls, host))
		if err = secure.HandshakeContext(ctx); err == nil {
			return secure, nil
		}
	}
	conn.Close()
	return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: conn.RemoteAddr(), Err: &handshakeError{err}}
}

// handshakeError is a failed TLS handshake.
type handshakeError struct{ err error }

func (e *handshakeError) Error() string { return "TLS handshake: " + e.err.Error() }
func (e *handshakeError) Unwrap() error { return e.err }

// Timeout and Temporary carry what the cause says through net.OpError, which asks only the error directly below.
func (e *handshakeError) Timeout() bool   { return isTimeout(e.err) }
func (e *handshakeError) Temporary() bool { return isTimeout(e.err) }

func isTimeout(err error) bool {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) {
		return true
	}
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout()
}

// boundedConn limits how long a read may wait. kgo allows an answer the request's own timeout on top of its overhead;
// librdkafka's socket.timeout.ms, which is what socket_timeout_ms means, covers both.
type boundedConn struct {
	net.Conn
	silence time.Duration
}

// SetReadDeadline implements net.Conn.
func (c *boundedConn) SetReadDeadline(t time.Time) error {
	if !t.IsZero() {
		if latest := time.Now().Add(c.silence); t.After(latest) {
			t = latest
		}
	}
	return c.Conn.SetReadDeadline(t)
}
