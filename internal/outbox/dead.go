package outbox

import (
	"cmp"
	"slices"
	"time"

	"reskafka/internal/metrics"
	"reskafka/internal/record"
	"reskafka/internal/spool"
)

// Dead letters are a separate outcome: such a record is neither delivered nor dropped, and Retry sends the
// record again. Each dead letter is counted by topic and reason until retried, purged or given up. The spool
// keeps dead letters in one log, in the order of death; runs maps positions to topics and reasons, so the
// spool can give up letters unread.
type deadLetters struct {
	burying []letter       // being written by the spooler
	runs    []deadRun      // in the spool, by position
	older   metrics.Counts // of earlier runs, without topics before a read
	unsaid  []outcome      // given up, not logged yet
}

// letter is a dead letter in memory.
type letter struct {
	record.DeadLetter
	lane    *lane // nil = left by an earlier run
	written bool  // already in the spool, to be rewritten behind the others
}

// deadRun is a range of positions of the log of dead letters with the same topic and reason.
type deadRun struct {
	first, next uint64
	lane        *lane // nil = left by an earlier run
	reason      string
}

// reasonEarlier is the reason of an earlier run's dead letters.
const reasonEarlier = "earlier run"

// countedAs is the reason under which a dead letter is counted.
func (d *letter) countedAs() string {
	if d.lane == nil {
		return reasonEarlier
	}
	return d.Reason
}

// countsOf returns the counts of a lane, or of earlier runs' dead letters.
func (o *Outbox) countsOf(l *lane) *metrics.Counts {
	if l == nil {
		return &o.older
	}
	return &l.count
}

// bury makes a record a dead letter; the record has left its lane's queues and the totals of waiting or
// sending.
func (o *Outbox) bury(l *lane, r *entry, reason string, err error) outcome {
	r.stay()
	r.own()
	died := letter{DeadLetter: record.DeadLetter{Record: &r.Record, Reason: reason, At: time.Now()}, lane: l}
	if err != nil {
		died.Cause = err.Error()
	}
	l.count.AddFor(metrics.DeadLetters, reason, 1)
	o.queueDead(append(o.chores.bury, died))
	o.nudge()
	return o.conclude(l, outcome{record: r, reason: reason, err: err, dead: true})
}

// queueDead sets the spooler's next writes. While the disk hangs, the oldest dead letters are given up.
func (o *Outbox) queueDead(letters []letter) {
	if n := len(letters); n > 2*lettersMost {
		for i := range letters[:n-lettersMost] {
			o.dropDead(letters[i].lane, letters[i].countedAs(), record.ReasonDeadFull, 1)
		}
		letters = slices.Clone(letters[n-lettersMost:])
	}
	o.chores.bury = letters
}

// dropDead counts dead letters as dropped, with the reason.
func (o *Outbox) dropDead(l *lane, died, reason string, n int) {
	c, topic := o.countsOf(l), ""
	c.AddFor(metrics.DeadLetters, died, -n)
	c.AddFor(metrics.RecordsDropped, reason, n)
	if l != nil {
		topic = l.topic
	}
	o.unsaid = append(o.unsaid, outcome{topic: topic, reason: reason, records: n})
}

// tellGone logs the dead letters given up.
func (o *Outbox) tellGone() {
	o.mtx.Lock()
	gone := o.unsaid
	o.unsaid = nil
	o.mtx.Unlock()
	o.say(func() { o.tell(gone) })
}

// buryAll writes dead letters, or postpones the write.
func (o *Outbox) buryAll(letters []letter) {
	o.mtx.Lock()
	o.burying = letters
	o.mtx.Unlock()
	plain := make([]record.DeadLetter, len(letters))
	for i := range letters {
		plain[i] = letters[i].DeadLetter
	}
	written, err := o.spool.Bury(plain)
	log := o.spool.DeadLog()
	o.mtx.Lock()
	for i := range letters[:written] {
		letter := &letters[i]
		o.addRun(deadRun{log.Next - uint64(written-i), log.Next - uint64(written-i-1), letter.lane, letter.countedAs()})
	}
	for _, run := range o.takeRuns(log.First) { // the spool has made room
		o.dropDead(run.lane, run.reason, record.ReasonDeadFull, int(run.next-run.first))
	}
	o.burying = nil
	if written < len(letters) {
		o.queueDead(append(letters[written:len(letters):len(letters)], o.chores.bury...))
	}
	o.mtx.Unlock()
	if err != nil {
		o.note(err, toBury)
	}
	o.tellGone()
}

// addRun appends to the runs.
func (o *Outbox) addRun(run deadRun) {
	if n := len(o.runs); n > 0 {
		if last := &o.runs[n-1]; last.lane == run.lane && last.reason == run.reason && last.next == run.first {
			last.next = run.next
			return
		}
	}
	o.runs = append(o.runs, run)
}

// takeRuns removes all positions below next from the runs and returns them.
func (o *Outbox) takeRuns(next uint64) (taken []deadRun) {
	for len(o.runs) > 0 && o.runs[0].first < next {
		run := &o.runs[0]
		part := *run
		part.next = min(run.next, next)
		taken = append(taken, part)
		if run.first = part.next; run.first == run.next {
			o.runs = o.runs[1:]
		}
	}
	return taken
}

