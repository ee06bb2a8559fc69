package engine

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"reskafka/internal/config"
	"reskafka/internal/event"
	"reskafka/internal/frame"
	"reskafka/internal/host"
	"reskafka/internal/ingest"
	"reskafka/internal/metrics"
	"reskafka/internal/outbox"
	"reskafka/internal/record"
)

// Take takes over frames for the connection of the given number. frame.Done is stored into a frame's state
// after the record is on disk or has an outcome, or after the frame is dropped. The module passes frames
// after OpenProducer has returned. Take never blocks for I/O.
func (e *Engine) Take(id uint64, r ingest.Range) {
	e.living.RLock()
	defer e.living.RUnlock()
	if e.ended {
		return
	}
	if c := e.byID(id); c != nil {
		e.takeRange(c, r)
	} else if _, ok := e.dropped.Allow(throttleKey("(none)", "of a connection that is not open")); ok { // after a violation of the module's contract
		host.Logf(e.log, host.Error, "%d bytes of records came for connection number %d, which is not open", len(r.Frames), id)
	}
}

// takeRange is Take for an open connection.
func (e *Engine) takeRange(c *connection, r ingest.Range) {
	t := takings.Get().(*taking)
	defer t.putBack()
	t.connection, t.handed = c, r
	t.inLots = r.Stays && r.States == nil
	edge := len(r.Frames)
	if err := t.walk(); err != nil {
		edge = 0
		// Impossible with a correct stage and an untouched folder. The log reports the frames lost behind it.
		if _, ok := e.dropped.Allow(throttleKey(c.name, "behind one that cannot be read")); ok {
			host.Logf(e.log, host.Error, "connection '%s': reading what was staged: %v; what is behind it is lost", c.name, err)
		}
	}
	t.handOverLots(edge)
	t.finish()
	c.tellAlone()
}

// walk reads the frames.
func (t *taking) walk() (err error) {
	walk := func() { err = frame.Walk(t.handed.Frames, t.frame, t.damaged) }
	if !t.handed.Lasting {
		walk()
	} else if frame.Faults(walk) {
		err = frame.ErrGone
	}
	return err
}

// finish passes the remaining records to the outbox.
func (t *taking) finish() {
	c := t.connection
	if t.broken > 0 {
		c.mtx.Lock()
		c.counts.Add(metrics.RecordsAccepted, t.broken)
		c.counts.AddFor(metrics.RecordsDropped, notEncodable, t.broken)
		c.mtx.Unlock()
	}
	if len(t.records) > 0 {
		t.handOver()
	}
}

// handOver passes the collected records to the outbox.
func (t *taking) handOver() {
	c := t.connection
	if t.recovered {
		c.engine.staging.underWay.Add(int64(len(t.records)))
	}
	c.box().Accept(t.records)
	t.forget()
}

// tellAlone logs, throttled, the records without room in shared memory.
func (c *connection) tellAlone() {
	now := c.gate.Load().Unshared.Load()
	c.mtx.Lock()
	n := now - c.alone
	c.alone = now
	c.mtx.Unlock()
	if n > 0 {
		c.tellDropped("staged in memory that is lost when Asterisk is killed: there is no shared memory left", int(n), nil)
	}
}

// takings are reused from slab to slab: the memory is free as soon as the outbox has the records.
var takings = sync.Pool{New: func() any { return &taking{records: make([]record.Record, 0, takenMost)} }}

// takenMost is how many records of a slab are handed to the outbox at once: few enough to stay in a processor's cache on the
// way. Room for as many, and for four times as many headers, is kept for the next slab.
const takenMost = 128

// putBack makes a taking ready for the next slab. After a panic, lots of this slab are left.
func (t *taking) putBack() {
	t.forget()
	t.forgetFields()
	clear(t.lots)
	if cap(t.records) <= takenMost && cap(t.headed) <= 4*takenMost && cap(t.fields) <= takenMost && cap(t.own) <= ownKept {
		*t = taking{records: t.records, headed: t.headed, fields: t.fields[:0], own: t.own, lots: t.lots[:0]}
		takings.Put(t)
	}
}

