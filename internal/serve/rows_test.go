package serve

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"reskafka/internal/boundary"
	"reskafka/internal/console"
	"reskafka/internal/frame"
	"reskafka/internal/frame/frametest"
	"reskafka/internal/serve/servetest"
	"reskafka/test/port"
)

// TestServer_Hello_TellsFolderAndCommands verifies the module's data before the first configuration.
func TestServer_Hello_TellsFolderAndCommands(t *testing.T) {
	s := start(t)
	a := s.Hello(s.dir)
	if a.Result != boundary.ResultOK || a.ABI != boundary.ABIVersion || a.Build != boundary.Build {
		t.Errorf("the answer is %+v", a)
	}
	if a.StageFolder == "" {
		t.Errorf("the folder is missing in %+v", a)
	}
	if len(a.Commands) != len(console.Commands) || a.Commands[0].Words != console.Commands[0].Words || a.Commands[0].Usage == "" {
		t.Errorf("the commands are %+v", a.Commands)
	}
}

// reported is a record with a request for its outcome.
func reported(queue, opaque uint64) frametest.Frame {
	return frametest.Frame{Topic: "t", Value: []byte("0"), Fields: []frame.Field{{
		Kind: frame.KindReport, Value: binary.NativeEndian.AppendUint64(binary.NativeEndian.AppendUint64(nil, queue), opaque),
	}}}
}

// TestServer_EachMessage_Works uses every message once, in a module's order.
func TestServer_EachMessage_Works(t *testing.T) {
	b := broker(t, "t", "calls")
	s := greeted(t)
	offers := s.configure(section("one", b.ListenAddrs()[0], "group_id = g"), section("two", port.Refused(t)))
	if len(offers) != 2 || offers[0].Name != "one" || offers[0].NoProducer+offers[0].NoConsumer != "" || offers[1].NoConsumer == "" ||
		offers[0].RequestTimeoutMS != 5000 || offers[0].MaxFrames < 100000 || offers[0].MessagesMax < 1<<20 {
		t.Errorf("the connections are %+v", offers)
	}
	s.open("one", 7)
	s.report()

	var source boundary.SourceOpenAnswer
	s.Ask(boundary.SourceOpenKind, &boundary.SourceOpenRequest{Kind: "cdr", Entries: entriesOf("[global]\nconnection = ONE\ntopic = calls\n")}, &source)
	if source.Result != boundary.ResultOK || source.Connection != "one" || source.Source == 0 {
		t.Errorf("source_open: %+v", source)
	}
	s.memory.Put(7, "one", frametest.Frame{Source: source.Source, Fields: []frame.Field{frametest.Text("src", "100")}})
	if got := values(t, b, "calls", 1); !strings.Contains(got[0], `"src":"100"`) {
		t.Errorf("the call record is %s", got)
	}
	var topic boundary.EnsureTopicAnswer
	s.Ask(boundary.EnsureTopicKind, &boundary.EnsureTopicRequest{Name: "one", Topic: "new", Partitions: 2, Replication: 1, Wait: true}, &topic)
	if topic.Result != boundary.ResultOK || b.TopicInfo("new") == nil {
		t.Errorf("ensure_topic: %d", topic.Result)
	}
	s.refuse(7)
	s.commands()
	s.consume()
	s.Ask(boundary.StopKind, &boundary.StopRequest{GraceMS: 1000}, nil)
	_ = s.Conn.Close()
	if err := s.ended(); err != nil {
		t.Error(err)
	}
	if n := s.memory.Ready(); n != 0 {
		t.Errorf("%d frames are not done", n)
	}
}

