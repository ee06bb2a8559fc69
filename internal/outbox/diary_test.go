package outbox

import (
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"reskafka/internal/record"
)

// item is the diary's knowledge of a record, over all runs.
type item struct {
	id         int
	topic, key string
	want       record.Durability
	run        int // run of the acceptance
	released   int // by the gate, in this run
	delivered  int
	reports    int
	last       error
	lifetime   bool
	refused    bool           // a kill may undo the refusal, and the record arrives late
	frame      *atomic.Uint32 // frame in the stage; nil = none
	atKill     bool           // was alive when the process was killed
}

// diary follows every record through several runs of an outbox over a disk. It is gate, observer and watcher.
type diary struct {
	*dice
	t        *testing.T
	accept   sync.Mutex
	mtx      sync.Mutex
	items    []*item
	run      int
	deaf     bool // the run was killed: calls have no meaning
	last     map[string]int
	client   *client
	disk     *disk
	outbox   *Outbox
	moods    []string
	revived  bool              // dead letters were sent again, out of order
	unknown  map[string]uint64 // dropped by reason
	trouble  error
	died     int // dead letters reported to the observer
	account  int // records accepted in this run, without probes, if counting
	counting bool
	fails    int
	names    int

	lossless bool // every record is staged and none may be dropped: all arrive in order
	late     bool // the disk has not been attached yet
	wasLate  bool // in this run: earlier records stay in memory
}

func (g *diary) errorf(format string, args ...any) {
	if g.fails++; g.fails <= 5 {
		g.t.Errorf("run %d, %s: "+format, append([]any{g.run, time.Now().Format("15:04:05.000000")}, args...)...)
	}
}

func (g *diary) item(r *record.Record) *item {
	id, err := strconv.Atoi(string(r.Value))
	if err != nil || id >= len(g.items) {
		g.errorf("a record of unknown value %q", r.Value)
		return &item{}
	}
	return g.items[id]
}

func (g *diary) Release(r *record.Record) {
	g.mtx.Lock()
	defer g.mtx.Unlock()
	if g.deaf {
		return
	}
	if r.Staged != nil {
		r.Staged.Store(1)
	}
	defer spoil(r)
	it := g.item(r)
	if it.released++; it.released > 1 {
		g.errorf("record %d released %d times", it.id, it.released)
	}
	if it.run != g.run {
		g.errorf("record %d released in a later run", it.id)
	}
}

func (g *diary) Dropped(topic, reason string, records int, err error) {
	g.mtx.Lock()
	defer g.mtx.Unlock()
	if !g.deaf {
		g.unknown[reason] += uint64(records)
	}
}

func (g *diary) Died(topic, reason string, records int, err error) {
	g.mtx.Lock()
	defer g.mtx.Unlock()
	if !g.deaf {
		g.died += records
	}
}

func (g *diary) Spooling(err error) {
	g.mtx.Lock()
	defer g.mtx.Unlock()
	g.trouble = err
}

func (g *diary) Panicked(recovered any) { g.errorf("panic: %v", recovered) }

func (g *diary) send(c *client, records []*record.Record) {}

func (g *diary) deliver(_ *client, r *record.Record) {
	g.mtx.Lock()
	defer g.mtx.Unlock()
	it := g.item(r)
	it.delivered++
	if it.delivered > 1 || it.lifetime || it.refused {
		return
	}
	where := it.topic + "/" + it.key
	if last, ok := g.last[where]; ok && last > it.id && !g.revived {
		g.errorf("record %d of %s first delivered after %d", it.id, where, last)
	}
	g.last[where] = max(g.last[where], it.id)
}

func (g *diary) answer(_ *client, h handed, err error) {
	g.mtx.Lock()
	if errors.Is(err, errRefused) {
		g.item(h.record).refused = true
	}
	g.mtx.Unlock()
	h.client.done(h.record, err)
}

func (g *diary) misuse(c *client, what string) { g.errorf("%s: %s", c.name, what) }
func (g *diary) close(*client)                 {}