// ownKept is the limit of memory kept for the content of the next event.
const ownKept = 64 << 10

// forget drops the records passed to the outbox.
func (t *taking) forget() {
	clear(t.records)
	clear(t.headed)
	t.records, t.headed = t.records[:0], t.headed[:0]
}

// forgetFields lets go of the values of all events. The names stay: the next event mostly has the same, see addField.
func (t *taking) forgetFields() {
	all := t.fields[:cap(t.fields)]
	for i := range all {
		all[i] = event.Field{Name: all[i].Name}
	}
}

// taking passes the frames of one slab to the outbox: records in lots, events and copied slabs as records. The
// records point into the slab.
type taking struct {
	connection *connection
	lots       []outbox.Lot // of records that stay in the slab
	inLots     bool         // records may stay there
	records    []record.Record
	headed     []record.Header // memory of the records' headers
	topic      string          // the last frame's topic: a run of one topic needs one string
	fields     []event.Field
	reports    *Reports // of the last record with an address for its report
	broken     int

	own       []byte       // the content of an event's frame
	handed    ingest.Range // the frames
	recovered bool         // the frames of a leftover
	added     int          // records
	waiting   int          // frames of leftovers in wait for their source
}

// add adds the record of a frame.
func (t *taking) add(f *frame.Frame, r *record.Record) {
	r.Charge, r.Staged, r.Lasting = int64(f.Charge), t.handed.State(f.At), t.handed.Lasting
	if t.recovered {
		r.Charge = notStaged
	}
	if len(t.lots) > 0 { // the order within a topic
		t.handOverLots(0)
	}
	t.records = append(t.records, *r)
	t.added++
	if len(t.records) == takenMost {
		t.handOver()
	}
}

func (t *taking) frame(f *frame.Frame) {
	if f.Stored { // by an engine that has died
		t.end(f)
		return
	}
	if f.Source != 0 {
		t.event(f)
		return
	}
	if t.topic != string(f.Topic) || t.topic == "" {
		if t.topic = string(f.Topic); !isTopic(t.topic) {
			t.topic = ""
			t.drop("that cannot be read", f, errNoTopic)
			return
		}
	}
	if t.inLots && t.collect(f) {
		return
	}
	r := record.Record{Topic: t.topic, Key: f.Key, Value: f.Value, Accepted: time.Unix(0, f.AcceptedNS)}
	if f.FieldCount() > 0 {
		if err := t.headers(&r, f); err != nil {
			t.lose(f, err)
			if lost := r; lost.Report != nil { // a copy: only a lost record is worth an allocation
				lost.Report(&lost, err)
			}
			return
		}
	}
	t.add(f, &r)
}

// isTopic reports whether Kafka allows this name for a topic. The module checks the name too; this check
// prevents queues for a damaged module's random names.
func isTopic(name string) bool {
	for i := range len(name) {
		if !config.TopicByte(name[i]) {
			return false
		}
	}
	return name != "" && len(name) <= config.TopicLengthMax
}

var errNoTopic = errors.New("its topic is no name that Kafka allows")

// headers adds the fields of a record's frame.
func (t *taking) headers(r *record.Record, f *frame.Frame) error {
	var fault error
	from := len(t.headed)
	err := f.EachField(func(fd frame.Field) {
		switch {
		case fd.Kind != frame.KindReport:
			t.headed = append(t.headed, record.Header{Name: t.name(fd.Name), Value: fd.Value})
		case t.recovered: // the receiver is gone
		case !t.reportTo(r, fd.Value):
			fault = errNoReport
		}
	})
	r.Headers = t.headed[from:len(t.headed):len(t.headed)]
	return cmp.Or(err, fault)
}

// name returns a header's name as a string, if possible the string of an earlier header: most records of a
// slab have the same names.
func (t *taking) name(name []byte) string {
	for i := range min(len(t.headed), namesMost) {
		if known := t.headed[len(t.headed)-1-i].Name; known == string(name) {
			return known
		}
	}
	return string(name)
}

