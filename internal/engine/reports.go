package engine

import (
	"encoding/binary"
	"sync"

	"reskafka/internal/frame"
	"reskafka/internal/host"
	"reskafka/internal/record"
)

// Report is the outcome of one record, for the record's caller.
type Report struct {
	Opaque    uint64 // the caller's value
	Topic     string
	Partition int32 // -1 when not known
	Offset    int64 // -1 when not known
	Err       error // nil = acknowledged
}

// Reports is a queue of reports for one receiver. Outboxes add outcomes without blocking; Next removes
// outcomes. A record has one entry at most; the module limits the number of records.
type Reports struct {
	ID uint64 // the queue's number in frames

	mtx    sync.Mutex
	more   sync.Cond // queue or ended changed
	queue  []Report
	last   []Report // of the last Next
	ended  bool     // nothing will be added
	engine *Engine

	tell func(*record.Record, error) // add, made a value once
}

// OpenReports creates the queue of the given number. Errors: ErrStopped; ErrInvalid for a number in use,
// logged.
func (e *Engine) OpenReports(id uint64) (*Reports, error) {
	e.mtx.Lock()
	defer e.mtx.Unlock()
	if e.stopped {
		return nil, ErrStopped
	}
	if id == 0 || e.reports[id] != nil {
		host.Logf(e.log, host.Error, "a queue of delivery reports cannot have number %d, which is used", id)
		return nil, ErrInvalid
	}
	r := &Reports{ID: id, engine: e}
	r.tell = r.add
	r.more.L = &r.mtx
	e.reports[r.ID] = r
	return r, nil
}

// Next removes present reports, up to a limit, and blocks while there are none. again repeats the last
// result, lost by the caller, unless the last result was empty. False means the end of the reports: after
// Close, or at the end of the queue after Stop. Usable after Stop.
func (r *Reports) Next(most int, again bool) ([]Report, bool) {
	r.mtx.Lock()
	defer r.mtx.Unlock()
	if again && len(r.last) > 0 {
		return r.last, true
	}
	for len(r.queue) == 0 && !r.ended {
		r.more.Wait()
	}
	r.last = r.queue[:min(most, len(r.queue))]
	r.queue = r.queue[len(r.last):]
	if len(r.queue) == 0 {
		r.queue = nil // last keeps its memory
	}
	return r.last, len(r.last) > 0
}

// Close empties the queue permanently; Next returns false. The records continue. Idempotent, usable after
// Stop.
func (r *Reports) Close() {
	r.engine.mtx.Lock()
	delete(r.engine.reports, r.ID)
	r.engine.mtx.Unlock()
	r.end(true)
}

// end refuses further entries; now also removes the present ones.
func (r *Reports) end(now bool) {
	r.mtx.Lock()
	defer r.mtx.Unlock()
	r.ended = true
	if now {
		r.queue, r.last = nil, nil
	}
	r.more.Broadcast()
}

// add is the record.Record.Report of every record with this queue's number.
func (r *Reports) add(record *record.Record, err error) {
	report := Report{Opaque: record.Opaque, Topic: record.Topic, Partition: record.Partition, Offset: record.Offset, Err: err}
	if err != nil {
		report.Partition, report.Offset = -1, -1
	}
	r.mtx.Lock()
	defer r.mtx.Unlock()
	if r.ended {
		return
	}
	r.queue = append(r.queue, report)
	r.more.Signal()
}

// endReports ends every queue: all outcomes are there.
func (e *Engine) endReports() {
	e.mtx.Lock()
	defer e.mtx.Unlock()
	for _, r := range e.reports {
		r.end(false)
	}
}

// reportTo reads the field with the report's address and sets the record's part. ok is false for an invalid
// value. A closed queue gets nothing.
func (t *taking) reportTo(r *record.Record, value []byte) (ok bool) {
	if len(value) != frame.ReportSize {
		return false
	}
	id := binary.NativeEndian.Uint64(value)
	if t.reports == nil || t.reports.ID != id {
		e := t.connection.engine
		e.mtx.Lock()
		t.reports = e.reports[id]
		e.mtx.Unlock()
	}
	if t.reports != nil {
		r.Report, r.Opaque = t.reports.tell, binary.NativeEndian.Uint64(value[8:])
	}
	return true
}
