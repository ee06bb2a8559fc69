package engine

import (
	"fmt"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"

	"reskafka/internal/frame/frametest"
)

// TestSwapInTraffic changes a connection's options repeatedly during traffic: each record arrives once, and
// the records of a key in order.
func TestSwapInTraffic(t *testing.T) {
	const keys, rounds, burst = 5, 400, 10
	topics := []string{"a", "b"}
	b := newBroker(t, kfake.SeedTopics(3, topics...))
	r := start(t, newLines())
	conf := func(i int) string {
		return section("one", b.address(), fmt.Sprintf("client_id = c%d", i), fmt.Sprintf("batch_num_messages = %d", 5+i*10))
	}
	r.configure(conf(0))
	s := r.open("one")
	quarter := make(chan struct{}, 4)
	var taking sync.WaitGroup
	taking.Go(func() {
		for round := range rounds {
			var frames []frametest.Frame
			for _, topic := range topics {
				for key := range keys {
					frames = append(frames, numbered(topic, fmt.Sprint(key), round*burst, (round+1)*burst)...)
				}
			}
			s.put(frames...)
			if round%(rounds/8) == rounds/16 {
				quarter <- struct{}{}
			}
		}
	})
	for i := range 8 {
		<-quarter
		r.configure(conf(i + 1))
	}
	taking.Wait()
	s.settled()
	for _, topic := range topics {
		next := map[string]int{}
		for _, got := range b.consumed(t, topic, keys*rounds*burst) {
			if want := fmt.Sprint(next[string(got.Key)]); string(got.Value) != want {
				t.Fatalf("topic %s, key %s: record %s where %s was due", topic, got.Key, got.Value, want)
			}
			next[string(got.Key)]++
		}
	}
	if c := r.status("one").Totals; c.Acknowledged != 2*keys*rounds*burst || c.Accepted != c.Acknowledged {
		t.Errorf("account %+v", c)
	}
	if got := b.connects.Load(); got < 9 {
		t.Errorf("%d connections for 9 clients", got)
	}
}

func TestRemovedConnectionDeliversWhatItAccepted(t *testing.T) {
	b := newBroker(t, kfake.SeedTopics(1, "t"))
	asked, release := b.hold(t)
	r := start(t, newLines())
	r.configure(section("one", b.address()), section("two", b.address()))
	s := r.open("one")
	s.put(numbered("t", "k", 0, 1000)...)
	<-asked
	r.configure(section("two", b.address()))
	if s.Open.Load() != 0 {
		t.Error("the gate is open")
	}
	s.put(numbered("t", "k", 1000, 1010)...) // staged before the gate was shut
	if _, ok := r.Connection("one"); ok || len(r.Connections()) != 1 {
		t.Error("the connection is still there")
	}
	if err := r.OpenProducer("one", s.id, &s.Gate); err != ErrNotFound {
		t.Errorf("opening it: %v", err)
	}
	r.log.want(t, 1, "error: no producer for connection 'one': kafka.conf has no such section")
	release()
	s.settled()
	for i, got := range b.consumed(t, "t", 1010) {
		if string(got.Value) != fmt.Sprint(i) {
			t.Fatalf("record %d is %s", i, got.Value)
		}
	}
	r.configure(section("one", b.address()))
	if c := r.status("one").Totals; c.Accepted != 1010 || c.Acknowledged != 1010 {
		t.Errorf("account after it came back: %+v", c)
	}
}
