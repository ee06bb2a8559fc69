package outbox

import (
	"cmp"
	"slices"
	"sync/atomic"
	"time"

	"reskafka/internal/metrics"
)

// lane is the queue of a topic. Order matters per key, so per topic at most; separate lanes prevent an
// undeliverable topic from blocking others. The outbox's mutex guards everything.
type lane struct {
	topic string

	front []*entry // to be sent before queue: returned by the client, in order
	queue []*entry // never sent; queue[head:] is left
	head  int
	later pack   // accepted behind queue and write
	seq   uint64 // counts records taken from later or from disk

	own   int           // records of front, queue, later and returned with a Lifetime
	swept time.Duration // time of the last scan of the whole queue for own

	probes     int // among all records in memory
	probesSent int // and among records in the client

	sending      int // records inside the client, which are linked in flight
	sendingBytes int

	returned []*entry      // failed with time left while draining, in no order
	draining bool          // a record is to be tried again: nothing is sent until the client has returned the rest
	proven   bool          // the last answer was an acknowledgement: the whole window may be used
	failures int           // failed rounds since the last acknowledgement
	refusal  error         // the brokers' last answer in those rounds, if a Refusal: why records wait
	resume   time.Duration // not to be sent before
	ready    bool          // is in the feeder's list

	withdrawn atomic.Bool // draining, for the client to read

	shelf
	count metrics.Counts
}

// ahead returns the number of records ready to send next.
func (l *lane) ahead() int { return len(l.front) + len(l.queue) - l.head }

func (l *lane) waiting() int { return l.ahead() + l.later.n }

// memory returns the number of the lane's records in memory, including the client.
func (l *lane) memory() int { return l.waiting() + len(l.returned) + l.behind + l.sending }

// Number of records unpacked at once: few for a topic with a window of one. Tests change it.
var (
	unpackMost  = 64
	unpackFirst = 4
)

// peek is the record to be sent next.
func (l *lane) peek() *entry {
	if l.ahead() == 0 && l.later.n > 0 && (!l.durable || l.read == l.next && l.behind == 0) {
		l.unpack(unpackMost)
	}
	if len(l.front) > 0 {
		return l.front[0]
	}
	if l.head < len(l.queue) {
		return l.queue[l.head]
	}
	return nil
}

// place assigns a record its place behind the present records.
func (l *lane) place(r *entry) {
	r.seq = l.seq
	l.seq++
}

// unpack moves the oldest packed records behind the queue, and into write if necessary.
func (l *lane) unpack(most int) {
	if !l.proven {
		most = min(most, unpackFirst)
	}
	records := l.unpacked(most)
	for i := range records {
		r := &records[i]
		l.queue = append(l.queue, r)
		if l.durable && r.Lifetime == 0 {
			l.toWrite(r)
		}
	}
}

// unpacked removes and returns the oldest packed records.
func (l *lane) unpacked(most int) []entry {
	records := l.later.take(most, l.durable)
	for i := range records {
		r := &records[i]
		r.Topic, r.lane, r.Hold = l.topic, l, &l.withdrawn
		l.place(r)
	}
	return records
}

func (l *lane) pop() {
	if l.peek().Lifetime > 0 {
		l.own--
	}
	if len(l.front) > 0 {
		l.front[0] = nil
		l.front = l.front[1:]
		return
	}
	l.queue[l.head] = nil
	l.head++
	// Drop the consumed part once it is half of a queue worth the copy.
	if l.head == len(l.queue) {
		l.queue, l.head = l.queue[:0], 0
	} else if l.head >= 1024 && l.head*2 >= len(l.queue) {
		n := copy(l.queue, l.queue[l.head:])
		clear(l.queue[n:])
		l.queue, l.head = l.queue[:n], 0
	}
}

// sweepPause is the least time between two looks at a whole queue, which may be long.
const sweepPause = 5 * time.Millisecond

