package outbox

import (
	"errors"
	"slices"
	"time"

	"reskafka/internal/record"
)

// errBusy is the answer to a command while the disk hangs. The command is carried out all the same.
var errBusy = errors.New("the disk does not answer; it is done when it does")

// errNotTaken is the answer to an order that the keeper never took.
var errNotTaken = errors.New("the disk does not answer; try again when it does")

// order makes the keeper execute do, waits, and returns the results.
func (o *Outbox) order(do func(Spool) (int, error)) (n int, err error) {
	if !o.Attached() {
		return 0, errNoSpool
	}
	type result struct {
		n   int
		err error
	}
	done := make(chan result, 1)
	order := func() {
		if o.spool == nil {
			o.mtx.Lock()
			defer o.mtx.Unlock()
			done <- result{0, o.trouble}
			return
		}
		n, err := do(o.spool)
		done <- result{n, err}
	}
	limit := time.NewTimer(orderPatience)
	defer limit.Stop()
	select {
	case o.orders <- order:
	case <-o.kept:
		return 0, errNoSpool
	case <-limit.C:
		return 0, errNotTaken
	}
	select {
	case r := <-done:
		return r.n, r.err
	case <-o.kept:
		return 0, errNoSpool
	case <-limit.C:
		return 0, errBusy
	}
}

// Purge drops all records on disk, all records waiting for the disk, and the dead letters, of one topic, or
// of all topics for "". The numbers are returned. Purge waits for the disk.
func (o *Outbox) Purge(topic string) (records, dead int, err error) {
	records, err = o.order(func(Spool) (n int, err error) {
		var gone []outcome
		o.mtx.Lock()
		for _, l := range o.lanes {
			if topic == "" || l.topic == topic {
				gone = append(gone, o.purge(l)...)
			}
		}
		o.mtx.Unlock()
		for _, out := range gone {
			if n += out.records; out.record != nil && !out.unknown {
				n++
			}
		}
		o.say(func() { o.tell(gone) })
		return n, nil
	})
	if err != nil {
		return records, 0, err
	}
	dead, err = o.order(func(spool Spool) (int, error) {
		return o.exhume(spool, topic, func(letters []letter) error {
			o.purgeDead(letters)
			return nil
		})
	})
	return records, dead, err
}

// cannotWrite is why nothing can be written for now, or nil.
func (o *Outbox) cannotWrite() error {
	o.mtx.Lock()
	defer o.mtx.Unlock()
	return o.failing[toWrite]
}

// purge drops the waiting records of a durable lane. Records in the client continue, but leave the disk:
// otherwise they would keep later records there, to be sent after the next start.
func (o *Outbox) purge(l *lane) (gone []outcome) {
	if !l.durable {
		return nil
	}
	gone = o.lost(l, l.read, l.next, record.ReasonPurged)
	l.read = l.next
	for r := l.flight.first; r != nil; r = r.nextSent {
		if r.position != 0 {
			l.done.set(r.position)
			r.position, r.givenUp = 0, purged
			l.shown--
		}
	}
	for _, r := range slices.Concat(l.returned, l.front, l.queue[l.head:], l.write) {
		if r.Lifetime > 0 || r.settled || r.inFlight {
			continue
		}
		if r.position != 0 {
			l.cached--
		}
		if r.behind {
			r.behind = false
			l.behind--
		}
		o.waiting--
		gone = append(gone, o.settle(l, r, record.ReasonPurged, nil))
	}
	drop := func(r *entry) bool { return r == nil || r.settled }
	l.returned = slices.DeleteFunc(l.returned, drop)
	l.front = slices.DeleteFunc(l.front, drop)
	l.queue, l.head = slices.DeleteFunc(l.queue[l.head:], drop), 0
	l.write = slices.DeleteFunc(l.write, drop)
	for l.later.n > 0 {
		records := l.unpacked(unpackMost)
		for i := range records {
			if r := &records[i]; r.Lifetime > 0 {
				l.queue = append(l.queue, r)
			} else {
				o.waiting--
				gone = append(gone, o.settle(l, r, record.ReasonPurged, nil))
			}
		}
	}
	gone = append(gone, o.loseUnread(l)...)
	o.moveOn(l)
	o.rest(l)
	return gone
}

// Retry requeues the dead letters and ends every wait before a retry, of one topic, or of all topics for "".
// The numbers of dead letters and of waiting topics are returned. Retry waits for the disk.
func (o *Outbox) Retry(topic string) (dead, topics int, err error) {
	dead, err = o.order(func(spool Spool) (int, error) {
		if err := o.cannotWrite(); err != nil { // the letters are safer on disk
			return 0, err
		}
		return o.exhume(spool, topic, func(letters []letter) error {
			o.revive(letters)
			for o.unwritten() {
				o.round()
				if err := o.cannotWrite(); err != nil {
					return err
				}
			}
			return nil
		})
	})
	o.mtx.Lock()
	for _, l := range o.lanes {
		if topic != "" && l.topic != topic {
			continue
		}
		if l.resume > o.now() {
			topics++
		}
		l.resume, l.failures = 0, 0
	}
	o.mtx.Unlock()
	o.signal()
	return dead, topics, err
}

// unwritten reports whether there are records to write.
func (o *Outbox) unwritten() bool {
	o.mtx.Lock()
	defer o.mtx.Unlock()
	return len(o.chores.write) > 0
}