// report goes through the life of a queue of reports.
func (s *site) report() {
	s.t.Helper()
	open := func(id uint64) boundary.Result {
		var a boundary.ReportsOpenAnswer
		s.Ask(boundary.ReportsOpenKind, &boundary.ReportsOpenRequest{ID: id}, &a)
		return a.Result
	}
	if first, again := open(5), open(5); first != boundary.ResultOK || again != boundary.ResultEINVAL {
		s.t.Errorf("reports_open: %d, and again: %d", first, again)
	}
	s.memory.Put(7, "one", reported(5, 42))
	var a boundary.ReportsNextAnswer
	s.Ask(boundary.ReportsNextKind, &boundary.ReportsNextRequest{ID: 5}, &a)
	if want := []boundary.Report{{Opaque: 42, Topic: "t"}}; fmt.Sprint(a.Reports) != fmt.Sprint(want) {
		s.t.Errorf("the reports are %+v", a.Reports)
	}
	s.Ask(boundary.ReportsNextKind, &boundary.ReportsNextRequest{ID: 5, Again: true}, &a)
	if len(a.Reports) != 1 || a.Reports[0].Opaque != 42 {
		s.t.Errorf("the reports of an answer that was lost are %+v", a.Reports)
	}
	s.Post(boundary.ReportsNextKind, &boundary.ReportsNextRequest{ID: 5}) // lost
	servetest.Eventually(s.t, "a request waits for reports", func() bool { return s.server.queue(5).number.Load() != 0 })
	waiting := s.Post(boundary.ReportsNextKind, &boundary.ReportsNextRequest{ID: 5})
	s.Ask(boundary.ReportsCloseKind, &boundary.ReportsCloseRequest{ID: 5}, nil)
	s.Await(waiting, &a)
	if len(a.Reports) != 0 {
		s.t.Errorf("a closed queue has %+v", a.Reports)
	}
}

// refuse has a message without an answer.
func (s *site) refuse(id uint64) {
	s.t.Helper()
	if err := s.Conn.Request(boundary.RefusedKind, 0, &boundary.RefusedRequest{ID: id, Reason: boundary.RefusalFullFrames, Count: 3, Sample: "t"}); err != nil {
		s.t.Error(err)
	}
	s.Line("error: connection 'one': refused 3 record(s), topic 't': queue_buffering_max_messages")
}

// commands runs and completes commands of the CLI.
func (s *site) commands() {
	s.t.Helper()
	index := uint32(slices.IndexFunc(console.Commands, func(c console.Command) bool { return c.Words == "kafka show connection" }))
	run := func(index uint32, words ...string) []byte {
		var a boundary.RunAnswer
		s.Ask(boundary.RunKind, &boundary.RunRequest{Index: index, Words: words}, &a)
		return a.Printed
	}
	if printed := run(index, "kafka", "show", "connection", "one"); !strings.HasPrefix(string(printed), "Name: ") {
		s.t.Errorf("the connection is shown as %q", printed)
	}
	if printed := run(index, "kafka", "show", "connection"); printed != nil {
		s.t.Errorf("a command without its argument prints %q", printed)
	}
	if printed := run(9999); !strings.HasPrefix(string(printed), "Error: ") {
		s.t.Errorf("no command prints %q", printed)
	}
	var some boundary.CompleteAnswer
	s.Ask(boundary.CompleteKind, &boundary.CompleteRequest{Index: index, Words: []string{"kafka", "show", "connection"}, Word: "T"}, &some)
	if !slices.Equal(some.Candidates, []string{"two"}) {
		s.t.Errorf("the candidates are %q", some.Candidates)
	}
}

func (s *site) subscribe(name string, id uint64) boundary.Result {
	s.t.Helper()
	var a boundary.SubscribeAnswer
	s.Ask(boundary.SubscribeKind, &boundary.SubscribeRequest{Name: name, Topics: "t", ID: id}, &a)
	return a.Result
}

