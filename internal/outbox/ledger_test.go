package outbox

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"reskafka/internal/record"
)

// slack is the tolerance for a late drop of a waiting record.
const slack = 20 * time.Millisecond

// place is where a record is, as seen from outside.
type place int

const (
	waiting place = iota
	inside
	answering // its done call is running
	settled
)

// line is the ledger's knowledge of a record.
type line struct {
	topic    string
	key      string
	size     int
	number   int       // index in its topic
	from     time.Time // earliest start of its time,
	latest   time.Time // and from here at the latest
	lifetime time.Duration
	place    place
	released int
	reports  int
	reported error
	last     error // the client's last answer
	direct   bool  // the answer was the outcome
	silent   bool  // has no Report
}

// account is the ledger's view of a topic.
type account struct {
	records   []*line // all, by number
	first     int     // everything before is settled
	inside    int
	bytes     int
	acked     uint64
	dropped   map[string]uint64
	delivered map[string]int // highest number of a first delivery, by key
	seen      map[int]bool

	proven  bool
	retried bool      // a record of the present round is to be tried again
	failed  time.Time // time of the last failure: a Send may cross the answer
	goods   int       // started answers that prove the topic reachable
	goodNow int       // and under way
}

// ledger follows every record from the outside and reports broken promises of the outbox. It is gate,
// observer and watcher of all clients of an outbox.
type ledger struct {
	t      *testing.T
	outbox *Outbox

	accept sync.Mutex // creating and accepting records is a single step, so the ledger knows their order

	mtx      sync.Mutex
	entries  []*line // by charge - 1: every record has its own charge
	topics   map[string]*account
	newest   time.Time // a stamp no record accepted so far is later than
	current  *client
	next     *client // last client passed to Swap
	since    time.Time
	asked    time.Time // when next was given
	clients  []*client
	closing  bool // Close has been called
	finished int  // Close has returned: no more outcomes of this number of first records
	complain int
}

func newLedger(t *testing.T) *ledger { return &ledger{t: t, topics: map[string]*account{}} }

func (g *ledger) errorf(format string, args ...any) {
	g.t.Helper()
	if g.complain++; g.complain <= 10 {
		g.t.Errorf("%s: "+format, append([]any{time.Now().Format("15:04:05.000000")}, args...)...)
	}
}

func (g *ledger) topic(name string) *account {
	a := g.topics[name]
	if a == nil {
		a = &account{dropped: map[string]uint64{}, delivered: map[string]int{}, seen: map[int]bool{}}
		g.topics[name] = a
	}
	return a
}

// open makes an outbox over c.
func (g *ledger) open(c *client) *Outbox {
	g.adopt(c)
	g.current, g.since = c, time.Now()
	g.outbox = New(c.settings, c, g, g)
	return g.outbox
}

func (g *ledger) adopt(c *client) {
	c.watch = g
	g.clients = append(g.clients, c)
}

// swap changes to c.
func (g *ledger) swap(c *client, patience time.Duration) {
	g.outbox.mtx.Lock()
	replaces := g.outbox.next != nil
	g.outbox.mtx.Unlock()
	g.mtx.Lock()
	g.adopt(c)
	if replaces && g.next == nil {
		g.current = c // the previous client is closed and its successor not yet in place
	} else {
		g.next, g.asked = c, time.Now()
	}
	g.mtx.Unlock()
	g.outbox.Swap(c, c.settings, patience)
}

// record creates a record with a followed outcome. The charge identifies it. Records must be accepted in the
// order of creation.
func (g *ledger) record(topic, key string, size int, staged, lifetime time.Duration, silent bool) record.Record {
	g.mtx.Lock()
	defer g.mtx.Unlock()
	now := time.Now()
	stamp := now.Add(-staged)
	e := &line{topic: topic, key: key, size: len(key) + size, from: stamp, lifetime: lifetime, silent: silent}
	if staged < 0 || staged > longestStaging {
		e.from = now
	}
	if g.newest.Before(e.from) {
		g.newest = e.from
	}
	e.latest = g.newest
	a := g.topic(topic)
	e.number = len(a.records)
	a.records = append(a.records, e)
	g.entries = append(g.entries, e)
	r := record.Record{Topic: topic, Key: []byte(key), Value: make([]byte, size), Accepted: stamp, Lifetime: lifetime,
		Charge: int64(len(g.entries))}
	if !silent {
		r.Report = func(_ *record.Record, err error) { g.report(e, err) }
	}
	return r
}

