package serve

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"reskafka/internal/boundary"
	"reskafka/internal/config/configtest"
	"reskafka/internal/frame/frametest"
	"reskafka/internal/ingest"
	"reskafka/internal/serve/servetest"
	"reskafka/test/port"
)

// site is a server under test with a module as its peer.
type site struct {
	*servetest.Module
	memory  *servetest.Memory
	server  *Server
	t       testing.TB
	signals chan os.Signal
	done    chan error // result of Run
	dir     string     // for spools
}

// start starts a server before the module's hello.
func start(t testing.TB) *site {
	t.Helper()
	ours, theirs := servetest.Sockets(t)
	s := &site{
		t: t, memory: servetest.NewMemory(t), server: New(boundary.NewConn(theirs, boundary.EngineSide)),
		signals: make(chan os.Signal, 1), done: make(chan error, 1), dir: t.TempDir(),
	}
	control, slabs, wake := s.memory.Duplicates()
	in, err := ingest.Open(control, slabs, wake, s.server.Log())
	if err != nil {
		t.Fatal(err)
	}
	s.server.exit = func(status int) { t.Errorf("the process ends with status %d", status) }
	s.Module = servetest.NewModule(t, ours)
	go func() { s.done <- s.server.Run(in, s.signals) }()
	t.Cleanup(func() {
		_ = s.Conn.Close()
		s.ended()
	})
	return s
}

// greeted starts a server after an answered hello.
func greeted(t testing.TB) *site {
	t.Helper()
	s := start(t)
	if a := s.Hello(s.dir); a.Result != boundary.ResultOK {
		t.Fatalf("hello is answered with %d", a.Result)
	}
	return s
}

// ended waits for the return of Run, and returns its error.
func (s *site) ended() error {
	s.t.Helper()
	select {
	case err := <-s.done:
		s.done <- err
		return err
	case <-time.After(servetest.Patience):
		s.t.Fatalf("the server does not end: %q", s.With())
		return nil
	}
}

// section is a connection of kafka.conf.
func section(name, brokers string, options ...string) string {
	lines := []string{"[" + name + "]", "type = connection", "brokers = " + brokers, "reconnect_backoff_ms = 20",
		"reconnect_backoff_max_ms = 100", "auto_offset_reset = earliest"}
	return strings.Join(append(lines, options...), "\n") + "\n"
}

// entries are the lines of a configuration file.
func entriesOf(text string) []boundary.Entry {
	var list []boundary.Entry
	for _, e := range configtest.Read(text) {
		list = append(list, boundary.Entry{File: e.File, Line: int32(e.Line), Section: e.Section, Name: e.Name, Value: e.Value, Inherited: e.Inherited})
	}
	return list
}

// configure puts a configuration in force, which must be right.
func (s *site) configure(text ...string) []boundary.Connection {
	s.t.Helper()
	var a boundary.ConfigureAnswer
	s.Ask(boundary.ConfigureKind, &boundary.ConfigureRequest{Entries: entriesOf(strings.Join(text, ""))}, &a)
	if a.Result != boundary.ResultOK {
		s.t.Fatalf("configure: %d: %q", a.Result, s.With())
	}
	return a.Connections
}

// open opens a producer, which must be possible.
func (s *site) open(name string, id uint64) {
	s.t.Helper()
	var a boundary.ProducerOpenAnswer
	s.Ask(boundary.ProducerOpenKind, &boundary.ProducerOpenRequest{Name: name, ID: id}, &a)
	if a.Result != boundary.ResultOK || s.memory.Gate(id, 0).Load() != 1 {
		s.t.Fatalf("producer_open: %d, open %d: %q", a.Result, s.memory.Gate(id, 0).Load(), s.With())
	}
}

// numbered returns records with the values from, …, to-1.
func numbered(topic string, from, to int) []frametest.Frame {
	var frames []frametest.Frame
	for i := from; i < to; i++ {
		frames = append(frames, frametest.Frame{AcceptedNS: time.Now().UnixNano(), Topic: topic, Key: []byte("k"), Value: fmt.Appendf(nil, "%d", i)})
	}
	return frames
}

