package outbox

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"reskafka/internal/record"
	"reskafka/test/allocs"
)

// sample returns a record, a different kind for each i.
func sample(dice *rand.Rand, i int, born time.Duration) entry {
	some := func(most int) []byte {
		switch dice.IntN(4) {
		case 0:
			return nil
		case 1:
			return []byte{}
		}
		b := make([]byte, dice.IntN(most))
		for i := range b {
			b[i] = byte(dice.Uint32())
		}
		return b
	}
	r := entry{born: born, Record: record.Record{
		Topic: "t", Key: some(20), Value: some(1 + 1<<dice.IntN(14)), Accepted: time.Unix(1700000000, dice.Int64N(1e12)-5e11),
		Charge: dice.Int64N(1000) - 1,
	}}
	for range max(0, dice.IntN(6)-2) {
		r.Headers = append(r.Headers, record.Header{Name: string(some(300)), Value: some(300)})
	}
	switch i % 5 {
	case 1:
		r.Staged, r.Lasting = &atomic.Uint32{}, dice.IntN(2) == 0
	case 2:
		r.Opaque = dice.Uint64()
		r.Report = func(*record.Record, error) {}
	case 3:
		switch dice.IntN(3) {
		case 0:
			r.Lifetime = time.Second
		case 1:
			r.released = true
		case 2:
			r.Accepted = time.Time{}
		}
	}
	return r
}

// plain returns the records of entries.
func plain(entries []entry) (records []record.Record) {
	for i := range entries {
		records = append(records, entries[i].Record)
	}
	return records
}

// same reports whether an unpacked record equals the packed one.
func (r *entry) same(other *entry) bool {
	a, b := *r, *other
	report := (a.Report == nil) == (b.Report == nil)
	accepted := a.Accepted.Equal(b.Accepted)
	a.Report, b.Report, a.Accepted, b.Accepted, a.Topic, b.Topic, a.chunk, a.Fields, b.Fields = nil, nil, time.Time{}, time.Time{}, "", "", nil, nil, nil
	if len(a.Headers)+len(b.Headers) == 0 {
		a.Headers, b.Headers = nil, nil
	}
	return report && accepted && reflect.DeepEqual(a, b)
}

// Every record leaves a pack unchanged, in order, with null and empty distinct, after the reuse of its
// source; an unpacked record never changes.
func TestPackGivesBackWhatItWasGiven(t *testing.T) {
	defer func(before int) { blockMost = before }(blockMost)
	for seed := range uint64(80) {
		dice := rand.New(rand.NewPCG(seed, 7))
		blockMost = []int{64 << 10, 10, 200, 5000}[seed%4]
		p := pack{spare: &spare{}}
		var want, got []*entry
		born := time.Hour
		for i := 0; i < 300; {
			var records []entry
			for range 1 + dice.IntN(40) {
				born += time.Duration(dice.Int64N(1 << dice.IntN(40)))
				records = append(records, sample(dice, i, born))
				i++
			}
			for j := range records {
				r := &records[j]
				want = append(want, r.clone())
				p.add(nil, &r.Record, r.born, r.released, plain(records[j+1:]))
				for _, b := range [][]byte{r.Key, r.Value} {
					for k := range b {
						b[k] ^= 0xA5
					}
				}
				for _, h := range r.Headers {
					for k := range h.Value {
						h.Value[k] ^= 0xA5
					}
				}
			}
			for range dice.IntN(3) {
				out := p.take(1+dice.IntN(30), false)
				for j := range out {
					got = append(got, &out[j])
				}
				if p.n > 0 && p.born() != want[len(got)].born {
					t.Fatalf("seed %d: the first one was born %v, want %v", seed, p.born(), want[len(got)].born)
				}
			}
		}
		for p.n > 0 {
			for _, r := range p.take(100, false) {
				got = append(got, &r)
			}
		}
		if !slices.EqualFunc(got, want, (*entry).same) {
			for i := range got {
				if !got[i].same(want[i]) {
					t.Fatalf("seed %d: record %d is\n%+v, want\n%+v", seed, i, *got[i], *want[i])
				}
			}
			t.Fatalf("seed %d: %d records, want %d", seed, len(got), len(want))
		}
		if len(p.blocks) > 1 || len(p.blocks) > 0 != p.rests || p.boxes != 0 {
			t.Fatalf("seed %d: an empty pack has %d blocks and %d boxed records", seed, len(p.blocks), p.boxes)
		}
	}
}