// consume goes through a subscription's life.
func (s *site) consume() {
	s.t.Helper()
	for _, c := range []struct {
		name string
		id   uint64
		want boundary.Result
	}{
		{"one", 9, boundary.ResultOK}, {"one", 9, boundary.ResultEINVAL}, {"one", 0, boundary.ResultEINVAL},
		{"one", 1024, boundary.ResultEINVAL}, {"two", 8, boundary.ResultEINVAL}, {"three", 8, boundary.ResultENOENT},
	} {
		if got := s.subscribe(c.name, c.id); got != c.want {
			s.t.Errorf("subscribe %s as %d: %d, want %d", c.name, c.id, got, c.want)
		}
	}
	header := frametest.Text("name", "value")
	var large boundary.NextAnswer // the record with a report is there
	s.Ask(boundary.NextKind, &boundary.NextRequest{ID: 9, Most: 80}, &large)
	if len(large.Messages) != 0 || !large.Again {
		s.t.Errorf("a message above an outdated limit: %+v", large)
	}
	s.memory.Put(7, "one", frametest.Frame{AcceptedNS: 1700000000123456789, Topic: "t", Key: []byte{}, Fields: []frame.Field{header}})
	got := s.receive(9, 2)
	if s.Member(9) == "" {
		s.t.Error("the engine did not say which member the subscription is")
	}
	want := boundary.Received{Topic: "t", Offset: 1, TimestampMS: 1700000000123, Key: []byte{}, Headers: []boundary.Header{{Name: "name", Value: []byte("value")}}}
	if fmt.Sprintf("%+v", got[1]) != fmt.Sprintf("%+v", want) || got[1].Key == nil || got[1].Value != nil || got[0].Key != nil {
		s.t.Errorf("the message is %+v, want %+v", got[1], want)
	}
	s.endSubscription(9)
	if got := s.subscribe("one", 9); got != boundary.ResultOK {
		s.t.Errorf("the number cannot be used again: %d", got)
	}
}

// endSubscription pauses, commits and ends a subscription.
func (s *site) endSubscription(id uint64) {
	s.t.Helper()
	var paused boundary.PauseAnswer
	s.Ask(boundary.PauseKind, &boundary.PauseRequest{ID: id, Topics: "t", On: true}, &paused)
	var committed boundary.CommitAnswer
	s.Ask(boundary.CommitKind, &boundary.CommitRequest{ID: id}, &committed)
	if paused.Result != boundary.ResultOK || committed.Result != boundary.ResultOK {
		s.t.Errorf("pause: %d, commit: %d", paused.Result, committed.Result)
	}
	s.Post(boundary.NextKind, &boundary.NextRequest{ID: id}) // lost
	servetest.Eventually(s.t, "a request waits for messages", func() bool { return s.server.delivery(id).number.Load() != 0 })
	waiting := s.Post(boundary.NextKind, &boundary.NextRequest{ID: id, Most: 1 << 20})
	s.Ask(boundary.UnsubscribeKind, &boundary.UnsubscribeRequest{ID: id}, nil)
	var end boundary.NextAnswer
	s.Await(waiting, &end)
	if len(end.Messages) != 0 {
		s.t.Errorf("after the end: %+v", end.Messages)
	}
	s.Ask(boundary.SubscriptionFreeKind, &boundary.SubscriptionFreeRequest{ID: id}, nil)
}

// receive calls back for messages until there are n.
func (s *site) receive(id uint64, n int) (got []boundary.Received) {
	s.t.Helper()
	for len(got) < n {
		a := s.next(id)
		if len(a.Messages) == 0 {
			s.t.Fatalf("the subscription has ended: %q", s.With())
		}
		for range a.Messages {
			s.memory.Returned(id)
		}
		got = append(got, a.Messages...)
	}
	return got
}

// TestServer_RequestsInOrder_OthersBeside verifies a configuration without a wait for each answer, beside a
// request that blocks.
func TestServer_RequestsInOrder_OthersBeside(t *testing.T) {
	s := greeted(t)
	nobody := port.Refused(t)
	one := section("one", nobody, "group_id = g")
	s.configure(one)
	if got := s.subscribe("one", 1); got != boundary.ResultOK {
		t.Fatal(got)
	}
	blocked := s.Post(boundary.NextKind, &boundary.NextRequest{ID: 1, Most: 1 << 20})
	var opened []<-chan boundary.Frame
	for i := range 20 {
		name := fmt.Sprintf("c%d", i)
		s.Post(boundary.ConfigureKind, &boundary.ConfigureRequest{Entries: entriesOf(one + section(name, nobody))})
		opened = append(opened, s.Post(boundary.ProducerOpenKind, &boundary.ProducerOpenRequest{Name: name, ID: uint64(i + 1)}))
	}
	for i, came := range opened {
		var a boundary.ProducerOpenAnswer
		if s.Await(came, &a); a.Result != boundary.ResultOK {
			t.Errorf("producer %d: %d: %q", i, a.Result, s.With("error"))
		}
	}
	select {
	case f := <-blocked:
		t.Errorf("next is answered with %+v", f)
	default:
	}
}

