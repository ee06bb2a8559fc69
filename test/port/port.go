// Package port provides addresses for tests: an address without a listener, now and later, and addresses for
// brokers with restarts.
package port

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
)

// Reserved is a TCP port of 127.0.0.1 that refuses connections. No other process can use the port during the
// reservation. A merely free port could become another listener's, for example another test's broker, or the
// local end of a client's connection. Methods are safe for concurrent use.
type Reserved struct {
	port int

	mtx sync.Mutex
	fd  int // a bound socket without a listener; -1 = no longer reserved
}

// Reserve reserves a port until Close.
func Reserve() (*Reserved, error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		_ = syscall.Close(fd)
		return nil, os.NewSyscallError("bind", err)
	}
	name, err := syscall.Getsockname(fd)
	at, ok := name.(*syscall.SockaddrInet4)
	if err != nil || !ok {
		_ = syscall.Close(fd)
		return nil, fmt.Errorf("asking for the port: %w", os.NewSyscallError("getsockname", err))
	}
	return &Reserved{port: at.Port, fd: fd}, nil
}

// Address is host:port.
func (r *Reserved) Address() string { return fmt.Sprintf("127.0.0.1:%d", r.port) }

// Listen has connections accepted from now on. The port is the listener's then.
func (r *Reserved) Listen() (net.Listener, error) {
	r.mtx.Lock()
	defer r.mtx.Unlock()
	if r.fd < 0 {
		return nil, net.ErrClosed
	}
	if err := syscall.Listen(r.fd, syscall.SOMAXCONN); err != nil {
		return nil, os.NewSyscallError("listen", err)
	}
	f := os.NewFile(uintptr(r.fd), r.Address())
	r.fd = -1
	defer f.Close()
	return net.FileListener(f) // with a separate descriptor
}

// Close releases the port, unless a listener has it. Idempotent.
func (r *Reserved) Close() {
	r.mtx.Lock()
	defer r.mtx.Unlock()
	if r.fd >= 0 {
		_ = syscall.Close(r.fd)
		r.fd = -1
	}
}

// Refused returns the address of a port reserved until the test's end.
func Refused(t testing.TB) string {
	t.Helper()
	r, err := Reserve()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r.Address()
}

// given has the ports returned by Free in this process.
var given struct {
	sync.Mutex
	ports map[int]bool
}

// Free returns TCP ports of 127.0.0.1 without a listener, not returned before in this process. The ports are
// below the kernel's range for unspecified ports (Linux: from 32768 on, ip_local_port_range). A stopped
// broker therefore finds the old port free at a restart: other brokers start meanwhile, and a client in a
// retry loop could get the port as a local port.
func Free(count int) ([]int, error) {
	const lowest, highest, attempts = 15000, 32767, 1000
	given.Lock()
	defer given.Unlock()
	if given.ports == nil {
		given.ports = map[int]bool{}
	}
	var ports []int
	for range attempts {
		if len(ports) == count {
			return ports, nil
		}
		port := lowest + rand.IntN(highest-lowest+1)
		if given.ports[port] {
			continue
		}
		listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		_ = listener.Close()
		given.ports[port] = true
		ports = append(ports, port)
	}
	return nil, fmt.Errorf("finding %d free ports between %d and %d: too many are taken", count, lowest, highest)
}
