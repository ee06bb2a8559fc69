package engine

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"reskafka/internal/config/configtest"
	"reskafka/internal/ingest"
	"reskafka/internal/metrics"
	"reskafka/test/account"
)

// TestEverythingAtOnce calls every method from a separate goroutine until Stop in the middle: the accounts
// must add up all the time, and no lock, call or goroutine may remain.
func TestEverythingAtOnce(t *testing.T) {
	b := newBroker(t, kfake.SeedTopics(2, "t", "u", "asterisk_cdr"))
	r := start(t, newLines())
	conf := func(i int) string {
		text := section("one", b.address(), fmt.Sprintf("client_id = c%d", i/2), fmt.Sprintf("queue_buffering_max_messages = %d", 1000+i),
			"durability = "+[]string{"memory", "overflow", "disk"}[i/3%3])
		if i%5 == 4 {
			text = "[general]\nenabled = no\n" + text
		}
		if i%3 > 0 {
			text += section("two", b.address())
		}
		return text
	}
	r.configure(conf(1))
	one, two := r.open("one"), r.open("two")
	source := r.openCDR(cdrConf, 0)
	end := make(chan struct{})
	var all sync.WaitGroup
	again := func(do func(i int)) {
		all.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-end:
					return
				default:
					do(i)
				}
			}
		})
	}
	for _, s := range []*stage{one, two} { // one for each stage, as the pump
		again(func(i int) {
			if s.Open.Load() == 0 || s.HeldFrames.Load() > s.MaxFrames.Load() {
				runtime.Gosched()
				return
			}
			frames := numbered("t", "k", i, i+20)
			frames[7].Source = source
			frames[8].Source = 99
			s.put(frames...)
			s.put(numbered("u", "k", i, i+1)...)
		})
	}
	reloadAt := int64(0)
	again(func(i int) {
		// A reload before the last client's first record would stop all traffic: the traffic goes first.
		if one.Handed.Load() < reloadAt && one.Open.Load() != 0 {
			time.Sleep(time.Millisecond)
			return
		}
		reloadAt = one.Handed.Load() + 200
		if err := r.Configure(configtest.Read(conf(i))); err != nil && err != ErrStopped {
			t.Error(err)
		}
	})
	pause := func() { time.Sleep(100 * time.Microsecond) } // leaves the processor to the traffic
	again(func(i int) {
		pause()
		if err := r.Configure(configtest.Read("[one]\ntype = connection\nacks = many\n")); err != ErrInvalid && err != ErrStopped {
			t.Error(err)
		}
	})
	again(func(i int) {
		pause()
		name := []string{"one", "two", "three"}[i%3]
		_ = r.OpenProducer(name, number(name), []*Gate{&one.Gate, &two.Gate, {}}[i%3])
	})
	again(func(i int) {
		pause()
		_, _, _ = r.OpenSource("cdr", configtest.Read(cdrConf), source)
		id := []uint64{0, one.id, two.id, 7}[i%4]
		r.Refused(id, Reason(i%9), uint64(i), "t")
		r.Take(id, ingest.Range{}) // until after the end, as no pump does
	})
	again(func(i int) { _ = r.TestSend(context.Background(), []string{"one", "two"}[i%2], "t", "m", nil) })
	again(func(i int) {
		pause()
		for _, s := range r.Connections() {
			balanced(t, s)
		}
		r.Connection("one")
		r.Consumers()
		r.Enabled()
	})
	eventually(t, "there has been traffic on both", func() bool { return one.Handed.Load() > 5000 && two.Handed.Load() > 5000 })
	var stops sync.WaitGroup
	for range 2 {
		stops.Go(func() { r.Stop(patience) })
	}
	stops.Wait()
	r.nothingAfter(t, one, two)
	close(end)
	all.Wait()
	for _, s := range []*stage{one, two} {
		c := r.byID(s.id)
		taken := uint64(0)
		numbers := metrics.Of(s.name)
		c.outbox.Collect(numbers)
		for _, v := range numbers.Each(metrics.Topic) {
			topic := account.Of(v)
			if !topic.Balanced() || topic.Waiting+topic.Sending != 0 {
				t.Errorf("%s: %+v does not add up, or something is left", s.name, topic)
			}
			taken += topic.Accepted
		}
		if taken == 0 || s.Open.Load() != 0 || s.HeldFrames.Load() != 0 || s.HeldCharge.Load() != 0 {
			t.Errorf("%s: %d records, gate %s, %d frames and %d bytes held", s.name, taken, limits(&s.Gate), s.HeldFrames.Load(), s.HeldCharge.Load())
		}
	}
	noGoroutines(t)
}
