package client

import (
	"io"
	"net"
	"os"
	"syscall"
	"unsafe"
)

// directConn reads and writes a socket by system calls hidden from Go's scheduler. Go's sockets never block,
// so neither do the calls. A visible system call wakes the scheduler's monitor thread in an idle process,
// once for each of a few hundred requests per second. One goroutine at a time may read, and one write.
type directConn struct {
	*net.TCPConn
	raw      syscall.RawConn
	in, out  transfer
	receive  func(fd uintptr) bool
	transmit func(fd uintptr) bool
}

// transfer is one read or write.
type transfer struct {
	p     []byte
	n     int
	errno syscall.Errno
}

// direct returns a connection over the socket of a TCP connection, or conn.
func direct(conn net.Conn) net.Conn {
	tcp, ok := conn.(*net.TCPConn)
	if !ok || !hidden {
		return conn
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return conn
	}
	c := &directConn{TCPConn: tcp, raw: raw}
	c.receive = func(fd uintptr) bool { return c.in.do(syscall.SYS_READ, fd) }
	c.transmit = func(fd uintptr) bool { return c.out.do(syscall.SYS_WRITE, fd) }
	return c
}

// plainTCP returns the TCP connection below a connection without TLS, or nil.
func plainTCP(conn net.Conn) *net.TCPConn {
	switch c := conn.(type) {
	case *net.TCPConn:
		return c
	case *directConn:
		return c.TCPConn
	}
	return nil
}

// do makes one system call with the remaining bytes, and reports whether the transfer is over, as opposed to
// a socket in wait.
func (t *transfer) do(call, fd uintptr) bool {
	for {
		rest := t.p[t.n:]
		n, _, errno := syscall.RawSyscall(call, fd, uintptr(unsafe.Pointer(unsafe.SliceData(rest))), uintptr(len(rest)))
		switch errno {
		case 0:
			t.n += int(n)
			if call == syscall.SYS_READ || t.n == len(t.p) {
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

// Read implements net.Conn.
func (c *directConn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	c.in = transfer{p: p}
	err := c.raw.Read(c.receive)
	n, errno := c.in.n, c.in.errno
	c.in = transfer{}
	switch {
	case n > 0:
		return n, nil
	case err != nil:
		return 0, err
	case errno != 0:
		return 0, c.failure("read", errno)
	}
	return 0, io.EOF
}

// Write implements net.Conn. The scheduler is told of long writes, which keep a processor for a while.
func (c *directConn) Write(p []byte) (int, error) {
	if len(p) > InlineBytes {
		return c.TCPConn.Write(p)
	}
	c.out = transfer{p: p}
	err := c.raw.Write(c.transmit)
	n, errno := c.out.n, c.out.errno
	c.out = transfer{}
	if err == nil && errno != 0 {
		err = c.failure("write", errno)
	}
	return n, err
}

// failure returns an error as the standard library's connections do.
func (c *directConn) failure(op string, errno syscall.Errno) error {
	return &net.OpError{Op: op, Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: os.NewSyscallError(op, errno)}
}
