package outbox

import (
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"reskafka/internal/record"
	"reskafka/internal/spool"
)

// TestDurableHistories runs random lives of a connection with a disk, over stops, kills, and failures of
// client and disk. A failure's name has the seed, as in TestHistories.
func TestDurableHistories(t *testing.T) { runHistories(t, 2, liveOnDisk) }

// FuzzDurableHistory lets the fuzzer choose the decisions.
func FuzzDurableHistory(f *testing.F) { fuzzHistories(f, 3, 128, liveOnDisk) }

// open begins a run.
func (g *diary) open() {
	g.names++
	s := g.settings()
	g.client = newClient(fmt.Sprintf("client %d", g.names), s, g.script)
	g.client.watch = g
	g.outbox = New(s, g.client, g, g)
	g.late = !g.lossless && g.one(8)
	if g.wasLate = g.late; !g.late {
		g.attach() // records on disk come first
	} else {
		g.mtx.Lock()
		g.revived = true
		g.mtx.Unlock()
	}
	g.readopt()
}

// readopt makes the outbox accept the staged records of an earlier run.
func (g *diary) readopt() {
	var records []record.Record
	g.mtx.Lock()
	for _, it := range g.items {
		if it.frame == nil || it.frame.Load() != 0 {
			continue
		}
		it.run, it.released, it.reports = g.run, 0, -1
		g.account++
		records = append(records, record.Record{Topic: it.topic, Key: []byte(it.key), Value: fmt.Append(nil, it.id), Accepted: time.Now(), Durability: it.want, Staged: it.frame, Lasting: true})
	}
	g.mtx.Unlock()
	if len(records) > 0 {
		g.outbox.Accept(records)
	}
}

// attach adds the disk to the outbox.
func (g *diary) attach() {
	g.late = false
	opens := g.roll(3)
	d := g.disk
	g.outbox.Attach(func() (Spool, error) {
		if opens > 0 && g.one(2) && !g.lossless {
			opens--
			g.mtx.Lock()
			g.revived = true // records sent meanwhile overtake records on disk
			g.mtx.Unlock()
			return nil, errDisk
		}
		return d, nil
	})
}

func (g *diary) produce() {
	g.accept.Lock()
	defer g.accept.Unlock()
	var records []record.Record
	topic := g.roll(3)
	stay := g.one(3)
	g.mtx.Lock()
	for range pick(g.dice, 1, 1, 3, 20, 60) {
		if g.one(4) {
			topic = g.roll(3)
		}
		it := &item{id: len(g.items), topic: fmt.Sprintf("topic%d", topic), key: fmt.Sprint(g.roll(3)), run: g.run,
			want: pick(g.dice, record.Unsaid, record.Unsaid, record.Unsaid, record.Disk, record.Memory), lifetime: g.one(30)}
		g.items = append(g.items, it)
		if g.lossless {
			it.lifetime = false
			it.want = pick(g.dice, record.Unsaid, record.Unsaid, record.Disk)
		}
		r := record.Record{Topic: it.topic, Key: []byte(it.key), Value: []byte(fmt.Sprint(it.id)), Accepted: time.Now(), Durability: it.want}
		if !it.lifetime && (g.lossless || g.one(4)) {
			it.frame = &atomic.Uint32{}
			r.Staged, r.Lasting = it.frame, true
		}
		if it.lifetime {
			r.Lifetime, r.Probe = 400*time.Millisecond, g.one(2)
		}
		if !r.Probe {
			g.account++
		}
		run := g.run
		if !g.one(5) {
			r.Report = func(_ *record.Record, err error) {
				g.mtx.Lock()
				defer g.mtx.Unlock()
				if g.deaf || run != g.run {
					return
				}
				if it.reports++; it.reports > 1 {
					g.errorf("record %d reported %d times, %v and %v", it.id, it.reports, it.last, err)
				}
				it.last = err
			}
		} else {
			it.reports = -1
		}
		records = append(records, r)
	}
	g.mtx.Unlock()
	offer(g.outbox, records, stay)()
}

// end closes the outbox.
func (g *diary) end() {
	g.outbox.Close()
	if g.outbox.kept != nil {
		<-g.outbox.kept // a slow disk may have been left alone
	}
}

