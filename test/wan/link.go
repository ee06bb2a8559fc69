// Package wan provides a link of a long distance: a proxy that delays every byte for a fixed time in each
// direction, without a limit of throughput. A client reaches a broker through the link if the broker
// advertises the link's address.
//
// The link is ideal: no loss, no slow start, no shared bandwidth. Its kernel sockets are local, so a
// connection opens without the delay; its first bytes have the delay.
package wan

import (
	"errors"
	"net"
	"sync"
	"time"
)

const (
	// window is the limit of bytes under way in one direction of a connection. With 50 ms under way, 64 MiB
	// are 1.3 GB/s, which is more than a broker reads.
	window = 64 << 20
	// chunk is the size of a read. Larger reads make no difference in throughput.
	chunk = 256 << 10
)

// Link accepts connections and passes them to a target. Methods are safe for concurrent use.
type Link struct {
	oneWay   time.Duration
	listener net.Listener

	ended  chan struct{} // closed by Close
	mtx    sync.Mutex
	target string
	closed bool
	conns  map[net.Conn]struct{}
	all    sync.WaitGroup
}

// New returns a link at a free port of 127.0.0.1, with a delay for each direction. Use sets the target.
func New(oneWay time.Duration) (*Link, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	return On(l, oneWay), nil
}

// On returns a link behind a listener. The link takes ownership of the listener.
func On(listener net.Listener, oneWay time.Duration) *Link {
	l := &Link{oneWay: oneWay, listener: listener, ended: make(chan struct{}), conns: map[net.Conn]struct{}{}}
	l.all.Go(l.serve)
	return l
}

// Address is the link's near end, host:port.
func (l *Link) Address() string { return l.listener.Addr().String() }

// Use sets the target of new connections, host:port. Connections without a target are closed.
func (l *Link) Use(target string) {
	l.mtx.Lock()
	defer l.mtx.Unlock()
	l.target = target
}

// Cut ends all connections. Bytes under way are lost, and new connections work.
func (l *Link) Cut() {
	l.mtx.Lock()
	defer l.mtx.Unlock()
	for conn := range l.conns {
		_ = conn.Close() // remove closes it again, without effect
	}
}

// Close ends the link and its connections, and waits for their goroutines. Bytes under way are lost. A second
// call panics.
func (l *Link) Close() error {
	err := l.listener.Close()
	l.mtx.Lock()
	l.closed = true
	close(l.ended)
	for conn := range l.conns {
		err = errors.Join(err, conn.Close())
	}
	l.mtx.Unlock()
	l.all.Wait()
	return err
}

func (l *Link) serve() {
	for near, err := l.listener.Accept(); err == nil; near, err = l.listener.Accept() {
		l.mtx.Lock()
		target := l.target
		l.mtx.Unlock()
		far, err := net.Dial("tcp", target)
		if err != nil || !l.add(near, far) {
			_ = near.Close()
			continue
		}
		l.all.Go(func() {
			defer l.remove(near, far)
			var both sync.WaitGroup
			both.Go(func() { l.pass(far, near) })
			both.Go(func() { l.pass(near, far) })
			both.Wait()
		})
	}
}

// add registers a pair of connections. It reports false, and closes far, after the end of the link.
func (l *Link) add(near, far net.Conn) bool {
	l.mtx.Lock()
	defer l.mtx.Unlock()
	if l.closed {
		_ = far.Close()
		return false
	}
	l.conns[near], l.conns[far] = struct{}{}, struct{}{}
	return true
}

func (l *Link) remove(near, far net.Conn) {
	l.mtx.Lock()
	defer l.mtx.Unlock()
	for _, conn := range []net.Conn{near, far} {
		if _, open := l.conns[conn]; open {
			delete(l.conns, conn)
			_ = conn.Close()
		}
	}
}

// pass carries one direction until its end, which has the delay too.
func (l *Link) pass(to, from net.Conn) {
	q := newQueue()
	var writer sync.WaitGroup
	writer.Go(func() { l.write(to, from, q) })
	buffer := make([]byte, chunk)
	for {
		n, err := from.Read(buffer)
		due := time.Now().Add(l.oneWay)
		if n > 0 && !q.put(buffer[:n], due) {
			break
		}
		if err != nil {
			q.end(due)
			break
		}
	}
	writer.Wait()
}

// write passes packets on when they are due.
func (l *Link) write(to, from net.Conn, q *queue) {
	for {
		bytes, due, more := q.take()
		if wait := time.Until(due); wait > 0 {
			select {
			case <-time.After(wait):
			case <-l.ended:
			}
		}
		if !more {
			break
		}
		if _, err := to.Write(bytes); err != nil {
			q.abandon()
			_ = from.Close()
			return
		}
		q.done(len(bytes))
	}
	if half, ok := to.(*net.TCPConn); ok {
		_ = half.CloseWrite()
	}
}