// broker returns a cluster of one broker.
func broker(t testing.TB, topics ...string) *kfake.Cluster {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, topics...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// values reads n records of a topic from the beginning.
func values(t testing.TB, c *kfake.Cluster, topic string, n int) []string {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.ConsumeTopics(topic), kgo.DisableClientMetrics(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(t.Context(), servetest.Patience)
	defer cancel()
	var all []string
	for len(all) < n {
		fetches := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("%d of %d records of %s", len(all), n, topic)
		}
		fetches.EachRecord(func(r *kgo.Record) { all = append(all, string(r.Value)) })
	}
	return all
}

func counting(from, to int) []string {
	var all []string
	for i := from; i < to; i++ {
		all = append(all, fmt.Sprint(i))
	}
	return all
}

// TestServer_OtherBuild_Refused verifies that the module can recognize an engine of another build, and that
// the engine serves nothing then.
func TestServer_OtherBuild_Refused(t *testing.T) {
	for name, q := range map[string]*boundary.HelloRequest{
		"boundary": {ABI: boundary.ABIVersion + 1, Build: boundary.Build},
		"build":    {ABI: boundary.ABIVersion, Build: "another"},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			var a boundary.HelloAnswer
			s.Ask(boundary.HelloKind, q, &a)
			if a.Result != boundary.ResultEINVAL || a.ABI != boundary.ABIVersion || a.Build != boundary.Build {
				t.Errorf("the answer is %+v", a)
			}
			var version *boundary.VersionError
			if err := s.ended(); !errors.As(err, &version) {
				t.Errorf("the server ends with %v", err)
			}
			s.Line("error: ", "must be of one build")
		})
	}
}

// TestServer_Damage_Ends verifies that impossible messages only end the engine, with the reason in the log.
func TestServer_Damage_Ends(t *testing.T) {
	encoded := func(kind boundary.Kind, number uint64, q boundary.Body) []byte {
		var w boundary.Writer
		w.Begin(kind, false, number)
		if q != nil {
			q.Put(&w)
		}
		bytes, err := w.Finish()
		if err != nil {
			t.Fatal(err)
		}
		return bytes
	}
	answer := encoded(boundary.CommitKind, 5, &boundary.CommitRequest{})
	answer[6] = 1
	short := encoded(boundary.SubscribeKind, 5, &boundary.SubscribeRequest{Name: "name", Topics: "topics"})
	short[16] = 200
	for name, c := range map[string]struct {
		bytes    []byte
		greeting bool
		want     string
	}{
		"no hello":           {encoded(boundary.PingKind, 1, nil), false, "ping where hello is expected"},
		"a second hello":     {encoded(boundary.HelloKind, 9, &boundary.HelloRequest{}), true, "hello comes twice"},
		"an unknown message": {[]byte{12, 0, 0, 0, 99, 9, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0}, true, "there is no message"},
		"an answer":          {answer, true, "wrong side"},
		"a log line":         {encoded(boundary.LogKind, 0, &boundary.LogRequest{}), true, "wrong side"},
		"too long":           {[]byte{0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0}, true, "bytes"},
		"too short":          {[]byte{3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0}, true, "bytes"},
		"a text too long":    {short, true, "damaged message"},
		"no number":          {encoded(boundary.PingKind, 0, nil), true, "number 0"},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			if c.greeting {
				s.Hello(s.dir)
			}
			if _, err := s.Raw.Write(c.bytes); err != nil {
				t.Fatal(err)
			}
			if err := s.ended(); !errors.Is(err, boundary.ErrFormat) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("the server ends with %v", err)
			}
			s.Line("error: ", c.want)
		})
	}
}

// TestServer_Signal_WaitsForTheModule verifies that Asterisk's last records survive a stop of the whole
// service, with signals to all its processes.
func TestServer_Signal_WaitsForTheModule(t *testing.T) {
	b, s := broker(t, "t"), greeted(t)
	s.configure(section("one", b.ListenAddrs()[0]))
	s.open("one", 3)
	s.signals <- os.Interrupt
	s.Ask(boundary.PingKind, nil, nil)
	s.memory.Put(3, "one", numbered("t", 0, 10)...)
	s.memory.Stage(3, "one", numbered("t", 10, 20)...)
	_ = s.Conn.Close()
	if err := s.ended(); err != nil {
		t.Error(err)
	}
	if got := values(t, b, "t", 20); fmt.Sprint(got) != fmt.Sprint(counting(0, 20)) {
		t.Errorf("the topic has %v", got)
	}
}

// TestServer_SignalModuleStays_LeavesRecordsToTheNext verifies that a signal to the engine alone ends the
// engine without dropped or refused records.
func TestServer_SignalModuleStays_LeavesRecordsToTheNext(t *testing.T) {
	s := start(t)
	s.server.times.signal = 200 * time.Millisecond
	s.Hello(s.dir)
	s.configure(section("one", port.Refused(t), "durability = memory"))
	s.open("one", 3)
	s.memory.Put(3, "one", numbered("t", 0, 10)...)
	s.Ask(boundary.PingKind, nil, nil)
	began := time.Now()
	s.signals <- os.Interrupt
	if err := s.ended(); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took < s.server.times.signal {
		t.Errorf("it ended after %v", took)
	}
	if n, open := s.memory.Ready(), s.memory.Gate(3, 0).Load(); n != 10 || open != 1 {
		t.Errorf("%d of 10 frames are left, open %d", n, open)
	}
	s.Line("notice: the engine ends on a signal")
	if lines := s.With("dropped"); len(lines) != 0 {
		t.Errorf("the log has %q", lines)
	}
	s.server.engine.Stop(0) // in place of the end of the process
}