// stop ends a run like an unload of the module.
func (g *diary) stop() {
	g.accept.Lock()
	defer g.accept.Unlock()
	if g.one(2) {
		g.outbox.Spill()
	}
	g.end()
	g.mtx.Lock()
	defer g.mtx.Unlock()
	for _, it := range g.items {
		if it.run == g.run && it.reports == 0 {
			g.errorf("record %d was not reported by the end", it.id)
		}
		if it.run == g.run && it.released != 1 && (it.frame == nil || it.released > 1 || g.trouble == nil) {
			g.errorf("record %d was released %d times by the end", it.id, it.released)
		}
	}
	stopped := g.unknown[record.ReasonStopped]
	kept := 0
	for _, it := range g.items {
		if it.run == g.run && (it.lifetime || it.want == record.Memory || it.want == record.Unsaid) {
			kept++
		}
	}
	if g.trouble == nil && !g.wasLate && stopped > uint64(kept) {
		g.errorf("%d given up, and only %d may be", stopped, kept)
	}
	if n := g.disk.closed; n != 1 && g.trouble == nil && !g.late {
		g.errorf("the spool was closed %d times", n)
	}
}

// kill ends a run like kill -9: later calls have no effect. Records released by the gate must be on disk, in
// order, or have an outcome.
func (g *diary) kill() {
	synctest.Wait()
	next := g.disk.boot()
	g.mtx.Lock()
	g.deaf = true
	for _, it := range g.items {
		it.atKill = true
	}
	dead := map[string]bool{}
	for _, letter := range next.dead {
		dead[string(letter.Record.Value)] = true
	}
	on := map[string]bool{}
	for topic := range next.logs {
		for _, v := range next.values(topic) {
			on[v] = true
		}
	}
	for _, it := range g.items {
		if !next.dropped && it.run == g.run && it.released == 1 && it.reports == 0 && !on[fmt.Sprint(it.id)] && g.outboxHas(it) {
			g.errorf("record %d was released and is neither on disk nor has an outcome", it.id)
		}
	}
	g.mtx.Unlock()
	g.end()
	g.mtx.Lock()
	g.deaf = false
	g.mtx.Unlock()
	g.disk = next
}

func (g *diary) step() {
	switch g.roll(16) {
	case 0, 1, 2, 3:
		g.produce()
	case 4, 5, 6:
		time.Sleep(time.Duration(1+g.roll(50)) * time.Millisecond)
	case 7:
		time.Sleep(time.Duration(1+g.roll(30)) * 100 * time.Millisecond)
	case 8:
		moods := make([]string, 3)
		for i := range moods {
			moods[i] = pick(g.dice, "good", "good", "mixed", "down", "hung")
		}
		g.mtx.Lock()
		g.moods = moods
		g.mtx.Unlock()
	case 9:
		slow := pick(g.dice, 0, 0, 3, 200)
		g.disk.mtx.Lock()
		g.disk.trouble = pick(g.dice, nil, nil, nil, errDisk)
		g.disk.most, g.disk.mostDead = pick(g.dice, 0, 0, 50, 10), pick(g.dice, 0, 0, 3)
		g.disk.slow = func() time.Duration { return time.Duration(slow) * time.Millisecond }
		g.disk.mtx.Unlock()
	case 10:
		s := g.settings()
		g.outbox.Adjust(func(old *Settings) {
			old.Durability, old.QueueRecords, old.DropOldest = s.Durability, s.QueueRecords, s.DropOldest
		}, spool.Limits{})
	case 11:
		if g.one(2) {
			g.names++
			c := newClient(fmt.Sprintf("client %d", g.names), g.settings(), g.script)
			c.watch = g
			g.outbox.Swap(c, c.settings, pick(g.dice, 0, 200*time.Millisecond))
		}
	case 12:
		what := g.roll(6)
		if g.lossless {
			what = 0
		}
		switch what {
		case 4:
			g.mtx.Lock()
			g.revived = true
			g.mtx.Unlock()
			g.outbox.Retry(pick(g.dice, "", "topic0", "topic1"))
		case 5:
			g.mtx.Lock()
			g.revived = true // a kill may undo the retry
			g.mtx.Unlock()
			g.disk.mtx.Lock()
			g.disk.dropped = true // records in the client leave the disk too
			g.disk.mtx.Unlock()
			g.outbox.Purge(pick(g.dice, "", "", "topic0"))
		}
	case 13:
		g.outbox.Spill()
	case 14:
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(g.produce)
		}
		time.Sleep(time.Duration(g.roll(20)) * time.Millisecond)
		wg.Wait()
	case 15:
		switch {
		case g.late:
			g.mtx.Lock()
			g.revived = true // earlier sends overtake records on disk
			g.mtx.Unlock()
			g.attach()
		case !g.lossless:
			bad := uint64(g.roll(20))
			g.disk.mtx.Lock()
			g.disk.damage = func(_ string, position uint64) bool { return position%16 == bad }
			g.disk.mtx.Unlock()
		}
	}
}