// Expired records with their own Lifetime leave the middle.
func TestPackRemoves(t *testing.T) {
	p := pack{spare: &spare{}}
	for i := range 100 {
		r := record.Record{Value: fmt.Append(nil, i), Accepted: time.Unix(1, 0)}
		if i%3 == 0 {
			r.Lifetime = time.Duration(1 + i%2)
		}
		p.add(nil, &r, time.Duration(i), false, nil)
	}
	removed := 0
	p.remove(func(r *entry) bool {
		if r.Lifetime == 1 {
			removed++
		}
		return r.Lifetime == 1
	})
	if removed != 17 || p.n != 83 || p.boxes != 17 || p.born() != 1 {
		t.Errorf("%d removed, %d left, %d boxed, the first was born %d", removed, p.n, p.boxes, p.born())
	}
	next := 0
	for p.n > 0 {
		for next%6 == 0 {
			next++
		}
		if r := p.take(1, false)[0]; !bytes.Equal(r.Value, fmt.Append(nil, next)) || (r.Lifetime > 0) != (next%3 == 0) {
			t.Fatalf("%q where %d is to come", r.Value, next)
		}
		next++
	}
	p.add(nil, &record.Record{Lifetime: 1}, 0, false, nil)
	if p.remove(func(*entry) bool { return true }); p.n != 0 || len(p.blocks) != 1 || !p.rests {
		t.Errorf("%d left in %d blocks", p.n, len(p.blocks))
	}
}

// silent takes records and never answers, until Close.
type silent struct {
	receiver
	records []*record.Record
}

func (c *silent) Send(records []*record.Record, _ time.Time) {
	c.records = append(c.records, records...)
}
func (*silent) Permanent(error) (string, bool) { return "", false }
func (c *silent) Close() {
	for _, r := range c.records {
		c.done(r, errClosed)
	}
}

// Weight of a waiting record of 300 bytes with a key of 14, and objects in memory for a thousand of them,
// which is the collector's work. Measured with Go 1.26: 326 bytes and 10 objects; of many topics 377 and 22,
// because the last block of each has free space. A plain record would take 256 bytes and two pointers more.
func TestWhatAWaitingRecordWeighs(t *testing.T) {
	const n = 100_000
	for _, row := range []struct {
		name           string
		topics, batch  int
		bytes, objects float64
	}{{"slabs", 1, 170, 335, 12}, {"one at a time", 1, 1, 335, 12}, {"of a hundred topics by turns", 100, 170, 390, 30}} {
		t.Run(row.name, func(t *testing.T) {
			gate := &countGate{}
			o := New(Settings{Timeout: time.Hour, WindowRecords: 10_000}, &silent{}, gate, gate)
			defer o.Close()
			topics := make([]string, row.topics)
			for i := range topics {
				topics[i] = fmt.Sprintf("topic%d", i)
			}
			records, key, value := make([]record.Record, row.batch), make([]byte, 14), make([]byte, 300)
			kept, room := allocs.KeptBy(func() {
				for i := 0; i < n; {
					for j := range records {
						records[j] = record.Record{Topic: topics[i%row.topics], Key: key, Value: value, Accepted: time.Now(), Charge: 400}
						i++
					}
					o.Accept(records)
				}
			}, "reskafka/internal/outbox.(*Outbox).")
			bytes, objects := float64(room)/n, float64(kept)/n*1000
			t.Logf("%.0f bytes for each, %.1f objects for a thousand", bytes, objects)
			if bytes < 314 {
				t.Error("this cannot be all")
			}
			if bytes > row.bytes || objects > row.objects {
				t.Errorf("%.0f bytes for each and %.1f objects for a thousand, at most %.0f and %.0f are allowed", bytes, objects, row.bytes, row.objects)
			}
		})
	}
}

// Records that must not be lost go to disk at their deadline, also when packed behind records with more time.
func TestWhatIsPackedIsOverdueToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, d := &trouble{}, newDisk(func(what string) { t.Error(what) })
		o := New(Settings{Timeout: time.Second, WindowRecords: 1, Durability: record.Overflow}, &silent{}, h, h)
		o.Attach(func() (Spool, error) { return d, nil })
		synctest.Wait()
		var records []record.Record
		for i := range 30 {
			r := numbered("t", i, record.Unsaid)
			if i < 10 {
				r.Lifetime = time.Hour
			}
			records = append(records, r)
		}
		o.Accept(records)
		synctest.Wait()
		o.mtx.Lock()
		packed := o.lanes["t"].later.n
		o.mtx.Unlock()
		if packed < 20 {
			t.Fatalf("%d are packed", packed)
		}
		after(1100 * time.Millisecond)
		synctest.Wait()
		if c := o.Counters()[0]; c.Spooled != 20 || len(c.Dropped) > 0 {
			t.Errorf("account %+v, want 20 on disk", c)
		}
		o.Close()
	})
}
