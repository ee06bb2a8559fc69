package client

import (
	"errors"
	"net"
	"sync/atomic"
	"syscall"
	"time"
)

// Brokers, balancers and NAT end idle connections. Most close or reset a connection, and the socket knows
// before the next request is written. Some drop a connection silently. Therefore an idle connection is
// checked before a write, and renewed after connections_max_idle_ms of idle time. Neither is a failure:
// nothing was lost, and nothing is logged.

// LookAfter is how long a connection must have been idle for being looked at. Under load none is.
const LookAfter = time.Second

// IdleEnded is the error of a connection that ended while idle. The request uses another connection at once.
type IdleEnded struct {
	Err error // the kind of end
}

func (e *IdleEnded) Error() string { return "the connection ended while it was idle: " + e.Err.Error() }
func (e *IdleEnded) Unwrap() error { return e.Err }

// EndedIdle reports whether a request failed only because its idle connection had ended.
func EndedIdle(err error) bool {
	_, ok := errors.AsType[*IdleEnded](err)
	return ok
}

var (
	errIdleTooLong = errors.New("idle for longer than connections_max_idle_ms")
	errGone        = errors.New("the other side has closed it or does not answer")
)

// usage is the history of a connection's use. Its methods are safe for concurrent use.
type usage struct {
	limit  time.Duration   // connections_max_idle_ms
	socket syscall.RawConn // nil = not a TCP connection
	last   atomic.Int64    // when something was read or written, since started
	rested atomic.Bool     // idle before the last request, and nothing read since
}

// started is the origin of usage's times: monotonic, so a change of the clock makes no connection idle.
var started = time.Now()

func (u *usage) touch() { u.last.Store(int64(time.Since(started))) }

// ended reports whether the connection ended while idle. A connection in use is left to its readers and
// writers.
func (u *usage) ended() bool { return u.idle() >= LookAfter && u.gone() }

// Ended reports whether the connection ended while idle.
func (c *Conn) Ended() bool { return c.usage.ended() }

func (u *usage) idle() time.Duration { return time.Since(started) - time.Duration(u.last.Load()) }

// writing must be called before each write of a request. It returns an error if the connection must be
// renewed instead.
func (u *usage) writing() error {
	idle := u.idle()
	u.touch()
	if idle < LookAfter {
		return nil
	}
	u.rested.Store(true)
	switch {
	case u.limit > 0 && idle >= u.limit:
		return &IdleEnded{errIdleTooLong}
	case u.gone():
		return &IdleEnded{errGone}
	}
	return nil
}

// read is called after a read. The end of a connection may cross the first request after a rest.
func (u *usage) read(n int, err error) error {
	if n > 0 {
		u.touch()
		u.rested.Store(false)
	}
	if err != nil && u.rested.Load() && cutOff(err) {
		return &IdleEnded{err}
	}
	return err
}

const (
	tcpEstablished = 1
	tcpUserTimeout = 18 // TCP_USER_TIMEOUT, which package syscall lacks
)

// gone reports whether the kernel knows that the other side has ended the connection, or has left keepalive
// probes unanswered. Unread bytes, such as TLS's own end, do not hide the end.
func (u *usage) gone() bool {
	if u.socket == nil {
		return false
	}
	dead := false
	err := u.socket.Control(func(fd uintptr) {
		// The first four bytes of struct tcp_info: state, congestion state, retransmissions, unanswered probes.
		info, err := syscall.GetsockoptInet4Addr(int(fd), syscall.IPPROTO_TCP, syscall.TCP_INFO)
		dead = err == nil && (info[0] != tcpEstablished || info[3] > 0)
	})
	return err != nil || dead
}

// bound makes the kernel end the connection after unacknowledged bytes of that age. With acks = 0, a loss
// would otherwise go unnoticed for a quarter of an hour.
func (u *usage) bound(unacknowledged time.Duration) {
	if u.socket != nil {
		_ = u.socket.Control(func(fd uintptr) {
			_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout, int(unacknowledged.Milliseconds()))
		})
	}
}

// socketOf returns the socket of a TCP connection, or nil.
func socketOf(conn net.Conn) syscall.RawConn {
	if tcp, ok := conn.(*net.TCPConn); ok {
		if raw, err := tcp.SyscallConn(); err == nil {
			return raw
		}
	}
	return nil
}
