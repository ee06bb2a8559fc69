package faults

import (
	"net"
	"sync"
)

// proxy is a network between Asterisk and a broker. A cut proxy forwards nothing, closes nothing, and accepts
// connections as before, like a network with total packet loss. Bytes in flight arrive late, after the
// repair, as TCP's retransmissions do.
type proxy struct {
	listener net.Listener
	target   string

	mu       sync.Mutex
	mended   *sync.Cond
	cut      [2]bool // by direction
	closed   bool
	open     map[net.Conn]bool
	handlers sync.WaitGroup
}

// The directions of a proxy.
const (
	toBroker = iota
	toAsterisk
)

// newProxy listens at a free port of 127.0.0.1. aim sets the target.
func newProxy() (*proxy, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{listener: listener, open: map[net.Conn]bool{}}
	p.mended = sync.NewCond(&p.mu)
	p.handlers.Add(1)
	go p.accept()
	return p, nil
}

func (p *proxy) address() string { return p.listener.Addr().String() }

// aim says where to connect to, host:port.
func (p *proxy) aim(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = target
}

// set cuts the directions with true and restores the others.
func (p *proxy) set(broker, asterisk bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = [2]bool{broker, asterisk}
	p.mended.Broadcast()
}

// pass waits until a direction is not cut; false = the proxy is closed.
func (p *proxy) pass(direction int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.cut[direction] && !p.closed {
		p.mended.Wait()
	}
	return !p.closed
}

// keep closes a connection with the proxy; false = the proxy is closed already.
func (p *proxy) keep(conn net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		_ = conn.Close()
		return false
	}
	p.open[conn] = true
	return true
}

func (p *proxy) drop(conn net.Conn) {
	p.mu.Lock()
	delete(p.open, conn)
	p.mu.Unlock()
	_ = conn.Close()
}

func (p *proxy) accept() {
	defer p.handlers.Done()
	for {
		conn, err := p.listener.Accept()
		if err != nil {
			return
		}
		if p.keep(conn) {
			p.handlers.Add(1)
			go p.handle(conn)
		}
	}
}

func (p *proxy) handle(asterisk net.Conn) {
	defer p.handlers.Done()
	defer p.drop(asterisk)
	if !p.pass(toBroker) || !p.pass(toAsterisk) { // a handshake takes both
		return
	}
	p.mu.Lock()
	target := p.target
	p.mu.Unlock()
	broker, err := net.Dial("tcp", target)
	if err != nil || !p.keep(broker) {
		return
	}
	defer p.drop(broker)
	p.handlers.Add(1)
	ended := make(chan struct{})
	go func() {
		defer p.handlers.Done()
		defer close(ended)
		p.pump(toAsterisk, broker, asterisk)
	}()
	p.pump(toBroker, asterisk, broker)
	<-ended
}

// pump carries bytes, and then the end of the connection, in one direction.
func (p *proxy) pump(direction int, from, to net.Conn) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if !p.pass(direction) {
			return
		}
		if n > 0 {
			if _, err := to.Write(buffer[:n]); err != nil {
				_ = from.Close()
				return
			}
		}
		if err != nil {
			_ = to.(*net.TCPConn).CloseWrite()
			return
		}
	}
}

func (p *proxy) close() {
	p.mu.Lock()
	p.closed = true
	_ = p.listener.Close()
	for conn := range p.open {
		_ = conn.Close()
	}
	p.mended.Broadcast()
	p.mu.Unlock()
	p.handlers.Wait()
}
