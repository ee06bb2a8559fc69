package engine

import (
	"net"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// iceListener is a broker's listener with a switch for a freeze, as of a stopped process: nothing is read,
// and only the kernel accepts connections.
type iceListener struct {
	net.Listener
	mtx sync.Mutex
	ice chan struct{} // an open channel stops the reading; nil = never frozen
}

type iceConn struct {
	net.Conn
	listener *iceListener
}

func (l *iceListener) wait() {
	l.mtx.Lock()
	ice := l.ice
	l.mtx.Unlock()
	if ice != nil {
		<-ice
	}
}

func (l *iceListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	l.wait()
	return &iceConn{conn, l}, err
}

func (c *iceConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.listener.wait()
	return n, err
}

// freezing returns a broker, and a freeze until the test's end.
func freezing(t *testing.T, opts ...kfake.Opt) (b *broker, freeze func()) {
	l := &iceListener{}
	b = newBroker(t, append(opts, kfake.ListenFn(func(network, address string) (net.Listener, error) {
		inner, err := net.Listen(network, address)
		l.Listener = inner
		return l, err
	}))...)
	return b, func() {
		ice := make(chan struct{})
		t.Cleanup(func() { close(ice) })
		l.mtx.Lock()
		defer l.mtx.Unlock()
		l.ice = ice
	}
}

// TestStopIsLimited verifies a stop within a second for any state of the brokers, with work of every kind in
// flight: records, a group's member, a new topic.
func TestStopIsLimited(t *testing.T) {
	for name, test := range map[string]struct {
		options []string
		broker  func(t *testing.T) (address string, then func())
		works   bool // up to then
	}{
		"nobody listens": {broker: func(t *testing.T) (string, func()) { return refusedAddress(t), nil }},
		"silence":        {broker: func(t *testing.T) (string, func()) { return silentAddress(t), nil }},
		"half a handshake": {options: []string{"security_protocol = ssl"},
			broker: func(t *testing.T) (string, func()) { return silentAddress(t), nil }},
		"no answer to the login": {
			options: []string{"security_protocol = sasl_plaintext", "sasl_mechanisms = PLAIN", "sasl_username = u", "sasl_password = p"},
			broker: func(t *testing.T) (string, func()) {
				b, freeze := freezing(t, kfake.EnableSASL(), kfake.Superuser("PLAIN", "u", "p"))
				asked := make(chan struct{})
				once := sync.OnceFunc(func() { close(asked) })
				b.ControlKey(int16(kmsg.SASLAuthenticate), func(kmsg.Request) (kmsg.Response, error, bool) {
					b.KeepControl()
					freeze()
					once()
					return nil, nil, false
				})
				return b.address(), func() { <-asked }
			}},
		"frozen": {works: true, broker: func(t *testing.T) (string, func()) {
			b, freeze := freezing(t, kfake.SeedTopics(1, "t", "in"))
			return b.address(), freeze
		}},
	} {
		t.Run(name, func(t *testing.T) {
			address, then := test.broker(t)
			r := start(t, newLines())
			r.configure(consuming(address, test.options...))
			s := r.open("c")
			c := &counter{}
			id, err := r.subscribe("c", "in", c)
			if err != nil {
				t.Fatal(err)
			}
			values := listen(r.Engine, id, c)
			if test.works {
				s.put(numbered("in", "k", 0, 1)...)
				receive(t, values, 1)
				s.settled()
			}
			if then != nil && test.works {
				then()
			}
			s.put(numbered("t", "k", 0, 1000)...)
			if err := r.EnsureTopic("c", "new", 1, 1, false); err != nil {
				t.Fatal(err)
			}
			if then != nil && !test.works {
				then()
			}
			began := time.Now()
			r.Stop(500 * time.Millisecond)
			took := time.Since(began)
			if took > time.Second+busy {
				t.Errorf("it took %v", took)
			}
		})
	}
}