func (g *ledger) line(r *record.Record) *line { return g.entries[r.Charge-1] }

// Release implements Gate.
func (g *ledger) Release(r *record.Record) {
	charge := r.Charge
	spoil(r)
	g.mtx.Lock()
	if charge < 1 || charge > int64(len(g.entries)) {
		g.errorf("Release(%d): no record has this charge", charge)
		g.mtx.Unlock()
		return
	}
	e := g.entries[charge-1]
	e.released++
	if e.released > 1 {
		g.errorf("%s/%d released %d times", e.topic, e.number, e.released)
	}
	if e.place == inside {
		g.errorf("%s/%d has an outcome while it is inside the client", e.topic, e.number)
	}
	if e.place == waiting && !g.closing {
		g.checkExpiry(e)
	}
	e.direct = e.place == answering
	e.place = settled
	if charge <= int64(g.finished) {
		g.errorf("%s/%d released after Close", e.topic, e.number)
	}
	g.mtx.Unlock()
	g.checkSums() // without the outbox's lock
}

// timeLimit is when a record's time is up, at the earliest and at the latest.
func (g *ledger) timeLimit(e *line) (from, latest time.Time) {
	if e.lifetime > 0 {
		return e.from.Add(e.lifetime), e.latest.Add(e.lifetime)
	}
	timeout := g.current.settings.Timeout
	from, latest = e.from.Add(timeout), e.latest.Add(timeout)
	if latest.Before(g.since) {
		latest = g.since // ended by a swap to a shorter timeout
	}
	return from, latest
}

// checkExpiry checks a record at its drop from the queue.
func (g *ledger) checkExpiry(e *line) {
	now := time.Now()
	from, latest := g.timeLimit(e)
	if now.Before(from) {
		g.errorf("%s/%d dropped %v before its time", e.topic, e.number, from.Sub(now))
	}
	if now.After(latest.Add(slack)) {
		g.errorf("%s/%d dropped %v after its time", e.topic, e.number, now.Sub(latest))
	}
}

// Dropped implements Observer.
func (g *ledger) Dropped(topic, reason string, records int, err error) {
	g.mtx.Lock()
	g.topic(topic).dropped[reason] += uint64(records)
	g.mtx.Unlock()
	g.checkSums()
}

// Died implements Observer.
func (g *ledger) Died(topic, reason string, records int, err error) {
	g.errorf("%d records of %s died (%s) without a spool", records, topic, reason)
}

// Spooling implements Observer.
func (g *ledger) Spooling(error) {}

// Panicked implements Observer.
func (g *ledger) Panicked(recovered any) { g.errorf("the feeder panicked: %v", recovered) }

// report is a record's outcome.
func (g *ledger) report(e *line, err error) {
	g.mtx.Lock()
	defer g.mtx.Unlock()
	e.reports++
	if e.reports > 1 {
		g.errorf("%s/%d reported %d times", e.topic, e.number, e.reports)
	}
	if e.released != 1 {
		g.errorf("%s/%d reported before it was released", e.topic, e.number)
	}
	e.reported = err
	right := err == record.DroppedError(record.ReasonExpired)
	if e.direct {
		final := e.last == nil || e.last == errRefused
		right = final && err == e.last || !final && errors.Is(err, record.DroppedError(record.ReasonExpired)) && errors.Is(err, e.last)
	}
	if !right && (!g.closing || err != record.DroppedError(record.ReasonStopped) || e.direct && e.last == errRefused) {
		g.errorf("%s/%d has the outcome %v; the client's last word was %v, direct: %v", e.topic, e.number, err, e.last, e.direct)
	}
}