// takeOverDead enters the dead letters found at the spool's opening.
func (o *Outbox) takeOverDead(log spool.Log) {
	n := int(log.Next - log.First)
	if n == 0 {
		return
	}
	o.addRun(deadRun{log.First, log.Next, nil, reasonEarlier})
	o.older.Add(metrics.RecordsAccepted, n)
	o.older.Add(metrics.RecordsRestored, n)
	o.older.AddFor(metrics.DeadLetters, reasonEarlier, n)
}

// exhume removes the present dead letters from the spool after use returns: all letters of one topic, or of
// all topics for "". Later dead letters stay, even of the same records.
func (o *Outbox) exhume(spool Spool, topic string, use func([]letter) error) (n int, err error) {
	if o.forgetOwed(); o.owed != nil {
		return 0, o.cannotForget()
	}
	for end := spool.DeadLog().Next; ; {
		log := spool.DeadLog()
		if log.First >= end {
			return n, nil
		}
		letters, next, forget, err := spool.Exhume(int(min(readMost, end-log.First)))
		if err != nil || next == log.First {
			return n, err
		}
		wanted, others := o.unearth(letters, next, topic)
		if len(others) > 0 {
			o.buryAll(others)
		}
		if len(wanted) > 0 {
			err = use(wanted)
		}
		if err == nil {
			n += len(wanted)
		}
		if err == nil && !o.unburied() {
			err = forget()
		} else {
			o.owed = forget // or the next order would take the same letters
		}
		if err != nil || o.owed != nil {
			return n, cmp.Or(err, o.cannotForget())
		}
	}
}

// cannotForget returns the reason why taken dead letters are still in the spool.
func (o *Outbox) cannotForget() error {
	o.mtx.Lock()
	defer o.mtx.Unlock()
	return cmp.Or(o.failing[toWrite], o.failing[toBury])
}

// unearth enters the letters read from the log up to next: damaged letters are dropped, the rest is divided
// by topic. All still count as dead letters.
func (o *Outbox) unearth(letters []record.DeadLetter, next uint64, topic string) (wanted, others []letter) {
	o.mtx.Lock()
	i := 0
	for _, run := range o.takeRuns(next) {
		damaged := 0
		for p := run.first; p < run.next; p++ {
			if i == len(letters) || letters[i].Position != p {
				damaged++
				continue
			}
			letter := letter{letters[i], run.lane, true}
			if i++; topic == "" || letter.Record.Topic == topic {
				wanted = append(wanted, letter)
			} else {
				others = append(others, letter)
			}
		}
		if damaged > 0 {
			o.dropDead(run.lane, run.reason, record.ReasonDamaged, damaged)
		}
	}
	o.mtx.Unlock()
	o.tellGone()
	return wanted, others
}

// forgetOwed removes dead letters sent again or written elsewhere from the spool, after these records are on
// disk.
func (o *Outbox) forgetOwed() {
	if o.owed != nil && !o.unwritten() && !o.unburied() && o.owed() == nil {
		o.owed = nil
	}
}

// unburied reports whether dead letters taken from the spool are due for another write.
func (o *Outbox) unburied() bool {
	o.mtx.Lock()
	defer o.mtx.Unlock()
	return slices.ContainsFunc(o.chores.bury, func(letter letter) bool { return letter.written })
}

// revive queues dead letters for delivery again, as records on disk. The topic has accepted these records
// before, except records of an earlier run.
func (o *Outbox) revive(letters []letter) {
	records := make([]record.Record, len(letters))
	o.mtx.Lock()
	for i := range letters {
		from := letters[i].Record
		records[i] = record.Record{Topic: from.Topic, Key: from.Key, Value: from.Value, Headers: from.Headers,
			Accepted: from.Accepted, Durability: record.Disk}
		o.countsOf(letters[i].lane).AddFor(metrics.DeadLetters, letters[i].countedAs(), -1)
		if letters[i].lane == nil {
			o.older.Add(metrics.RecordsAccepted, -1)
			o.older.Add(metrics.RecordsRestored, -1)
			count := &o.lane(from.Topic).count
			count.Add(metrics.RecordsAccepted, 1)
			count.Add(metrics.RecordsRestored, 1)
		}
	}
	gone := o.enter(records, false)
	o.mtx.Unlock()
	o.say(func() { o.tell(gone) })
	o.signal()
}

// purgeDead drops dead letters taken from the spool.
func (o *Outbox) purgeDead(letters []letter) {
	o.mtx.Lock()
	for i := range letters {
		o.dropDead(letters[i].lane, letters[i].countedAs(), record.ReasonPurged, 1)
	}
	o.mtx.Unlock()
	o.tellGone()
}

// giveUpDead drops dead letters without hope of the disk. Caller must hold mtx.
func (o *Outbox) giveUpDead() (gone []outcome) {
	for _, letter := range slices.Concat(o.burying, o.chores.bury) {
		if !letter.written {
			o.dropDead(letter.lane, letter.countedAs(), record.ReasonStopped, 1)
		}
	}
	o.burying, o.chores.bury = nil, nil
	gone, o.unsaid = o.unsaid, nil
	return gone
}
