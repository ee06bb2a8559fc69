package security

import (
	"io"
	"net"
	"sync"
	"testing"
)

// gateway passes connections on to a broker's listener, counts connections and can change the listener.
type gateway struct {
	listener net.Listener

	mtx   sync.Mutex
	to    string
	count int
	grown chan struct{} // closed and replaced with each connection
	open  map[net.Conn]struct{}
	done  bool
	all   sync.WaitGroup
}

func newGateway(t *testing.T, to string) *gateway {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gateway{listener: l, to: to, grown: make(chan struct{}), open: map[net.Conn]struct{}{}}
	g.all.Go(g.serve)
	t.Cleanup(g.close)
	return g
}

func (g *gateway) address() string { return g.listener.Addr().String() }

func (g *gateway) serve() {
	for {
		conn, err := g.listener.Accept()
		if err != nil {
			return
		}
		g.mtx.Lock()
		to := g.to
		g.count++
		close(g.grown)
		g.grown = make(chan struct{})
		g.mtx.Unlock()
		g.all.Go(func() { g.pass(conn, to) })
	}
}

// pass copies both ways. The end of one side ends that way only: a broker's last bytes, for example an alert about a
// certificate, reach the client also after a failed write to the broker.
func (g *gateway) pass(client net.Conn, to string) {
	broker, err := net.Dial("tcp", to)
	if err != nil {
		client.Close()
		return
	}
	for _, conn := range []net.Conn{client, broker} {
		if !g.track(conn) {
			client.Close()
			broker.Close()
			return
		}
		defer g.untrack(conn)
	}
	var both sync.WaitGroup
	both.Go(func() {
		_, _ = io.Copy(broker, client)
		_ = broker.(*net.TCPConn).CloseWrite()
	})
	both.Go(func() {
		_, _ = io.Copy(client, broker)
		_ = client.(*net.TCPConn).CloseWrite()
	})
	both.Wait()
	client.Close()
	broker.Close()
}

func (g *gateway) track(conn net.Conn) bool {
	g.mtx.Lock()
	defer g.mtx.Unlock()
	g.open[conn] = struct{}{}
	return !g.done
}

func (g *gateway) untrack(conn net.Conn) {
	g.mtx.Lock()
	defer g.mtx.Unlock()
	delete(g.open, conn)
}

// lead passes new connections on to another address.
func (g *gateway) lead(to string) {
	g.mtx.Lock()
	defer g.mtx.Unlock()
	g.to = to
}

// connections returns the number of connections, and a channel closed at the next connection.
func (g *gateway) connections() (int, <-chan struct{}) {
	g.mtx.Lock()
	defer g.mtx.Unlock()
	return g.count, g.grown
}

func (g *gateway) close() {
	g.listener.Close()
	g.mtx.Lock()
	g.done = true
	for conn := range g.open {
		conn.Close()
	}
	g.mtx.Unlock()
	g.all.Wait()
}
