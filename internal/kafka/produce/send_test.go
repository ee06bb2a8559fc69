package produce

import (
	"net"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"reskafka/test/kafkatest"
)

// deafListener returns connections that read nothing while mtx is locked.
type deafListener struct {
	net.Listener
	mtx *sync.Mutex
}

func (l deafListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return deafConn{c, l.mtx}, err
}

type deafConn struct {
	net.Conn
	mtx *sync.Mutex
}

func (c deafConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b[:min(len(b), 4096)])
	c.mtx.Lock()
	defer c.mtx.Unlock()
	return n, err
}

// TestSend_BrokerDoesNotRead_Returns guards the outbox, whose deadlines wait for Send: 64 MiB, more than any
// buffer of a socket, enter while the broker reads nothing. The broker reads on after the last Send only.
func TestSend_BrokerDoesNotRead_Returns(t *testing.T) {
	var deaf sync.Mutex
	cluster := kafkatest.Broker(t, kfake.SeedTopics(1, "t"), kfake.ListenFn(func(network, address string) (net.Listener, error) {
		l, err := net.Listen(network, address)
		return deafListener{l, &deaf}, err
	}))
	c := kafkatest.Connection(cluster.ListenAddrs()...)
	c.RequestMaxBytes, c.BatchSize, c.MessageMaxBytes, c.SocketTimeout = 100<<20, 50<<20, 50<<20, time.Minute
	p := open(t, c, nil, nil)
	kafkatest.SendAll(t, p, kafkatest.Numbered("t", 0, 1)...)
	deaf.Lock()
	listens := sync.OnceFunc(deaf.Unlock)
	defer listens()
	const n = 16
	o := kafkatest.ExpectOutcomes(t, n)
	returned := make(chan struct{})
	go func() {
		defer close(returned)
		for range n {
			records := kafkatest.Numbered("t", 0, 1)
			records[0].Value = make([]byte, 4<<20)
			p.Send(records, time.Time{}, o.Add)
		}
	}()
	select {
	case <-returned:
	case <-time.After(kafkatest.Patience):
		t.Error("Send waits for the broker")
	}
	listens()
	o.Wait()
}
