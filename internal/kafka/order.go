package kafka

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// orderPatience bounds the waiting for promises, which takes microseconds: what is handed back after it is tried again.
const orderPatience = time.Second

// order keeps the records of one topic in order through failures. When kgo gives up a record to be tried again, it
// empties the partition, but tells so by promises that another goroutine makes a little later. A record handed to it
// in between would be sent, and overtake. So before kgo sends the first record of what it holds for a partition it is
// made to wait until every record that was there before has its outcome, and if one of them is to be tried again, it
// gets this one back unsent, with all that stands behind it.
//
// The way in is kgo's question whether the record's context has ended, which it asks at that very point, under the
// partition's lock. Waiting there is safe: promises need no lock of kgo, and done calls do not block.
type order struct {
	standing   atomic.Uint32 // isKnown or wasPurged, or neither
	batchBytes uint64        // see weight
	mtx        sync.Mutex
	settled    sync.Cond // some record got its outcome
	partitions []place
}

// What the client knows of a topic.
const (
	isKnown   = 1 // a record has its partition
	wasPurged = 2 // it has been made to forget the topic, at least once
)

// place is one partition: records enter it in the order in which they are sent, and leave it in the same.
type place struct {
	entered, left uint64
	acked         uint64   // up to here a broker has acknowledged what has not left yet, see runs
	failed        bool     // one that left is to be tried again, and has not come again yet
	emptied       uint64   // what entered up to here was there when a record was blamed
	weight        uint64   // of all that ever entered
	tail          *attempt // the last that entered, unless all have left
}

// newOrder is for a topic whose batches hold records of batchBytes at least, by weight.
func newOrder(batchBytes int) *order {
	o := &order{batchBytes: uint64(batchBytes)}
	o.settled.L = &o.mtx
	return o
}

// ordering is the hook that tells when a record has its partition. kgo calls it under the partition's lock.
type ordering struct{}

var _ kgo.HookProduceRecordPartitioned = ordering{}

// OnProduceRecordPartitioned implements kgo.HookProduceRecordPartitioned.
func (ordering) OnProduceRecordPartitioned(r *kgo.Record, _ int32) {
	a := r.Context.(*attempt)
	a.order.enter(a, int(r.Partition))
}

func (o *order) enter(a *attempt, partition int) {
	o.mtx.Lock()
	defer o.mtx.Unlock()
	if a.place != 0 {
		return
	}
	if missing := partition + 1 - len(o.partitions); missing > 0 {
		o.partitions = append(slices.Grow(o.partitions, missing), make([]place, missing)...)
	}
	if o.standing.Load() == 0 {
		o.standing.CompareAndSwap(0, isKnown)
	}
	p := &o.partitions[partition]
	if p.entered == p.left && !a.record.Withdrawn() {
		p.failed = false // this is the failed one come again: until then the outbox withdraws whatever it sends
	}
	p.entered++
	p.weight += weight(&a.kgo)
	if p.tail != nil {
		p.tail.next = a
	}
	p.tail = a
	a.partition, a.place, a.upTo = partition, p.entered, p.weight
}

// leave notes an outcome, after the outbox was told.
func (o *order) leave(a *attempt, again bool) {
	o.mtx.Lock()
	defer o.mtx.Unlock()
	if a.place == 0 {
		return // it never got as far as a partition
	}
	p := &o.partitions[a.partition]
	p.failed = p.failed || again
	o.gone(p, 1)
}

// gone notes that so many more have left.
func (o *order) gone(p *place, n int) {
	if p.left += uint64(n); p.left == p.entered {
		p.tail = nil // or an idle connection would hold on to what it sent last
	}
	o.settled.Broadcast()
}

// clear waits for those before a and says whether it may be sent.
func (o *order) clear(a *attempt) bool {
	o.mtx.Lock()
	defer o.mtx.Unlock()
	if a.place == 0 {
		return true
	}
	p := func() *place { return &o.partitions[a.partition] } // which may move while this waits
	before := func() bool { return max(p().left, p().acked) >= a.place-1 }
	if !before() {
		late := false
		timer := time.AfterFunc(orderPatience, func() {
			o.mtx.Lock()
			defer o.mtx.Unlock()
			late = true
			o.settled.Broadcast()
		})
		defer timer.Stop()
		for !before() && !late {
			o.settled.Wait()
		}
	}
	if !before() || p().failed {
		return false
	}
	if a.last == 0 {
		a.last = o.lastWith(p(), a)
	}
	return true
}

// blame says whether a record that came back refused for now was the one that was sent. kgo then gives back all that it
// holds for the partition, of which only the first is certain to have been sent at all.
func (o *order) blame(a *attempt) bool {
	o.mtx.Lock()
	defer o.mtx.Unlock()
	if a.place == 0 {
		return false
	}
	p := &o.partitions[a.partition]
	if a.place <= p.emptied {
		return false
	}
	p.emptied = p.entered
	return true
}

// over is the context's channel of a record that must not be sent.
var over = func() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// Done implements context.Context for kgo, see order.
func (a *attempt) Done() <-chan struct{} {
	if !a.order.clear(a) {
		a.held.Store(true)
		return over
	}
	return a.Context.Done()
}

// Err implements context.Context.
func (a *attempt) Err() error {
	if a.held.Load() {
		return errHeldBack
	}
	return a.Context.Err()
}