// TestServer_Panic_AnswersAndGoesOn verifies the fence around each request.
func TestServer_Panic_AnswersAndGoesOn(t *testing.T) {
	s := greeted(t)
	var a boundary.FaultAnswer
	s.Ask(boundary.FaultKind, &boundary.FaultRequest{How: "panic"}, &a)
	if a.Result != boundary.ResultPanic {
		t.Errorf("the answer is %d", a.Result)
	}
	s.Line("error: the engine panicked in a request from Asterisk, fault, this is a defect: runtime error: invalid memory address")
	s.Line("error:", "serve.fault")
	s.Ask(boundary.FaultKind, &boundary.FaultRequest{How: "nonsense"}, &a)
	if a.Result != boundary.ResultEINVAL {
		t.Errorf("no fault is answered with %d", a.Result)
	}
	s.Ask(boundary.PingKind, nil, nil)
}

// TestServer_Hang_NoPing verifies that the module notices an engine with a hanging ring.
func TestServer_Hang_NoPing(t *testing.T) {
	s := greeted(t)
	s.Post(boundary.FaultKind, &boundary.FaultRequest{How: "hang"})
	servetest.Eventually(t, "it hangs", func() bool {
		if s.server.hang.TryRLock() {
			s.server.hang.RUnlock()
			return false
		}
		return true
	})
	ping := s.Post(boundary.PingKind, nil)
	s.configure(section("one", port.Refused(t))) // other requests work meanwhile
	select {
	case <-ping:
		t.Error("a ping is answered")
	case <-time.After(50 * time.Millisecond):
	}
}

// TestRows_EachRequest_HasAnAnswerAfterAPanic verifies a readable answer to every request, with a panic too.
func TestRows_EachRequest_HasAnAnswerAfterAPanic(t *testing.T) {
	for i := range boundary.Messages {
		m := &boundary.Messages[i]
		r, ok := rows[m.Kind]
		if wanted := m.From == boundary.ModuleSide && m.Name != "hello"; wanted != ok {
			t.Errorf("%s has a row: %v", m.Name, ok)
		}
		if !ok || m.OneWay {
			continue
		}
		var w boundary.Writer
		w.Begin(m.Kind, true, 1)
		if r.failed != nil {
			r.failed.Put(&w)
		}
		bytes, err := w.Finish()
		if err != nil {
			t.Fatal(err)
		}
		f := boundary.Frame{Kind: m.Kind, Answer: true, Number: 1, Fields: bytes[16:]}
		if err := f.Decode(boundary.NewAnswer(m.Kind)); err != nil {
			t.Errorf("%s: %v", m.Name, err)
		}
	}
}

// TestServer_Stop_AnswersThenWaits verifies a stopped engine: the last reports are still available, requests
// get the answer "stopped", and a forgotten socket does not prevent the end.
func TestServer_Stop_AnswersThenWaits(t *testing.T) {
	s := start(t)
	s.server.times.socket = 500 * time.Millisecond
	s.Hello(s.dir)
	s.configure(section("one", port.Refused(t), "durability = memory", "flush_timeout_ms = 0"))
	s.open("one", 1)
	var queue boundary.ReportsOpenAnswer
	s.Ask(boundary.ReportsOpenKind, &boundary.ReportsOpenRequest{ID: 1}, &queue)
	s.memory.Put(1, "one", reported(1, 42))
	s.Ask(boundary.StopKind, &boundary.StopRequest{GraceMS: 100}, nil)
	if lines := s.With("error: connection 'one': 1 record(s) for topic 't' dropped, engine stopped"); len(lines) != 1 {
		t.Errorf("the line about the record does not come before the answer: %q", s.With())
	}
	var reports boundary.ReportsNextAnswer
	s.Ask(boundary.ReportsNextKind, &boundary.ReportsNextRequest{ID: 1}, &reports)
	if len(reports.Reports) != 1 || reports.Reports[0].Error == nil {
		t.Errorf("the last reports are %+v", reports.Reports)
	}
	var a boundary.ConfigureAnswer
	s.Ask(boundary.ConfigureKind, &boundary.ConfigureRequest{}, &a)
	if a.Result != boundary.ResultESTATE {
		t.Errorf("configure after stop: %d", a.Result)
	}
	if err := s.ended(); err != nil {
		t.Error(err)
	}
}
