package options

import (
	"net"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/internal/engine"
	"reskafka/test/wire"
	"reskafka/test/world"
)

var networkRows = []Row{
	{
		Option: "enabled", Value: "no", General: true,
		Effect: "every request for a producer fails", Where: "behaviour", Beyond: "test/scenario TestConsole",
		holds: func(w *World) error {
			if err := w.configure(); err != nil {
				return err
			}
			var gate engine.Gate
			if err := w.Engine.OpenProducer("tested", 1, &gate); err != engine.ErrDisabled {
				return unseenf("opening a producer: %v", err)
			}
			return nil
		},
	},
	{
		Option: "type", Value: "connection",
		Effect: "the section is a working connection; a file without it is refused", Where: "behaviour",
		holds: func(w *World) error { return delivers(w) },
	},
	{
		Option: "brokers", Value: "127.0.0.1:1, PLAINTEXT://$brokers", Instead: []string{"brokers = $elsewhere"},
		Why:    "the default address may belong to a real broker",
		Effect: "the reachable broker of the list gets the record", Where: "on the wire",
		holds: func(w *World) error {
			elsewhere := newServer(w, (*server).closeAtOnce)
			w.vars["elsewhere"] = elsewhere.address
			s, err := w.produce("one")
			if err != nil {
				return err
			}
			if err := w.Until("a broker was called", func() bool {
				return len(elsewhere.times()) > 0 || s.HeldFrames.Load() == 0
			}); err != nil {
				return err
			}
			if len(elsewhere.times()) > 0 {
				return unseenf("another broker was called")
			}
			_, err = w.request("tested", kmsg.Produce)
			return err
		},
	},
	{
		Option: "client_id", Value: "pbx-7",
		Effect: "the header of each request has the name", Where: "on the wire", Apache: true,
		Logged: `"clientId":"pbx-7"`,
		holds: func(w *World) error {
			if _, err := w.delivered("one"); err != nil {
				return err
			}
			for _, r := range w.Wire.Seen(func(wire.Request) bool { return true }) {
				if r.Client != "pbx-7" {
					return unseenf("%s of client %q", kmsg.Key(r.Key()).Name(), r.Client)
				}
			}
			return nil
		},
	},
	{
		Option: "request_timeout_ms", Value: "4321",
		Effect: "the timeout field of Produce and CreateTopics requests", Where: "on the wire", Apache: true,
		Logged: `"requestApiKeyName":"PRODUCE".*"timeoutMs":4321`,
		holds: func(w *World) error {
			if _, err := w.delivered("one"); err != nil {
				return err
			}
			if err := w.Engine.EnsureTopic("tested", w.Topic+"-2", 1, 1, true); err != nil {
				return err
			}
			produce, err := w.request("tested", kmsg.Produce)
			if err != nil {
				return err
			}
			create, err := w.request("tested", kmsg.CreateTopics)
			if err != nil {
				return err
			}
			got, also := produce.Request.(*kmsg.ProduceRequest).TimeoutMillis, create.Request.(*kmsg.CreateTopicsRequest).TimeoutMillis
			if got != 4321 || also != 4321 {
				return unseenf("%d ms in Produce, %d ms in CreateTopics", got, also)
			}
			return nil
		},
	},
	{
		Option: "message_timeout_ms", Value: "1000",
		Effect: "an unacknowledged record is dropped earlier than with 4000", Where: "behaviour",
		Beyond: "internal/outbox expiry_test.go",
		holds: func(w *World) error {
			release := w.Wire.Hold(kmsg.Produce)
			defer release()
			return w.sooner("dropped, message timeout", "message_timeout_ms = 4000")
		},
	},
	{
		Option: "socket_timeout_ms", Value: "1000",
		Effect: "a silent connection is closed earlier than with 4000", Where: "on the wire",
		Beyond: "internal/kafka/client TestSocketTimeout",
		holds: func(w *World) error {
			s := newServer(w, (*server).waitForTheirEnd)
			w.Brokers = s.address
			if err := w.configure(section("other", "socket_timeout_ms = 4000")); err != nil {
				return err
			}
			for _, name := range []string{"other", "tested"} {
				producer, err := w.open(name)
				if err != nil {
					return err
				}
				producer.Put("one")
			}
			first, err := world.Await(w.World, s.ended)
			if err == nil && first != "tested" {
				return unseenf("the connection of %s is closed first", first)
			}
			return err
		},
	},
	{
		Option: "connections_max_idle_ms", Value: "1000",
		Effect: "a record after 1.5 idle seconds uses a new connection", Where: "on the wire",
		Beyond: "test/brokers rows_connections_test.go",
		holds: func(w *World) error {
			producer, err := w.delivered("one")
			if err != nil {
				return err
			}
			opened := func() int {
				return len(w.Wire.Seen(func(r wire.Request) bool { return kmsg.Key(r.Key()) == kmsg.ApiVersions }))
			}
			before := opened()
			time.Sleep(1500 * time.Millisecond)
			producer.Put("two")
			if _, err := producer.Settled(); err != nil {
				return err
			}
			if opened() == before {
				return unseenf("it goes by the same connection")
			}
			return nil
		},
	},
	{
		Option: "reconnect_backoff_ms", Value: "1000",
		Effect: "after a close by the broker, the next attempt is at least 750 ms later, jitter included", Where: "on the wire",
		Beyond: "internal/kafka/client TestReconnectTurns",
		holds: func(w *World) error {
			const least, calls = 740 * time.Millisecond, 3
			s := newServer(w, (*server).closeAtOnce)
			w.Brokers = s.address
			if _, err := w.produce("one"); err != nil {
				return err
			}
			if err := w.Until("the broker was called", func() bool { return len(s.times()) >= calls }); err != nil {
				return err
			}
			at := s.times()
			for i := 1; i < calls; i++ {
				if gap := at[i].Sub(at[i-1]); gap < least {
					return unseenf("called again after %v", gap.Round(time.Millisecond))
				}
			}
			return nil
		},
	},
	{
		Option: "reconnect_backoff_max_ms", Value: "200",
		Effect: "ten attempts to a closing broker take no longer than six attempts with 10000",
		Where:  "on the wire", Beyond: "internal/kafka/client TestBackoff",
		holds: func(w *World) error {
			ours, other := newServer(w, (*server).closeAtOnce), newServer(w, (*server).closeAtOnce)
			w.Brokers = ours.address
			w.vars["other"] = other.address
			if err := w.configure("[other]", "type = connection", "brokers = $other", "reconnect_backoff_max_ms = 10000"); err != nil {
				return err
			}
			for _, name := range []string{"other", "tested"} {
				producer, err := w.open(name)
				if err != nil {
					return err
				}
				producer.Put("one")
			}
			if err := w.Until("the other broker was called six times", func() bool { return len(other.times()) >= 6 }); err != nil {
				return err
			}
			if n := len(ours.times()); n < 10 {
				return unseenf("called %d times", n)
			}
			return nil
		},
	},
}

