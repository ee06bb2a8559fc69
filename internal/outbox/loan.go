package outbox

import (
	"runtime"
	"sync"
	"time"

	"reskafka/internal/metrics"
)

// Loan is records of one topic in memory that is not Go's, where they may stay while they wait and are sent: a slab of the
// stage. It goes back to its owner like a room goes back to the spare ones, see spare; and where the garbage collector would
// get a room, it calls for the owner. For that, whoever looks at a record's bytes holds the record.
//
// The exported fields are set by who offers it, and do not change.
type Loan struct {
	Topic   string
	Memory  []byte // nothing but the records, one behind the other. It does not change until it is given back.
	Records int    // how many there are, at least one
	Bytes   int64  // of their keys and values

	// Read reads the record that begins at a byte of Memory, of which it sets Key, Value, Accepted and Charge, and says where the
	// next one begins. The record is of the connection's durability and has no headers, report or lifetime of its own.
	Read func(memory []byte, at int, r *Record) (next int)

	// GiveBack is called once when Memory is not used any more, from any goroutine. It must not block, and must not refer to
	// the Loan.
	GiveBack func()

	room    room
	cleanup runtime.Cleanup
	wall    time.Time     // when it was accepted, by the wall clock
	now     time.Duration // and on the outbox's
	latest  time.Duration // when the latest of those that were read was
}

// AcceptLoan is Accept for the records of a loan, all of them or, with false, none: then nothing has happened. They are lent from
// the beginning of the call, and may have been given back at its end.
func (o *Outbox) AcceptLoan(l *Loan) bool {
	if !o.borrow(l) {
		return false
	}
	o.signal()
	return true
}

func (o *Outbox) borrow(loan *Loan) bool {
	o.mtx.Lock()
	defer o.mtx.Unlock()
	want := Memory
	if o.spooling() {
		want = max(o.settings.Durability, Memory)
	}
	l := o.lane(loan.Topic)
	if o.closing || o.ended || l.durable || want == Disk || want == Memory && o.wouldBeFull(loan) {
		return false
	}
	loan.begin(time.Now(), o.now(), o.born)
	o.born = loan.now // what comes later is not older on the outbox's clock
	l.count.Add(metrics.RecordsAccepted, loan.Records)
	l.strictest = max(l.strictest, want)
	o.waiting += loan.Records
	o.bytes += loan.Bytes
	l.later.addLoan(loan)
	o.dueAt(loan.born(0) + o.settings.Timeout)
	o.markReady(l)
	o.spillFull()
	return true
}

// wouldBeFull says whether the queue's limits are passed with a loan.
func (o *Outbox) wouldBeFull(l *Loan) bool {
	return o.beyond(int64(o.settings.QueueRecords-l.Records), o.settings.QueueBytes-l.Bytes)
}

// begin counts the loan.
func (l *Loan) begin(wall time.Time, now, latest time.Duration) {
	l.wall, l.now, l.latest = wall, now, latest
	l.room = room{loan: l, open: 1}
	size := int64(len(l.Memory))
	lent.out(size)
	l.cleanup = runtime.AddCleanup(l, func(giveBack func()) {
		lent.back(size)
		giveBack()
	}, l.GiveBack)
}

// end gives it back.
func (l *Loan) end() {
	l.cleanup.Stop()
	lent.back(int64(len(l.Memory)))
	if poisoning {
		poisonBytes(l.Memory)
	}
	l.GiveBack()
}

// next reads the record that begins there.
func (l *Loan) next(at int, r *Record) (next int) {
	next = l.Read(l.Memory, at, r)
	l.latest = max(l.latest, l.now-staged(r, l.wall))
	r.born = l.latest
	return next
}

// born is when the record that begins there was accepted.
func (l *Loan) born(at int) time.Duration {
	var r Record
	l.Read(l.Memory, at, &r)
	return max(l.latest, l.now-staged(&r, l.wall))
}

// lent is how much all outboxes have been lent. The collector does not see this memory, so it is called for it: when there
// is twice as much as was left the last time, and lentLeast. What it gives back are loans of records that were not acknowledged.
var lent lending

type lending struct {
	mtx   sync.Mutex
	bytes int64
	due   int64 // the collector is to be called when there are more
}

const lentLeast = 32 << 20

func (a *lending) out(size int64) {
	a.mtx.Lock()
	defer a.mtx.Unlock()
	if a.bytes += size; a.bytes > max(a.due, lentLeast) {
		a.due = 2*a.bytes + lentLeast
		go runtime.GC()
	}
}

func (a *lending) back(size int64) {
	a.mtx.Lock()
	defer a.mtx.Unlock()
	a.bytes -= size
	a.due = min(a.due, 2*a.bytes+lentLeast)
}
