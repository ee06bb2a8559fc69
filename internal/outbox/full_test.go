package outbox

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"reskafka/internal/record"
	"reskafka/internal/spool"
)

// narrow is a disk without space for one topic.
type narrow struct {
	*disk
	without string
}

func (n narrow) Append(topic string, records []*record.Record) (uint64, error) {
	if topic == n.without {
		return 0, fmt.Errorf("too large: %w", spool.ErrFull)
	}
	return n.disk.Append(topic, records)
}

// fullRig is an outbox with a client that neither accepts nor answers.
func fullRig(t *testing.T, drop bool, spool func(*disk) Spool) *diary {
	g := &diary{dice: &dice{}, t: t, last: map[string]int{}, unknown: map[string]uint64{}}
	g.disk = newDisk(func(what string) { t.Error(what) })
	s := Settings{Timeout: time.Second, WindowRecords: 10, Backoff: time.Millisecond, BackoffMax: time.Millisecond, Durability: record.Disk, DropOldest: drop}
	g.client = newClient("client", s, func(*record.Record) answer { return answer{hang: true} })
	g.client.watch = g
	g.outbox = New(s, g.client, g, g)
	g.outbox.Attach(func() (Spool, error) { return spool(g.disk), nil })
	return g
}

func (g *diary) put(topic string, n int) { g.putPadded(topic, n, 0) }

// putPadded is put with keys of a length.
func (g *diary) putPadded(topic string, n, pad int) {
	var records []record.Record
	g.mtx.Lock()
	for range n {
		it := &item{id: len(g.items), topic: topic}
		g.items = append(g.items, it)
		records = append(records, record.Record{Topic: topic, Key: make([]byte, pad), Value: fmt.Append(nil, it.id), Accepted: time.Now()})
	}
	g.mtx.Unlock()
	g.outbox.Accept(records)
	synctest.Wait()
}

// TestMoreThanTheSpoolHolds checks a large write: all records that fit go to disk, and a spool with
// drop_oldest accepts any number of new records.
func TestMoreThanTheSpoolHolds(t *testing.T) {
	for _, drop := range []bool{false, true} {
		t.Run(fmt.Sprintf("drop %v", drop), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := fullRig(t, drop, func(d *disk) Spool { return d })
				g.disk.most = 50
				g.put("t", 200)
				c, on := g.outbox.Counters()[0], g.disk.values("t")
				switch {
				case !drop && (c.Spooled != 50 || c.Waiting+c.Sending != 150 || on[0] != "0" || g.trouble == nil):
					t.Errorf("account %+v, on disk %q, trouble %v", c, on, g.trouble)
				case drop && (c.Spooled < 40 || on[len(on)-1] != "199" || g.trouble != nil): // the others are still in memory
					t.Errorf("account %+v, on disk %q, trouble %v", c, on, g.trouble)
				}
				g.check()
				g.outbox.Close()
			})
		})
	}
}

// TestQueueWhileRoomIsMade checks memory with a full spool: no more records than a queue allows, also when
// records become sendable during the write of the first.
func TestQueueWhileRoomIsMade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const queue, room, all = 100, 50, 2000
		g := fullRig(t, true, func(d *disk) Spool { return d })
		g.outbox.Adjust(func(s *Settings) { s.QueueRecords = queue }, spool.Limits{})
		g.client.sending = func() time.Duration { return time.Second }
		g.put("other", 1) // the feeder is inside Send now
		var appends int
		g.disk.mtx.Lock()
		g.disk.most = room
		g.disk.slow = func() time.Duration {
			if appends++; appends == 1 {
				return 2 * time.Second // returns while this record waits
			}
			return 0
		}
		g.disk.mtx.Unlock()
		g.put("t", all)
		for range 100 {
			time.Sleep(time.Second)
			synctest.Wait()
			g.check()
		}
		c, on := g.outbox.Counters()[1], g.disk.values("t")
		if c.Waiting+c.Sending > queue || c.Dropped[record.ReasonSpoolFull] < all-room-queue || on[len(on)-1] != fmt.Sprint(all) || g.trouble != nil {
			t.Errorf("account %+v, %d on disk, the last %q, trouble %v", c, len(on), on[len(on)-1], g.trouble)
		}
		g.outbox.Close()
	})
}

// TestLargeRecordsDropOldest checks that space is made for large records too.
func TestLargeRecordsDropOldest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := fullRig(t, true, func(d *disk) Spool { return d })
		g.disk.most = 10
		g.putPadded("t", 30, 100<<10)
		if on := g.disk.values("t"); on[len(on)-1] != "29" || g.trouble != nil {
			t.Errorf("on disk %q, trouble %v", on, g.trouble)
		}
		g.check()
		g.outbox.Close()
	})
}

// TestOutOfTimeInTheClient checks a record returned by the client after the deadline: the record goes to
// disk, also alone.
func TestOutOfTimeInTheClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := fullRig(t, false, func(d *disk) Spool { return d })
		g.outbox.Adjust(func(s *Settings) { s.Durability = record.Overflow }, spool.Limits{})
		g.client.script = func(*record.Record) answer { return answer{after: 3 * time.Second, err: errRetry} }
		g.put("t", 1)
		if c := g.outbox.Counters()[0]; c.Sending != 1 {
			t.Errorf("account %+v", c)
		}
		time.Sleep(4 * time.Second)
		synctest.Wait()
		if c := g.outbox.Counters()[0]; c.Spooled != 1 || len(g.disk.values("t")) != 1 {
			t.Errorf("account %+v", c)
		}
		g.check()
		g.outbox.Close()
	})
}

// TestOneThatDoesNotFit checks that a topic with a record too large for the disk does not block other topics
// for long.
func TestOneThatDoesNotFit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := fullRig(t, false, func(d *disk) Spool { return narrow{d, "big"} })
		topics := []string{"a", "big", "b", "c"}
		for range 5 {
			g.put("big", 1)
			for _, topic := range topics {
				g.put(topic, 3)
			}
			time.Sleep(10 * spoolRetry)
		}
		for _, topic := range topics {
			if n, want := len(g.disk.values(topic)), 15; n != want && topic != "big" {
				t.Errorf("%d of %d of topic %s are on disk", n, want, topic)
			}
		}
		if all := g.outbox.Counters(); !slices.ContainsFunc(all, func(c Counters) bool { return c.Topic == "big" && c.Spooled == 0 && c.Waiting+c.Sending == 20 }) {
			t.Errorf("accounts %+v", all)
		}
		g.check()
		g.outbox.Close()
	})
}

// The gate counts values only, and the queue used to count keys too: accepted records within the gate's limit
// were dropped.
func TestQueueFull_NoDisk_GateDecides(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &diary{dice: &dice{}, t: t, last: map[string]int{}, unknown: map[string]uint64{}}
		s := Settings{Timeout: time.Hour, WindowRecords: 10, Backoff: time.Millisecond, BackoffMax: time.Millisecond, QueueRecords: 100, QueueBytes: 1000}
		g.client = newClient("client", s, func(*record.Record) answer { return answer{hang: true} })
		g.client.watch = g
		g.outbox = New(s, g.client, g, g)
		g.putPadded("t", 50, 1000)
		for _, c := range g.outbox.Counters() {
			if c.Accepted != 50 || len(c.Dropped) > 0 {
				t.Errorf("counters %+v", c)
			}
		}
		g.outbox.Close()
	})
}