// namesMost is how many headers back a name is looked for.
const namesMost = 8

var errNoReport = errors.New("what asks for a report cannot be read")

// event makes a record from the frame's fields, with the frame's source.
func (t *taking) event(f *frame.Frame) {
	find := t.connection.engine.source
	if t.recovered {
		find = t.connection.engine.sourceOf
	}
	source := find(f.Source)
	if source == nil {
		t.lose(f, ErrNotFound)
		return
	}
	// The encoder reads some bytes twice, so the bytes must stay constant.
	var err error
	if t.own, err = f.Own(t.own); err != nil {
		t.lose(f, err)
		return
	}
	t.fields = t.fields[:0]
	if err := f.EachField(func(fd frame.Field) { t.addField(fd) }); err != nil {
		t.lose(f, err)
		return
	}
	accepted := time.Unix(0, f.AcceptedNS) // as opposed to now: equals the record's own time
	message, err := t.encode(source, accepted)
	if err != nil {
		t.lose(f, err)
		return
	}
	t.add(f, &record.Record{
		Topic: message.Topic, Key: message.Key, Value: message.Value, Headers: message.Headers, Accepted: accepted,
		Durability: source.Durability(),
	})
}

// addField adds a field of an event. An equal name in the same place of the last event is reused: new strings
// for names would be most of a call record's allocations.
func (t *taking) addField(fd frame.Field) {
	at := len(t.fields)
	t.fields = slices.Grow(t.fields, 1)[:at+1]
	name := t.fields[at].Name
	if name != string(fd.Name) {
		name = string(fd.Name)
	}
	t.fields[at] = eventField(name, fd)
}

// encode limits a panic to one event: the other events of the slab continue, and the next start does not
// repeat the panic.
func (t *taking) encode(source event.Source, accepted time.Time) (m event.Message, err error) {
	defer func() {
		if r := recover(); r != nil {
			e := t.connection.engine
			e.encodePanic.Do(func() { host.LogPanic(e.log, "an event source", r) })
			err = errPanic
		}
	}()
	return source.Encode(t.fields, accepted)
}

var errPanic = errors.New("a defect of the event source")

// notEncodable is the reason for a dropped frame without a possible record.
const notEncodable = record.ReasonUnreadable

// lose drops a frame without a possible record.
func (t *taking) lose(f *frame.Frame, err error) {
	what := fmt.Sprintf("for topic '%s'", f.Topic)
	if f.Source != 0 {
		what = fmt.Sprintf("of event source %d", f.Source&math.MaxUint32)
	}
	t.drop(what, f, err)
}

// damaged drops an unreadable frame.
func (t *taking) damaged(f *frame.Frame, err error) { t.drop("that cannot be read", f, err) }

// end marks a frame as done that needs no record.
func (t *taking) end(f *frame.Frame) {
	frame.Finish(t.handed.State(f.At), t.handed.Lasting)
	if !t.recovered {
		t.connection.gate.Load().Finish(1, int64(f.Charge))
	}
}

// drop counts a frame without a record, releases the memory, and logs the reason.
func (t *taking) drop(what string, f *frame.Frame, err error) {
	t.broken++
	t.connection.gate.Load().Dropped.Add(1)
	t.end(f)
	t.connection.tellDropped(what+" dropped, "+notEncodable, 1, err)
}

// eventField reads one field by kind; a value of the wrong length stays text.
func eventField(name string, fd frame.Field) event.Field {
	field := event.Field{Name: name, Kind: event.Kind(fd.Kind), Text: fd.Value}
	switch {
	case field.Kind == event.Integer && len(fd.Value) == 8:
		field.Integer = int64(binary.NativeEndian.Uint64(fd.Value))
	case field.Kind == event.Time && len(fd.Value) == 16:
		seconds := int64(binary.NativeEndian.Uint64(fd.Value))
		micros := int64(binary.NativeEndian.Uint64(fd.Value[8:]))
		field.Time = time.Unix(seconds, micros*1000)
	case field.Kind != event.Variable:
		field.Kind = event.Text
	}
	return field
}