// TestServer_SignalThenStop_StopIsFinished verifies that a signal does not shorten the module's later stop.
func TestServer_SignalThenStop_StopIsFinished(t *testing.T) {
	s := start(t)
	s.server.times.signal = 200 * time.Millisecond
	s.Hello(s.dir)
	s.configure(section("one", port.Refused(t), "durability = memory", "flush_timeout_ms = 600"))
	s.open("one", 3)
	s.memory.Put(3, "one", numbered("t", 0, 10)...)
	s.signals <- os.Interrupt
	s.Ask(boundary.StopKind, &boundary.StopRequest{GraceMS: 1000}, nil)
	s.Line("error: connection 'one': 10 record(s) for topic 't' dropped, engine stopped")
	_ = s.Conn.Close()
	if err := s.ended(); err != nil {
		t.Error(err)
	}
}

// TestServer_SocketEnds_DeliversTheRest verifies that all records of a killed Asterisk arrive, with and
// without the pump's work.
func TestServer_SocketEnds_DeliversTheRest(t *testing.T) {
	b := broker(t, "t")
	s := greeted(t)
	s.configure(section("one", b.ListenAddrs()[0]))
	s.open("one", 3)
	s.memory.Put(3, "one", numbered("t", 0, 10)...)
	s.memory.Stage(3, "one", numbered("t", 10, 20)...)
	_ = s.Conn.Close()
	if err := s.ended(); err != nil {
		t.Error(err)
	}
	if got := values(t, b, "t", 20); fmt.Sprint(got) != fmt.Sprint(counting(0, 20)) {
		t.Errorf("the topic has %v", got)
	}
	if n := s.memory.Ready(); n != 0 {
		t.Errorf("%d frames are not done", n)
	}
}

// TestServer_SocketEndsNobodyThere_Spools verifies the same without brokers: durable records are on disk, and
// the end has a limit.
func TestServer_SocketEndsNobodyThere_Spools(t *testing.T) {
	nobody := port.Refused(t)
	s := start(t)
	s.server.times.gone = 200 * time.Millisecond
	s.Hello(s.dir)
	s.configure(section("one", nobody, "durability = overflow"), section("two", nobody, "durability = disk"), section("three", nobody, "durability = memory"))
	for id, name := range []string{"", "one", "two", "three"} {
		if id > 0 {
			s.open(name, uint64(id))
			s.memory.Put(uint64(id), name, numbered("t", 0, 10)...)
		}
	}
	s.Ask(boundary.PingKind, nil, nil)
	_ = s.Conn.Close()
	if err := s.ended(); err != nil {
		t.Error(err)
	}
	if n := s.memory.Ready(); n != 0 {
		t.Errorf("%d frames are not done", n)
	}
	again, b := start(t), broker(t, "t")
	again.Hello(s.dir)
	again.configure(section("one", b.ListenAddrs()[0]), section("two", b.ListenAddrs()[0]), section("three", b.ListenAddrs()[0]))
	if got := values(t, b, "t", 20); len(got) != 20 {
		t.Errorf("the topic has %v", got)
	}
}

// TestServer_NextAsterisk_WaitsForTheEngine verifies that a new Asterisk's records do not overtake the last
// records of a killed one.
func TestServer_NextAsterisk_WaitsForTheEngine(t *testing.T) {
	s := start(t)
	s.server.times.gone = time.Second
	s.Hello(s.dir)
	s.configure(section("one", port.Refused(t), "durability = disk"))
	s.open("one", 1)
	s.memory.Put(1, "one", numbered("t", 0, 10)...)
	_ = s.Conn.Close()
	servetest.Eventually(t, "the engine begins to end", func() bool {
		waits := false
		ingest.AwaitSuccession(s.dir, time.Millisecond, func() { waits = true })
		return waits
	})
	b, next := broker(t, "t"), start(t)
	next.Hello(s.dir)
	next.configure(section("one", b.ListenAddrs()[0], "durability = disk"))
	next.open("one", 1)
	next.memory.Put(1, "one", numbered("t", 10, 20)...)
	if got := values(t, b, "t", 20); fmt.Sprint(got) != fmt.Sprint(counting(0, 20)) {
		t.Errorf("the topic has %v", got)
	}
	if lines := next.With("error: "); len(lines) != 0 {
		t.Errorf("the log has %q", lines)
	}
	next.Line("notice: waiting for the engine of an Asterisk that is gone")
}