// liveOnDisk runs a history in a synctest bubble.
func liveOnDisk(t *testing.T, d *dice) {
	g := &diary{dice: d, t: t, last: map[string]int{}, unknown: map[string]uint64{}}
	g.disk = newDisk(func(what string) { g.errorf("%s", what) })
	g.lossless, g.counting = d.one(2), true
	defer packing(d)()
	defer func(before int) { readAhead = before }(readAhead)
	readAhead = pick(d, 512, 2, 10)
	for g.run = range 1 + d.roll(4) {
		g.unknown, g.account = map[string]uint64{}, 0
		g.open()
		for range 10 + d.roll(40) {
			if !d.left() {
				break
			}
			g.step()
			if d.roll(4) > 0 {
				synctest.Wait()
				g.check()
			}
		}
		if g.late {
			g.attach()
		}
		g.mtx.Lock()
		if g.unknown[record.ReasonDamaged] > 0 || g.died > 0 {
			g.revived = true // letters come again, after other records, if earlier records are still on disk
		}
		g.mtx.Unlock()
		if d.one(3) {
			g.getWell()
		}
		if d.one(2) {
			g.stop()
			g.disk = g.disk.boot()
		} else {
			g.kill()
		}
	}
	if !g.lossless {
		g.last = map[string]int{}
	}
	// after the last run, which delivers the rest
	g.recover()
}

// getWell repairs client and disk and waits until every record has its outcome.
func (g *diary) getWell() {
	g.mtx.Lock()
	g.moods = nil
	g.mtx.Unlock()
	g.disk.mtx.Lock()
	g.disk.trouble, g.disk.slow, g.disk.most = nil, nil, 0
	g.disk.mtx.Unlock()
	cancel := make(chan struct{})
	timer := time.AfterFunc(2*time.Hour, func() { close(cancel) }) // a hanging client hangs for an hour
	defer timer.Stop()
	if !g.outbox.Drain(cancel) {
		g.errorf("not empty after everything got well: %+v", g.outbox.Counters())
	}
}

// recover is a further run with a working client and disk: every record on disk arrives.
func (g *diary) recover() {
	g.run++
	g.mtx.Lock()
	g.moods = nil
	g.mtx.Unlock()
	g.disk.mtx.Lock()
	g.disk.trouble, g.disk.slow, g.disk.most, g.disk.damage = nil, nil, 0, nil
	g.disk.mtx.Unlock()
	var want []string
	for topic := range g.disk.logs {
		want = append(want, g.disk.values(topic)...)
	}
	s := Settings{Timeout: time.Minute, WindowRecords: 10, Durability: record.Overflow}
	g.client = newClient("good client", s, func(*record.Record) answer { return answer{} })
	g.client.watch = g
	g.outbox = New(s, g.client, g, g)
	g.outbox.Attach(func() (Spool, error) { return g.disk, nil })
	g.readopt()
	time.Sleep(time.Millisecond)
	cancel := make(chan struct{})
	timer := time.AfterFunc(time.Minute, func() { close(cancel) })
	defer timer.Stop()
	if !g.outbox.Drain(cancel) {
		g.errorf("not empty a minute after everything got well: %+v", g.outbox.Counters())
	}
	synctest.Wait()
	for _, value := range want {
		id, _ := strconv.Atoi(value)
		if g.items[id].delivered == 0 {
			g.errorf("record %d was on disk and has not arrived", id)
		}
	}
	for _, it := range g.items {
		if g.lossless && it.delivered == 0 {
			g.errorf("record %d has not arrived", it.id)
		}
	}
	for topic := range g.disk.logs {
		if left := g.disk.values(topic); len(left) > 0 {
			g.errorf("%d records of %s are still on disk", len(left), topic)
		}
	}
	g.end()
}