// send implements watcher.
func (g *ledger) send(c *client, records []*record.Record) {
	g.mtx.Lock()
	defer g.mtx.Unlock()
	if c != g.current {
		g.errorf("Send to %s while %s is the client", c.name, g.current.name)
	}
	if g.next != nil && time.Now().After(g.asked) {
		g.errorf("Send to %s, which is to make way for %s", c.name, g.next.name)
	}
	last := map[string]int{}
	for _, r := range records {
		e, a := g.line(r), g.topic(r.Topic)
		if n, ok := last[r.Topic]; ok && n >= e.number {
			g.errorf("%s: %d after %d in one batch", e.topic, e.number, n)
		}
		last[r.Topic] = e.number
		if e.place != waiting {
			g.errorf("%s/%d sent while it is not waiting (%d)", e.topic, e.number, e.place)
		}
		if time.Now().After(a.failed) {
			g.checkWindow(c, a, e)
			g.checkEarlier(a, e)
		}
		e.place = inside
		a.inside++
		a.bytes += e.size
		if from, latest := g.timeLimit(e); time.Now().After(latest.Add(slack)) {
			g.errorf("%s/%d sent %v after its time", e.topic, e.number, time.Since(from))
		}
	}
}

// checkWindow compares e, about to enter the client, with the window.
func (g *ledger) checkWindow(c *client, a *account, e *line) {
	switch {
	case a.inside == 0:
	case !a.proven:
		g.errorf("%s/%d sent beside %d others before the way has proven good", e.topic, e.number, a.inside)
	case a.inside >= c.settings.WindowRecords:
		g.errorf("%s/%d is number %d of a window of %d", e.topic, e.number, a.inside+1, c.settings.WindowRecords)
	case c.settings.WindowBytes > 0 && a.bytes+e.size > c.settings.WindowBytes:
		g.errorf("%s/%d makes %d bytes in a window of %d", e.topic, e.number, a.bytes+e.size, c.settings.WindowBytes)
	}
}

// checkEarlier reports whether a record accepted before e is still unsent. The ledger learns of the end of a
// record's time after the outbox, which may have sent e in between.
func (g *ledger) checkEarlier(a *account, e *line) {
	for a.first < len(a.records) && a.records[a.first].place == settled {
		a.first++
	}
	for _, before := range a.records[min(a.first, e.number):e.number] {
		if from, _ := g.timeLimit(before); before.place == waiting && time.Now().Before(from) {
			g.errorf("%s/%d sent while %d is waiting", e.topic, e.number, before.number)
			return
		}
	}
}

// deliver implements watcher.
func (g *ledger) deliver(_ *client, r *record.Record) {
	g.mtx.Lock()
	defer g.mtx.Unlock()
	e, a := g.line(r), g.topic(r.Topic)
	if a.seen[e.number] {
		return
	}
	a.seen[e.number] = true
	if last, ok := a.delivered[e.key]; ok && last > e.number {
		g.errorf("%s/%d first delivered after %d of the same key", e.topic, e.number, last)
	}
	a.delivered[e.key] = e.number
}

// answer implements watcher.
func (g *ledger) answer(_ *client, h handed, err error) {
	g.mtx.Lock()
	e, a := g.line(h.record), g.topic(h.record.Topic)
	e.place = answering
	a.inside--
	a.bytes -= e.size
	from, _ := g.timeLimit(e)
	good := err == nil || err == errRefused
	again := !good && !g.closing && time.Now().Before(from)
	e.last = err
	if good {
		a.proven = true
		a.goods++
		a.goodNow++
	}
	goods, quiet := a.goods, a.goodNow == 0
	g.mtx.Unlock()

	h.client.done(h.record, err)

	g.mtx.Lock()
	defer g.mtx.Unlock()
	if good {
		a.goodNow--
	}
	if err == nil && e.released == 1 {
		a.acked++
	}
	switch {
	case e.place == settled:
		if again && !g.closing {
			g.errorf("%s/%d not tried again after %v with time left", e.topic, e.number, err)
		}
	case good:
		g.errorf("%s/%d has no outcome after the answer %v", e.topic, e.number, err)
	default:
		e.place = waiting
		a.retried, a.failed = true, time.Now()
	}
	if !good && quiet && a.goods == goods {
		a.proven = false
		a.failed = time.Now() // an earlier batch may reach its Send only now
	}
	if a.inside == 0 && a.retried {
		a.proven, a.retried = false, false
	}
}

