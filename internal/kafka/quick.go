package kafka

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
)

// quickMost is the longest read or write that is made without telling Go's scheduler, bytes: some microseconds of copying.
const quickMost = 32 << 10

// quickConn is a TCP connection whose short reads and writes, which do not block, are not announced to Go's scheduler. An
// announced system call wakes the scheduler's monitor thread when that sleeps, which is several wake-ups for each request: at
// low rates they cost more than the request.
type quickConn struct {
	net.Conn // what is not quick
	raw      syscall.RawConn

	reading, writing transfer
}

// transfer is one direction: what is being read or written and what has become of it.
type transfer struct {
	mtx   sync.Mutex // one at a time, as with net.TCPConn
	call  uintptr
	bytes []byte
	all   bool // go on until nothing is left of bytes
	done  int
	errno syscall.Errno
	step  func(fd uintptr) bool // t.try, made a value once
}

// quick makes conn quick if it can be.
func quick(conn net.Conn) net.Conn {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return conn
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return conn
	}
	c := &quickConn{Conn: conn, raw: raw}
	c.reading.call, c.writing.call, c.writing.all = syscall.SYS_READ, syscall.SYS_WRITE, true
	c.reading.step, c.writing.step = c.reading.try, c.writing.try
	return c
}

// Read implements net.Conn.
func (c *quickConn) Read(b []byte) (int, error) {
	if len(b) == 0 || len(b) > quickMost {
		return c.Conn.Read(b)
	}
	n, err := c.reading.run(c.raw.Read, b)
	if err != nil {
		return n, c.failed("read", err)
	}
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// Write implements net.Conn.
func (c *quickConn) Write(b []byte) (int, error) {
	if len(b) == 0 || len(b) > quickMost {
		return c.Conn.Write(b)
	}
	n, err := c.writing.run(c.raw.Write, b)
	if err != nil {
		return n, c.failed("write", err)
	}
	return n, nil
}

// run transfers b; wait is the descriptor's way to try again when it is ready.
func (t *transfer) run(wait func(func(uintptr) bool) error, b []byte) (int, error) {
	t.mtx.Lock()
	defer t.mtx.Unlock()
	t.bytes, t.done, t.errno = b, 0, 0
	err := wait(t.step)
	t.bytes = nil
	if err == nil && t.errno != 0 {
		err = t.errno
	}
	return t.done, err
}

// try makes the system call and says whether that was all.
func (t *transfer) try(fd uintptr) bool {
	for {
		n, errno := quickCall(t.call, fd, t.bytes[t.done:])
		switch errno {
		case 0:
			t.done += n
			if !t.all || t.done == len(t.bytes) {
				return true
			}
		case syscall.EINTR:
		case syscall.EAGAIN:
			return false
		default:
			t.errno = errno
			return true
		}
	}
}

// failed gives an error the form that it has with net.TCPConn.
func (c *quickConn) failed(op string, err error) error {
	var wrapped *net.OpError
	if errors.As(err, &wrapped) { // of the wait
		err = wrapped.Err
	}
	if errno, ok := err.(syscall.Errno); ok {
		err = os.NewSyscallError(op, errno)
	}
	return &net.OpError{Op: op, Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: err}
}
