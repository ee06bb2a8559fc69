package engine

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"reskafka/internal/config/configtest"
	"reskafka/internal/frame/frametest"
	"reskafka/internal/ingest"
)

// noGoroutines fails unless every goroutine of the engine and of all clients has ended.
func noGoroutines(t *testing.T) {
	t.Helper()
	var left []string
	ours := func() []string {
		text := make([]byte, 16<<20)
		text = text[:runtime.Stack(text, true)]
		var some []string
		for _, stack := range strings.Split(string(text), "\n\n")[1:] { // the first is this goroutine
			if strings.Contains(stack, "franz-go/pkg/kgo.") || strings.Contains(stack, "reskafka/internal/outbox.") ||
				strings.Contains(stack, "reskafka/internal/engine.(*Engine)") || strings.Contains(stack, "reskafka/internal/kafka/") {
				some = append(some, stack)
			}
		}
		return some
	}
	for limit := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		if left = ours(); len(left) == 0 {
			return
		}
		if time.Now().After(limit) {
			t.Fatalf("%d goroutines are left:\n%s", len(left), strings.Join(left, "\n\n"))
		}
	}
}

// nothingAfter fails the test if a line comes, or a gate changes, after Stop has returned.
func (r *rig) nothingAfter(t *testing.T, stages ...*stage) {
	t.Helper()
	r.log.mtx.Lock()
	r.log.closed = true
	r.log.mtx.Unlock()
	var before []string
	for _, s := range stages {
		before = append(before, fmt.Sprint(limits(&s.Gate), s.HeldFrames.Load(), s.HeldCharge.Load()))
	}
	t.Cleanup(func() {
		for i, s := range stages {
			if now := fmt.Sprint(limits(&s.Gate), s.HeldFrames.Load(), s.HeldCharge.Load()); now != before[i] {
				t.Errorf("the gate of %s changed after the end from %s to %s", s.name, before[i], now)
			}
		}
		if len(r.log.late) > 0 {
			t.Errorf("logged after the end: %q", r.log.late)
		}
	})
}

func TestStopDeliversEverything(t *testing.T) {
	b := newBroker(t, kfake.SeedTopics(3, "a", "b"))
	r := start(t, newLines())
	r.configure(section("one", b.address()), section("two", b.address()))
	one, two := r.open("one"), r.open("two")
	one.put(append(numbered("a", "x", 0, 5000), numbered("b", "y", 0, 5000)...)...)
	two.put(numbered("b", "z", 0, 5000)...)
	r.Stop(time.Hour)
	r.nothingAfter(t, one, two)
	for _, s := range []*stage{one, two} {
		if s.HeldFrames.Load() != 0 || s.HeldCharge.Load() != 0 || s.Open.Load() != 0 {
			t.Errorf("gate %s, %d frames and %d bytes held", limits(&s.Gate), s.HeldFrames.Load(), s.HeldCharge.Load())
		}
	}
	b.consumed(t, "a", 5000)
	b.consumed(t, "b", 10000)
	r.log.want(t, 0, "error")
	noGoroutines(t)
}

// TestSecondStopWaits verifies that every call of Stop returns after the end.
func TestSecondStopWaits(t *testing.T) {
	b := newBroker(t, kfake.SeedTopics(1, "t"))
	asked, release := b.hold(t)
	r := start(t, newLines())
	r.configure(section("one", b.address()))
	s := r.open("one")
	s.put(numbered("t", "k", 0, 100)...)
	<-asked
	var both sync.WaitGroup
	both.Go(func() { r.Stop(time.Hour) })
	eventually(t, "the first has begun", r.isStopped)
	began := make(chan struct{})
	both.Go(func() {
		close(began)
		r.Stop(time.Hour)
		if held := s.HeldFrames.Load(); held != 0 {
			t.Errorf("the second call returned with %d frames held", held)
		}
	})
	<-began
	time.AfterFunc(50*time.Millisecond, release) // time enough for a second call without a wait
	both.Wait()
}