// misuse implements watcher.
func (g *ledger) misuse(c *client, what string) {
	g.mtx.Lock()
	defer g.mtx.Unlock()
	g.errorf("%s: %s", c.name, what)
}

// close implements watcher.
func (g *ledger) close(c *client) {
	g.mtx.Lock()
	defer g.mtx.Unlock()
	if c == g.current && g.next != nil && !g.closing {
		g.current, g.next, g.since = g.next, nil, time.Now()
		for _, a := range g.topics {
			a.proven, a.retried = false, false
		}
	}
}

// checkSums holds the outbox's counters against themselves.
func (g *ledger) checkSums() {
	for _, c := range g.outbox.Counters() {
		sum := c.Acknowledged + c.Waiting + c.Sending
		for _, n := range c.Dropped {
			sum += n
		}
		if c.Accepted != sum {
			g.mtx.Lock()
			g.errorf("%s: accepted %d is not the sum of %+v", c.Topic, c.Accepted, c)
			g.mtx.Unlock()
		}
	}
}

// check holds everything against the outbox. Nothing may be running.
func (g *ledger) check() {
	g.checkSums()
	counters := g.outbox.Counters()
	g.mtx.Lock()
	defer g.mtx.Unlock()
	if len(counters) != len(g.topics) {
		g.errorf("%d topics have counters, want %d", len(counters), len(g.topics))
	}
	for _, c := range counters {
		a := g.topics[c.Topic]
		var want Counters
		for _, e := range a.records {
			g.checkEntry(e)
			want.Accepted++
			switch e.place {
			case waiting:
				want.Waiting++
			case inside, answering:
				want.Sending++
			}
		}
		want.Acknowledged = a.acked
		if c.Accepted != want.Accepted || c.Waiting != want.Waiting || c.Sending != want.Sending ||
			c.Acknowledged != want.Acknowledged || fmt.Sprint(c.Dropped) != fmt.Sprint(a.dropped) {
			g.errorf("counters %+v, want %+v and dropped %v", c, want, a.dropped)
		}
	}
}

func (g *ledger) checkEntry(e *line) {
	switch {
	case e.place == settled && !e.silent && e.reports != 1:
		g.errorf("%s/%d has its outcome and %d reports", e.topic, e.number, e.reports)
	case e.place != settled && e.released+e.reports > 0:
		g.errorf("%s/%d is released or reported without an outcome", e.topic, e.number)
	case e.place == waiting:
		if _, latest := g.timeLimit(e); time.Now().After(latest.Add(slack)) {
			g.errorf("%s/%d still waits %v after its time", e.topic, e.number, time.Since(latest))
		}
	}
}

// end closes the outbox and checks that no earlier record is left.
func (g *ledger) end() {
	g.accept.Lock()
	g.mtx.Lock()
	g.closing = true
	before := len(g.entries)
	g.mtx.Unlock()
	g.accept.Unlock()
	start := time.Now()
	g.outbox.Close()
	took := time.Since(start)
	g.mtx.Lock()
	defer g.mtx.Unlock()
	g.finished = before
	if took > 2*slack {
		g.errorf("Close took %v", took)
	}
	for _, c := range g.clients {
		if n := c.closings(); n != 1 {
			g.errorf("%s was closed %d times", c.name, n)
		}
		if c.busy() {
			g.errorf("%s is still inside Send after Close", c.name)
		}
	}
	g.checkEnded(before)
}

// checkEnded checks that the first n records have had their outcome.
func (g *ledger) checkEnded(n int) {
	for _, e := range g.entries[:n] {
		if e.place != settled || e.released != 1 || (!e.silent && e.reports != 1) {
			g.errorf("%s/%d ends in place %d, released %d times, reported %d times", e.topic, e.number, e.place, e.released, e.reports)
		}
	}
}
