// Package port gives tests addresses of their own: one at which nobody listens and nobody is going to, and ones for brokers that
// stop and come back.
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

// Reserved is a TCP port of 127.0.0.1 at which connections are refused. It is nobody else's while it is reserved. One that was
// only free a moment ago may be the next listener's, another test's broker for example, or become a client's own end when it
// calls there. All methods may be called from any goroutine.
type Reserved struct {
	port int

	mtx sync.Mutex
	fd  int // a socket that is bound and does not listen; -1 = it is not reserved any more
}

// Reserve finds one. Close gives it up.
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
	return net.FileListener(f) // which has a descriptor of its own
}

// Close gives the port up, unless it is a listener's. Calling it again does nothing.
func (r *Reserved) Close() {
	r.mtx.Lock()
	defer r.mtx.Unlock()
	if r.fd >= 0 {
		_ = syscall.Close(r.fd)
		r.fd = -1
	}
}

// Refused is the address of one that is reserved until the test's end.
func Refused(t testing.TB) string {
	t.Helper()
	r, err := Reserve()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r.Address()
}

// given are the ports that Free has given in this process.
var given struct {
	sync.Mutex
	ports map[int]bool
}

// Free finds TCP ports of 127.0.0.1 that nobody listened on a moment ago, and that it has not given before in this process. They
// are below those that the kernel gives to listeners and outgoing connections that ask for none (Linux: from 32768 on,
// ip_local_port_range), so that a broker which was stopped finds its own still free when it comes back: others start meanwhile,
// and a client that calls a stopped one again and again could get its port for its own end.
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