// TestStopGivesUp verifies the end after the limit for records in memory, with the lost records in the log.
func TestStopGivesUp(t *testing.T) {
	held := newBroker(t, kfake.SeedTopics(1, "t", "u"))
	_, release := held.hold(t)
	for name, address := range map[string]string{"nobody there": refusedAddress(t), "silence": silentAddress(t), "no answer to produce": held.address()} {
		t.Run(name, func(t *testing.T) {
			r := start(t, newLines())
			const flush = 300 * time.Millisecond
			r.configure(section("one", address, inMemory, "flush_timeout_ms = 300"), section("idle", address))
			s, idle := r.open("one"), r.open("idle")
			s.put(numbered("t", "k", 0, 1000)...)
			s.put(numbered("u", "k", 0, 1)...)
			began := time.Now()
			r.Stop(time.Hour)
			took := time.Since(began)
			r.nothingAfter(t, s, idle)
			if took < flush || took > flush+time.Second+busy {
				t.Errorf("it took %v with flush_timeout_ms = %d", took, flush.Milliseconds())
			}
			if s.HeldFrames.Load() != 0 || s.HeldCharge.Load() != 0 {
				t.Errorf("%d frames and %d bytes are held", s.HeldFrames.Load(), s.HeldCharge.Load())
			}
			r.log.want(t, 1, "error: connection 'one': 1000 record(s) for topic 't' dropped, engine stopped")
			r.log.want(t, 1, "error: connection 'one': 1 record(s) for topic 'u' dropped, engine stopped")
			r.log.want(t, 2, "engine stopped")
			if address == held.address() {
				release() // without release the fake broker delays the request for ever
			}
			noGoroutines(t)
		})
	}
}

// TestStopTellsTheRest verifies that a stop logs the last suppressed lines.
func TestStopTellsTheRest(t *testing.T) {
	r := start(t, newLines())
	r.configure(section("one", refusedAddress(t), "message_timeout_ms = 1000", inMemory))
	s := r.open("one")
	s.put(numbered("t", "k", 0, 50)...)
	s.settled()
	r.Stop(0)
	if n := r.log.records("error: connection 'one': ", "for topic 't' dropped, message timeout"); n != 50 {
		t.Errorf("the log has %d of 50 records", n)
	}
}

func TestAfterStop(t *testing.T) {
	b := newBroker(t, kfake.SeedTopics(1, "t"))
	r := start(t, newLines())
	r.configure(section("one", b.address()))
	s := r.open("one")
	s.put(numbered("t", "k", 0, 1)...)
	r.Stop(patience)
	r.Stop(patience)
	r.nothingAfter(t, s)

	if err := r.OpenProducer("one", s.id, &s.Gate); err != ErrStopped {
		t.Errorf("OpenProducer: %v", err)
	}
	for _, text := range []string{section("one", b.address()), "nonsense = 1"} {
		if err := r.Configure(configtest.Read(text)); err != ErrStopped {
			t.Errorf("Configure: %v", err)
		}
	}
	for _, kind := range []string{"cdr", "nonsense"} {
		if _, _, err := r.OpenSource(kind, configtest.Read(cdrConf), 0); err != ErrStopped {
			t.Errorf("OpenSource: %v", err)
		}
	}
	if err := r.TestSend(context.Background(), "one", "t", "m", nil); err != ErrStopped {
		t.Errorf("TestSend: %v", err)
	}
	slab := frametest.Append(nil, frametest.Frame{Topic: "t", Value: []byte("late"), Charge: 4})
	for _, id := range []uint64{s.id, 0, 99} {
		r.Take(id, ingest.Range{Frames: slab})
		r.Take(id, ingest.Range{Frames: []byte("noise")})
		r.Refused(id, FullFrames, 1, "t")
	}
	b.consumed(t, "t", 1)
	noGoroutines(t)
}

// TestStopWithNothing verifies the stop of engines without a connection.
func TestStopWithNothing(t *testing.T) {
	Start(theSystem, newLines()).Stop(time.Hour)
	r := start(t, newLines())
	r.configure(section("one", refusedAddress(t)))
	r.Stop(time.Hour)
	noGoroutines(t)
}

// TestStopWhileOpening ends the engine while connections are opened: none may be left open.
func TestStopWhileOpening(t *testing.T) {
	nobody := refusedAddress(t)
	for i := range 200 {
		r := start(t, newLines())
		r.configure(section("one", nobody), section("two", nobody))
		var gate Gate
		var all sync.WaitGroup
		begin := make(chan struct{})
		all.Go(func() {
			<-begin
			time.Sleep(time.Duration(i) * time.Microsecond) // a different moment of the end
			if err := r.OpenProducer("one", 1, &gate); err != nil && err != ErrStopped {
				t.Error(err)
			}
		})
		all.Go(func() {
			<-begin
			time.Sleep(time.Duration(i) * time.Microsecond)
			if err := r.TestSend(context.Background(), "two", "t", "m", nil); err == nil {
				t.Error("sent to nobody")
			}
		})
		all.Go(func() {
			<-begin
			r.Stop(0)
		})
		close(begin)
		all.Wait()
		if gate.Open.Load() != 0 {
			t.Fatalf("round %d: the gate is open after the end", i)
		}
	}
	noGoroutines(t)
}
