package engine

import (
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// counter is a module's side of a subscription: how many callbacks have returned.
type counter struct{ delivered atomic.Uint64 }

func (c *counter) Delivered() uint64 { return c.delivered.Load() }
func (c *counter) Hurry(bool)        {}

// listen replaces a subscription's thread and returns the values of its callbacks.
func listen(e *Engine, id uint64, c *counter) <-chan string {
	values := make(chan string, 100)
	go func() {
		defer close(values)
		defer e.FreeSubscription(id)
		for {
			batch, ok := e.Next(id)
			if !ok {
				return
			}
			for m := range batch.All() {
				values <- string(m.Value)
				c.delivered.Add(1)
			}
		}
	}()
	return values
}

// receive takes n values, or fails.
func receive(t *testing.T, values <-chan string, n int) (got []string) {
	t.Helper()
	limit := time.After(patience)
	for len(got) < n {
		select {
		case v, ok := <-values:
			if !ok {
				t.Fatalf("the subscription ended after %q", got)
			}
			got = append(got, v)
		case <-limit:
			t.Fatalf("only %q came", got)
		}
	}
	return got
}

func consuming(address string, options ...string) string {
	return section("c", address, slices.Concat([]string{"group_id = g", "auto_offset_reset = earliest"}, options)...)
}

func TestSubscriptionOutlivesItsConnection(t *testing.T) {
	b := newBroker(t, kfake.SeedTopics(1, "t"))
	r := start(t, newLines())
	r.configure(consuming(b.address()))
	c := &counter{}
	id, err := r.subscribe("c", " t , ,t", c)
	if err != nil {
		t.Fatal(err)
	}
	values := listen(r.Engine, id, c)
	s := r.open("c")
	s.put(numbered("t", "k", 0, 3)...)
	receive(t, values, 3)

	r.configure(consuming(b.address(), "client_id = other"))
	s.put(numbered("t", "k", 3, 4)...)
	receive(t, values, 1)

	r.configure(section("another", b.address()))
	if consumers := r.Consumers(); len(consumers) != 0 {
		t.Errorf("consumers %v without a connection that could", consumers)
	}
	r.configure(consuming(b.address()))
	s = r.open("c")
	s.put(numbered("t", "k", 4, 6)...)
	receive(t, values, 2)
	if consumers := r.Consumers(); len(consumers) != 1 || !consumers[0].Subscribed {
		t.Errorf("consumers %v", consumers)
	}

	r.Unsubscribe(id)
	if v, ok := <-values; ok {
		t.Errorf("%q came after the end", v)
	}
	r.Unsubscribe(id)
	if err := r.Commit(id, false); !errors.Is(err, ErrNotFound) {
		t.Errorf("committing a subscription that has ended: %v", err)
	}
}

// A subscription between the end and the thread's notice must not disturb a reload.
func TestReloadMeetsAnEndedSubscription(t *testing.T) {
	b := newBroker(t, kfake.SeedTopics(1, "t"))
	r := start(t, newLines())
	r.configure(consuming(b.address()))
	id, err := r.subscribe("c", "t", &counter{})
	if err != nil {
		t.Fatal(err)
	}
	r.Unsubscribe(id)
	r.configure(consuming(b.address(), "client_id = other"))
	if _, ok := r.Next(id); ok {
		t.Error("an ended subscription gives messages")
	}
	r.FreeSubscription(id)
}

func TestStopEndsSubscriptions(t *testing.T) {
	r := start(t, newLines())
	r.configure(consuming(refusedAddress(t)))
	c := &counter{}
	id, err := r.subscribe("c", "t", c)
	if err != nil {
		t.Fatal(err)
	}
	values := listen(r.Engine, id, c)
	r.Stop(0)
	if _, ok := <-values; ok {
		t.Error("a message came from nowhere")
	}
	if _, err := r.subscribe("c", "t", c); err == nil {
		t.Error("subscribed after the end")
	}
}

// TestStopGivesUpLeaving verifies that a member without an id, needed for leaving, stops its background wait
// with the engine.
func TestStopGivesUpLeaving(t *testing.T) {
	b := newBroker(t, kfake.SeedTopics(1, "t"))
	asked, never := make(chan struct{}, 10), make(chan struct{})
	t.Cleanup(func() { close(never) })
	b.ControlKey(int16(kmsg.JoinGroup), func(kmsg.Request) (kmsg.Response, error, bool) {
		b.KeepControl()
		asked <- struct{}{}
		b.SleepControl(func() { <-never })
		return nil, nil, false
	})
	r := start(t, newLines())
	r.configure(consuming(b.address()))
	c := &counter{}
	id, err := r.subscribe("c", "t", c)
	if err != nil {
		t.Fatal(err)
	}
	values := listen(r.Engine, id, c)
	<-asked
	r.Unsubscribe(id)
	if _, ok := <-values; ok {
		t.Error("a message came from nowhere")
	}
	r.Stop(0)
	r.nothingAfter(t)
	noGoroutines(t)
}

func TestSubscribeRefuses(t *testing.T) {
	log := newLines()
	r := start(t, log)
	r.configure(consuming(refusedAddress(t)), section("groupless", refusedAddress(t)))
	for _, test := range []struct {
		name, topics, line string
		want               error
	}{
		{"c", " , ", "at least one topic", ErrInvalid},
		{"groupless", "t", "has no group_id", ErrInvalid},
		{"unknown", "t", "no such section", ErrNotFound},
	} {
		if _, err := r.subscribe(test.name, test.topics, &counter{}); !errors.Is(err, test.want) {
			t.Errorf("%+v: %v", test, err)
		}
		log.want(t, 1, test.line)
	}
}

// TestSubscribe_NumberInUse_Refused verifies that a number belongs to one subscription until freed.
func TestSubscribe_NumberInUse_Refused(t *testing.T) {
	r := start(t, newLines())
	r.configure(consuming(refusedAddress(t)))
	for _, id := range []uint64{0, 3, 3} {
		want := map[uint64]error{0: ErrInvalid}[id]
		if r.subscription(3) != nil {
			want = ErrInvalid
		}
		if err := r.Subscribe("c", "t", id, &counter{}); !errors.Is(err, want) {
			t.Errorf("number %d: %v, want %v", id, err, want)
		}
	}
	r.log.want(t, 1, "error: connection 'c': a subscription cannot have number 3, which is used")
	r.FreeSubscription(3)
	if err := r.Subscribe("c", "t", 3, &counter{}); err != nil {
		t.Error(err)
	}
}
