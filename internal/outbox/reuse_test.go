package outbox

import (
	"bytes"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"reskafka/internal/record"
)

// looker is gate, owner of reports and client, and reads each record as long as allowed.
type looker struct {
	nobodyElse
	receiver
	t         *testing.T
	late      bool // the client answers after Send, and after the gate's release of a record on disk
	together  bool // by acknowledge
	frames    bool // the bytes lie in frames, and are not read after the release
	dawdle    time.Duration
	mtx       sync.Mutex
	looks     map[string]int
	answering sync.WaitGroup
}

// nobodyElse is an observer who expects nothing.
type nobodyElse struct{ countGate }

var seen = bytes.Repeat([]byte{'x'}, 300)

func (k *looker) look(where string, records ...*record.Record) {
	time.Sleep(k.dawdle)
	k.mtx.Lock()
	defer k.mtx.Unlock()
	for _, r := range records {
		if k.looks[where]++; r.Topic != "t" || !bytes.Equal(r.Value, seen) && !(k.frames && entryOf(r).released) {
			k.t.Errorf("%s: topic %q, a value of %d bytes", where, r.Topic, len(r.Value))
		}
	}
}

func (k *looker) Release(r *record.Record)            { k.look("release", r) }
func (k *looker) ReleaseAll(records []*record.Record) { k.look("release", records...) }
func (k *looker) report(r *record.Record, _ error)    { k.look("report", r) }
func (*looker) Permanent(error) (string, bool)        { return "", false }
func (k *looker) Close()                              { k.answering.Wait() }
func (k *looker) Send(records []*record.Record, _ time.Time) {
	answer := func() {
		if k.together {
			k.answered(records, nil)
			return
		}
		for _, r := range records {
			k.done(r, nil)
		}
	}
	if k.late {
		k.answering.Go(func() {
			time.Sleep(k.dawdle / 2)
			answer()
		})
		return
	}
	answer()
	k.look("send", records...)
}

// TestNothingGoesBackWhileSomebodyLooksAtIt checks that a record is intact for the gate, for the report, and
// for the client's Send until all have returned, also with an acknowledgement during the write to disk.
func TestNothingGoesBackWhileSomebodyLooksAtIt(t *testing.T) {
	for _, row := range []struct {
		name           string
		late, together bool
		durability     record.Durability
		dawdle         time.Duration
	}{
		{"one by one", false, false, record.Memory, 0},
		{"together", false, true, record.Memory, 0},
		{"on disk", false, true, record.Disk, 0},
		{"acknowledged while the keeper tells of it", true, true, record.Disk, time.Millisecond},
		{"and one by one", true, false, record.Disk, time.Millisecond},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := &looker{t: t, late: row.late, together: row.together, dawdle: row.dawdle, looks: map[string]int{}}
				o := New(Settings{Timeout: time.Hour, WindowRecords: 1000, Durability: row.durability}, k, k, k)
				o.Attach(func() (Spool, error) { return newDisk(func(what string) { t.Error(what) }), nil })
				const rounds, n = 30, 50
				for range rounds {
					var records []record.Record
					for range n {
						records = append(records, record.Record{Topic: "t", Value: seen, Accepted: time.Now(), Report: k.report})
					}
					o.Accept(records)
					time.Sleep(time.Second)
				}
				o.mtx.Lock()
				used := len(o.spare.chunks.list)
				if open := o.lanes["t"].later.open; open != nil {
					used++
				}
				o.mtx.Unlock()
				o.Close()
				if k.looks["release"] != rounds*n || k.looks["report"] != rounds*n || !row.late && k.looks["send"] != rounds*n {
					t.Errorf("looked at %v", k.looks)
				}
				if used == 0 {
					t.Error("no chunk has gone back")
				}
			})
		})
	}
}

// TestIdleKeepsLittle checks that memory for traffic is freed afterwards and reused meanwhile.
func TestIdleKeepsLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := &limit{}
		c := newWindow(1000)
		o := New(Settings{Timeout: time.Hour, WindowRecords: 100_000}, c, gate, gate)
		defer o.Close()
		key, value := make([]byte, 14), make([]byte, 300)
		records := make([]record.Record, 10_000)
		topics := []string{"t", "u", "v"}
		var rooms [2]int
		for round := range rooms {
			for i := range records {
				records[i] = record.Record{Topic: topics[i*3/len(records)], Key: key, Value: value, Accepted: time.Now()}
			}
			o.Accept(records)
			o.Drain(nil)
			synctest.Wait()
			o.mtx.Lock()
			rooms[round] = len(o.spare.rooms.list) + o.spare.rests
			o.mtx.Unlock()
		}
		if rooms[0] < 40 || rooms[1] > rooms[0]+3 {
			t.Errorf("%d rooms after the first round, %d after the second", rooms[0], rooms[1])
		}
		time.Sleep(3 * spareRest)
		synctest.Wait()
		o.mtx.Lock()
		defer o.mtx.Unlock()
		s := &o.spare
		if len(s.rooms.list) > spareKept || len(s.chunks.list) > spareKept || s.rests > 0 {
			t.Errorf("%d rooms, %d chunks and %d packs with something are left", len(s.rooms.list), len(s.chunks.list), s.rests)
		}
		for topic, l := range o.lanes {
			if len(l.later.blocks) > 0 || l.later.open != nil {
				t.Errorf("the pack of %s keeps %d blocks", topic, len(l.later.blocks))
			}
		}
	})
}