// expire removes expired records and returns the time of the next check, 0 = nothing waits. The queues are in
// the order of deadlines, so the heads suffice; exceptions are records returned during a drain, and queues
// with a record with a Lifetime.
func (l *lane) expire(now time.Duration, due func(*entry) time.Duration) (late []*entry, again time.Duration) {
	for r := l.peek(); r != nil; r = l.peek() {
		if again = due(r); now < again {
			break
		}
		again = 0
		l.pop()
		late = append(late, r)
	}
	if l.own == 0 && len(l.returned) == 0 {
		return late, again
	}
	if next := l.swept + sweepPause; now < next {
		if again != 0 {
			next = min(next, again)
		}
		return late, next
	}
	l.swept = now
	for l.later.n > 0 && now >= l.laterDue(due) {
		l.unpack(unpackMost)
	}
	isLate := func(r *entry) bool {
		if at := due(r); now < at {
			if again == 0 || at < again {
				again = at
			}
			return false
		}
		if r.Lifetime > 0 {
			l.own--
		}
		late = append(late, r)
		return true
	}
	l.returned = slices.DeleteFunc(l.returned, isLate)
	if l.own > 0 {
		l.front = slices.DeleteFunc(l.front, isLate)
		l.queue = l.queue[:l.head+len(slices.DeleteFunc(l.queue[l.head:], isLate))]
		l.later.remove(isLate)
	}
	if l.later.n > 0 {
		if at := l.laterDue(due); again == 0 || at < again {
			again = at
		}
	}
	return late, again
}

// laterDue returns the deadline of the first packed record, without regard to a Lifetime. There must be a
// packed record.
func (l *lane) laterDue(due func(*entry) time.Duration) time.Duration {
	return due(&entry{lane: l, born: l.later.born()})
}

// launch notes that the record popped from the head enters the client.
func (l *lane) launch(r *entry) {
	r.sent = int64(r.Size())
	l.sending++
	if r.Probe {
		l.probesSent++
	}
	l.sendingBytes += int(r.sent)
	if r.position != 0 {
		l.cached--
		l.shown++
	}
	r.inFlight, r.priorSent, r.nextSent = true, l.flight.last, nil
	if r.priorSent == nil {
		l.flight.first = r
	} else {
		r.priorSent.nextSent = r
	}
	l.flight.last = r
}

// land notes the client's answer for a record.
func (l *lane) land(r *entry) {
	l.sending--
	if r.Probe {
		l.probesSent--
	}
	l.sendingBytes -= int(r.sent)
	if r.position != 0 {
		l.shown--
		l.cached++
	}
	if r.priorSent == nil {
		l.flight.first = r.nextSent
	} else {
		r.priorSent.nextSent = r.nextSent
	}
	if r.nextSent == nil {
		l.flight.last = r.priorSent
	} else {
		r.nextSent.priorSent = r.priorSent
	}
	r.inFlight, r.priorSent, r.nextSent = false, nil, nil
}

// takeBack stores a record for a retry until the client has returned the rest. Its memory is not reused.
func (l *lane) takeBack(r *entry) {
	r.stay()
	r.own()
	if r.Lifetime > 0 {
		l.own++
	}
	l.returned = append(l.returned, r)
	l.draining = true
	l.withdrawn.Store(true)
}

// putBack restores the client's returned records to their place before all later records. All were sent
// before any record now in front or queue, so only the returned records need sorting.
func (l *lane) putBack() {
	slices.SortFunc(l.returned, func(a, b *entry) int { return cmp.Compare(a.seq, b.seq) })
	l.front = append(l.returned, l.front...)
	l.returned = nil
	l.draining, l.proven = false, false
	l.withdrawn.Store(false)
}

// overdue reports whether a record that must not be dropped is late.
func (l *lane) overdue(now time.Duration, due func(*entry) time.Duration) bool {
	late := func(r *entry) bool { return r.Lifetime == 0 && now >= due(r) }
	if r := l.peek(); l.own == 0 && len(l.returned) == 0 {
		return r != nil && late(r)
	}
	return slices.ContainsFunc(l.returned, late) || slices.ContainsFunc(l.front, late) || slices.ContainsFunc(l.queue[l.head:], late) ||
		l.later.n > 0 && now >= l.laterDue(due)
}

// takeAll empties the lane of sendable, unpacked records.
func (l *lane) takeAll() []*entry {
	all := slices.Concat(l.returned, l.front, l.queue[l.head:])
	l.returned, l.front, l.queue, l.head = nil, nil, nil, 0
	return all
}

// room reports whether the lane may pass r to the client now. Until the first acknowledgement, a window of
// one bounds the records of an unreachable or unknown topic in the client. A record larger than the window's
// bytes goes alone.
func (l *lane) room(r *entry, w clientLimit) bool {
	if l.sending == 0 {
		return true
	}
	if !l.proven || l.sending >= w.records {
		return false
	}
	return w.bytes == 0 || l.sendingBytes+r.Size() <= w.bytes
}