// script is the clients' behaviour.
func (g *diary) script(r *record.Record) answer {
	g.mtx.Lock()
	mood := "good"
	if n := int(r.Topic[len("topic")] - '0'); n < len(g.moods) {
		mood = g.moods[n]
	}
	g.mtx.Unlock()
	a := answer{after: time.Duration(g.roll(4)*g.roll(20)) * time.Millisecond, inline: g.one(3)}
	switch mood {
	case "mixed":
		switch g.roll(8) {
		case 0:
			if a.err = errRefused; g.lossless {
				a.err = errRetry
			}
		case 1:
			a.err = errRetry
		case 2:
			a.err, a.delivered = errRetry, true
		case 3:
			a.hang = g.one(4)
		}
	case "down":
		a.err = errRetry
	case "hung":
		a.hang = true
	}
	return a
}

func (g *diary) settings() Settings {
	s := Settings{
		Timeout:       pick(g.dice, time.Second, 300*time.Millisecond, 3*time.Second),
		WindowRecords: pick(g.dice, 10, 1, 3, 100),
		Backoff:       10 * time.Millisecond, BackoffMax: pick(g.dice, 50*time.Millisecond, time.Second),
		Durability:   pick(g.dice, record.Overflow, record.Overflow, record.Disk, record.Disk, record.Memory),
		QueueRecords: pick(g.dice, 20, 5, 100, 1000),
		QueueBytes:   pick(g.dice, int64(0), 0, 200),
		DropOldest:   g.one(4),
		MaxAge:       pick(g.dice, 0, 0, 0, 700*time.Millisecond),
	}
	if g.lossless {
		s.DropOldest, s.MaxAge, s.Durability = false, 0, pick(g.dice, record.Overflow, record.Disk)
	}
	return s
}

// check holds the account against itself and against the disk.
func (g *diary) check() {
	for _, fault := range g.outbox.verify() {
		g.errorf("%s", fault)
	}
	held := map[string]uint64{}
	g.disk.mtx.Lock()
	for topic, l := range g.disk.logs {
		held[topic] = l.next - l.first
	}
	g.disk.mtx.Unlock()
	all, accepted, dead := g.outbox.Counters(), 0, 0
	for _, c := range all {
		sum := c.Acknowledged + c.Waiting + c.Sending + c.Spooled
		for _, n := range c.Dropped {
			sum += n
		}
		for _, n := range c.Dead {
			sum += n
			dead += int(n)
		}
		accepted += int(c.Accepted - c.Restored)
		if sum != c.Accepted || c.Waiting > 1<<40 || c.Sending > 1<<40 || c.Spooled > 1<<40 {
			g.errorf("%s: accepted %d is not the sum of %+v", c.Topic, c.Accepted, c)
		}
		if c.Spooled > held[c.Topic] && g.trouble == nil {
			g.errorf("%s: %d spooled, and %d are on disk", c.Topic, c.Spooled, held[c.Topic])
		}
	}
	g.checkDead(accepted, dead)
}

// checkDead compares the account's dead letters with the disk, and checks that no record was accepted twice.
func (g *diary) checkDead(accepted, dead int) {
	g.mtx.Lock()
	produced, troubled := g.account, g.trouble != nil
	g.mtx.Unlock()
	if g.counting && accepted != produced {
		g.errorf("%d accepted by the account, %d by the calls", accepted, produced)
	}
	o := g.outbox
	o.mtx.Lock()
	unwritten, settled := len(o.chores.bury)+len(o.burying), o.owed == nil
	o.mtx.Unlock()
	g.disk.mtx.Lock()
	buried := len(g.disk.dead)
	g.disk.mtx.Unlock()
	if settled && !troubled && o.spool != nil && dead != buried+unwritten {
		g.errorf("%d dead letters by the account, %d on disk and %d to be written", dead, buried, unwritten)
	}
}

// outboxHas reports whether a record's report is still due, so it has no outcome.
func (g *diary) outboxHas(it *item) bool { return it.reports == 0 }
