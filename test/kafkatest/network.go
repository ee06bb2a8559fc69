package kafkatest

import (
	"encoding/binary"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"

	"reskafka/test/port"
)

// SilentServer accepts connections, tells accepted of the first, and never says a word.
func SilentServer(t *testing.T) (addr string, accepted <-chan struct{}) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var conns []net.Conn
	first, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if conns = append(conns, conn); len(conns) == 1 {
				close(first)
			}
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
		for _, conn := range conns {
			conn.Close()
		}
	})
	return l.Addr().String(), first
}

// RefusedAddress returns an address without a listener.
func RefusedAddress(t *testing.T) string { return port.Refused(t) }

// Door is a broker's listener that can be shut: connections are then accepted, and closed at the first
// request, like a load balancer without a broker.
type Door struct {
	net.Listener
	mtx   sync.Mutex
	conns []net.Conn
	shut  bool
	Tries chan struct{} // an element for every connection while shut
}

func (d *Door) Accept() (net.Conn, error) {
	for {
		conn, err := d.Listener.Accept()
		if err != nil {
			return nil, err
		}
		d.mtx.Lock()
		if !d.shut {
			d.conns = append(d.conns, conn)
			d.mtx.Unlock()
			return conn, nil
		}
		d.mtx.Unlock()
		go func() {
			// Closing with something unread would be a reset, which is another error.
			var size [4]byte
			if _, err := io.ReadFull(conn, size[:]); err == nil {
				io.CopyN(io.Discard, conn, int64(binary.BigEndian.Uint32(size[:])))
			}
			conn.Close()
			d.Count()
		}()
	}
}

func (d *Door) Count() {
	select {
	case d.Tries <- struct{}{}:
	default:
	}
}

// Cut closes all connections. With shut set, the door is shut from then on; otherwise its state stays.
func (d *Door) Cut(shut bool) {
	d.mtx.Lock()
	defer d.mtx.Unlock()
	d.shut = shut
	for _, conn := range d.conns {
		conn.Close()
	}
	d.conns = nil
}

func (d *Door) Open() {
	d.mtx.Lock()
	defer d.mtx.Unlock()
	d.shut = false
}

// NewDoor returns a cluster and its Door.
func NewDoor(t *testing.T, opts ...kfake.Opt) (*kfake.Cluster, *Door) {
	d := &Door{Tries: make(chan struct{}, 100)}
	return Broker(t, append(opts, kfake.ListenFn(func(network, address string) (net.Listener, error) {
		l, err := net.Listen(network, address)
		d.Listener = l
		return d, err
	}))...), d
}

// lossy is a cluster's network with lost answers: requests arrive, but answers do not.
type lossy struct {
	mtx   sync.Mutex
	conns []net.Conn
	mute  bool
	Lost  chan struct{} // an element for every lost answer
}

type lossyListener struct {
	net.Listener
	network *lossy
}

type lossyConn struct {
	net.Conn
	network *lossy
}

func NewLossyBroker(t *testing.T, opts ...kfake.Opt) (*kfake.Cluster, *lossy) {
	l := &lossy{Lost: make(chan struct{}, 1000)}
	return Broker(t, append(opts, kfake.ListenFn(func(network, address string) (net.Listener, error) {
		inner, err := net.Listen(network, address)
		return &lossyListener{inner, l}, err
	}))...), l
}

func (l *lossyListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.network.mtx.Lock()
	defer l.network.mtx.Unlock()
	l.network.conns = append(l.network.conns, conn)
	return &lossyConn{conn, l.network}, nil
}

func (c *lossyConn) Write(p []byte) (int, error) {
	c.network.mtx.Lock()
	mute := c.network.mute
	c.network.mtx.Unlock()
	if !mute {
		return c.Conn.Write(p)
	}
	select {
	case c.network.Lost <- struct{}{}:
	default:
	}
	return len(p), nil
}

func (l *lossy) Lose(on bool) {
	l.mtx.Lock()
	defer l.mtx.Unlock()
	l.mute = on
}

// Cut ends every connection there is.
func (l *lossy) Cut() {
	l.mtx.Lock()
	defer l.mtx.Unlock()
	for _, conn := range l.conns {
		conn.Close()
	}
	l.conns = nil
}