// delivers reports whether a record reaches the broker.
func delivers(w *World) error {
	s, err := w.produce("one")
	if err != nil {
		return err
	}
	if err := s.delivered(); err != nil {
		return err
	}
	if n, err := s.Settled(); err != nil || n != 1 {
		return unseenf("%d records acknowledged, %v: %v", n, err, w.Log.With("error: "))
	}
	return nil
}

// sooner reports whether "tested" has a line with that text in the log earlier than another connection; both
// produce one record.
func (w *World) sooner(text, other string) error {
	if err := w.configure(section("other", other)); err != nil {
		return err
	}
	for _, name := range []string{"tested", "other"} {
		s, err := w.open(name)
		if err != nil {
			return err
		}
		s.Put("one")
	}
	line, err := w.Log.Await(w.Ctx, text)
	if err != nil {
		return err
	}
	if len(w.Log.With(text, "'tested'")) == 0 {
		return unseenf("first: %s", line)
	}
	return nil
}

// server is a broker without answers.
type server struct {
	address string
	ended   chan string // client ids, in the order of their closed connections

	listener net.Listener
	mtx      sync.Mutex
	called   []time.Time
	conns    []net.Conn
	all      sync.WaitGroup
}

// newServer starts a server with serve for its connections, until the test's end.
func newServer(w *World, serve func(*server)) *server {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.Fatal(err)
	}
	s := &server{address: l.Addr().String(), ended: make(chan string, 100), listener: l}
	s.all.Go(func() { serve(s) })
	w.Cleanup(func() {
		l.Close()
		s.mtx.Lock()
		for _, conn := range s.conns {
			conn.Close()
		}
		s.mtx.Unlock()
		s.all.Wait()
	})
	return s
}

// times is when connections came.
func (s *server) times() []time.Time {
	s.mtx.Lock()
	defer s.mtx.Unlock()
	return append([]time.Time{}, s.called...)
}

// closeAtOnce accepts and closes connections.
func (s *server) closeAtOnce() {
	for conn, err := s.listener.Accept(); err == nil; conn, err = s.listener.Accept() {
		s.mtx.Lock()
		s.called = append(s.called, time.Now())
		s.mtx.Unlock()
		conn.Close()
	}
}

// waitForTheirEnd accepts connections and requests, and notes each client's end.
func (s *server) waitForTheirEnd() {
	for conn, err := s.listener.Accept(); err == nil; conn, err = s.listener.Accept() {
		s.mtx.Lock()
		s.conns = append(s.conns, conn)
		s.mtx.Unlock()
		s.all.Go(func() {
			requests, buffer := wire.New(), make([]byte, 4096)
			watched := requests.Watch(conn)
			for err := error(nil); err == nil; {
				_, err = watched.Read(buffer)
			}
			if seen := requests.Seen(func(wire.Request) bool { return true }); len(seen) > 0 {
				s.ended <- seen[0].Client
			}
		})
	}
}
