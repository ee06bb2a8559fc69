package engine

import (
	"encoding/binary"
	"math"
	"slices"
	"time"
	"unsafe"

	"reskafka/internal/frame"
	"reskafka/internal/outbox"
	"reskafka/internal/record"
)

// A lot is the records of one topic in a part of a slab. The outbox reads each record at its turn. Another
// process may have written to the memory meanwhile, so each number is checked again.
type lot struct {
	gate    *Gate
	memory  []byte // up to the end of the lot's last frame; the capacity is the rest of the slab
	at      int    // of the next frame to look at
	runs    []run  // of the lot's unread frames
	few     [2]run // memory of short runs
	unread  int64  // frames
	charge  int64  // of the unread frames at the hand-over, and of the lost frames
	lost    int64  // frames without a readable record at their turn, not yet finished at the gate
	edge    int    // up to here every frame was complete at the hand-over; 0 = not known
	topic   string
	reports *Reports // for the records with a report; nil = none has one
	lasting bool
	names   []string // of the headers of the last record
}

// A run is a number of contiguous frames. start counts granules from the start of the lot's memory.
type run struct{ start, frames uint16 }

// lotsMost is the number of lots of a range that are collected before their hand-over.
const lotsMost = 16

// collect adds the frame of a record to the lot of its topic. It reports whether the record may be in a lot.
func (t *taking) collect(f *frame.Frame) bool {
	reports, ok := t.receiver(f)
	if !ok || f.End/frame.SlabGranule > math.MaxUint16 {
		return false
	}
	if len(t.records) > 0 { // of events: the order within a topic
		t.handOver()
	}
	accepted := time.Unix(0, f.AcceptedNS)
	p := t.lotFor(reports)
	if p == nil {
		l := &lot{gate: t.connection.gate.Load(), at: f.At, topic: t.topic, lasting: t.handed.Lasting}
		l.runs = l.few[:0]
		t.lots = append(t.lots, outbox.Lot{Topic: t.topic, First: accepted, Last: accepted, Frames: l})
		p = &t.lots[len(t.lots)-1]
	}
	if accepted.After(p.Last) {
		p.Last = accepted
	}
	p.Records++
	p.Bytes += int64(len(f.Key) + len(f.Value))
	l := p.Frames.(*lot)
	l.add(t.handed.Frames, f)
	if reports != nil {
		l.reports = reports
	}
	t.added++
	return true
}

// add adds a frame of memory to the lot.
func (l *lot) add(memory []byte, f *frame.Frame) {
	if n := len(l.runs); n > 0 && len(l.memory) == f.At {
		l.runs[n-1].frames++
	} else {
		l.runs = append(l.runs, run{uint16(f.At / frame.SlabGranule), 1})
	}
	l.memory = memory[:f.End]
	l.unread++
	l.charge += int64(f.Charge)
}

// receiver returns the receiver of a record's report, nil for none. ok = false: a field of the record is
// invalid.
func (t *taking) receiver(f *frame.Frame) (reports *Reports, ok bool) {
	if f.FieldCount() == 0 {
		return nil, true
	}
	var r record.Record
	ok = true
	err := f.EachField(func(fd frame.Field) {
		if fd.Kind == frame.KindReport {
			ok = t.reportTo(&r, fd.Value) && ok
			reports = t.reports
		}
	})
	return reports, ok && err == nil
}

// lotFor returns the lot of the present topic, or nil for a new one. The records of a lot have one receiver of
// reports at most.
func (t *taking) lotFor(reports *Reports) *outbox.Lot {
	i := slices.IndexFunc(t.lots, func(p outbox.Lot) bool { return p.Topic == t.topic })
	if i >= 0 {
		if has := t.lots[i].Frames.(*lot).reports; reports == nil || has == nil || has == reports {
			return &t.lots[i]
		}
	}
	if i >= 0 || len(t.lots) == lotsMost {
		t.handOverLots(0)
	}
	return nil
}

// handOverLots passes the lots to the outbox. edge is the end of the handed range, if all of its frames have
// been looked at.
func (t *taking) handOverLots(edge int) {
	if len(t.lots) == 0 {
		return
	}
	for i := range t.lots {
		t.lots[i].Frames.(*lot).edge = edge
	}
	t.connection.box().AcceptLots(t.lots)
	clear(t.lots)
	t.lots = t.lots[:0]
}

// Join implements outbox.Frames: later is of the range behind the lot's.
func (l *lot) Join(later outbox.Frames) bool {
	next, ok := later.(*lot)
	if !ok || l.edge == 0 || l.edge+len(next.memory) > cap(l.memory) || l.lasting != next.lasting ||
		next.reports != nil && l.reports != nil && l.reports != next.reports {
		return false
	}
	whole := l.memory[:l.edge+len(next.memory)]
	if unsafe.SliceData(whole[l.edge:]) != unsafe.SliceData(next.memory) || len(whole)/frame.SlabGranule > math.MaxUint16 {
		return false
	}
	for i, r := range next.runs {
		if n := len(l.runs); i == 0 && n > 0 && len(l.memory) == l.edge && r.start == 0 {
			l.runs[n-1].frames += r.frames
			continue
		}
		l.runs = append(l.runs, run{r.start + uint16(l.edge/frame.SlabGranule), r.frames})
	}
	l.unread += next.unread
	l.charge += next.charge
	l.memory, l.edge = whole, l.edge+next.edge
	if next.edge == 0 {
		l.edge = 0
	}
	if next.reports != nil {
		l.reports = next.reports
	}
	return true
}

// Read implements outbox.Frames. Frames without a readable record are finished at the lot's end. A lasting
// record gets bytes of its own, because the file of its frame may be truncated at any time.
func (l *lot) Read(records []*record.Record) (n int) {
	if !l.lasting {
		l.read(records, &n)
	} else if frame.Faults(func() { l.read(records, &n) }) {
		if n < len(records) {
			*records[n] = record.Record{}
		}
		l.giveUp()
	}
	if l.unread == 0 && (l.lost > 0 || l.charge != 0) {
		l.gate.Finish(l.lost, l.charge)
		l.lost, l.charge = 0, 0
	}
	return n
}

// read fills records and counts them in n, which is right after a fault, too.
func (l *lot) read(records []*record.Record, n *int) {
	var f frame.Frame
	for *n < len(records) && len(l.runs) > 0 {
		at, own := l.at, int(l.runs[0].start)*frame.SlabGranule
		state, err := f.Load(l.memory, at)
		if f.End == 0 || at > own { // the stage cannot find later frames either, and reuses the slab
			l.giveUp()
			return
		}
		if l.at = f.End; at < own {
			continue
		}
		ok := err == nil && state == frame.Ready && l.fill(records[*n], &f)
		l.pass()
		if !ok {
			*records[*n] = record.Record{}
			l.lose(at, state)
			continue
		}
		l.charge -= int64(f.Charge)
		*n++
	}
}

// giveUp loses all unread frames.
func (l *lot) giveUp() {
	l.lost += l.unread
	l.unread, l.runs = 0, nil
}

// pass removes the frame before l.at from the unread frames.
func (l *lot) pass() {
	l.unread--
	r := &l.runs[0]
	r.start = uint16(l.at / frame.SlabGranule)
	if r.frames--; r.frames == 0 {
		l.runs = l.runs[1:]
	}
}

// lose marks a frame without a readable record. A frame in state DONE may belong to the stage again.
func (l *lot) lose(at int, state uint32) {
	l.lost++ // first: the next line may fault
	if state != frame.Done {
		frame.State(l.memory, at).CompareAndSwap(state, frame.Done)
	}
}

// fill reads the record of a frame.
func (l *lot) fill(r *record.Record, f *frame.Frame) bool {
	if f.Source != 0 || string(f.Topic) != l.topic {
		return false
	}
	r.Key, r.Value, r.Accepted, r.Charge = f.Key, f.Value, time.Unix(0, f.AcceptedNS), int64(f.Charge)
	r.Staged, r.Lasting = frame.State(l.memory, f.At), l.lasting
	if f.FieldCount() > 0 && !l.fields(r, f) {
		return false
	}
	if l.lasting {
		r.Own()
	}
	return true
}

// fields reads the headers and the report of a record.
func (l *lot) fields(r *record.Record, f *frame.Frame) bool {
	r.Headers = make([]record.Header, 0, f.FieldCount())
	err := f.EachField(func(fd frame.Field) {
		switch {
		case fd.Kind != frame.KindReport:
			r.Headers = append(r.Headers, record.Header{Name: l.name(len(r.Headers), fd.Name), Value: fd.Value})
		case len(fd.Value) == frame.ReportSize && l.reports != nil:
			if binary.NativeEndian.Uint64(fd.Value) == l.reports.ID {
				r.Report, r.Opaque = l.reports.tell, binary.NativeEndian.Uint64(fd.Value[8:])
			}
		}
	})
	return err == nil
}

// name returns the name of a record's header i as a string: mostly that of the record before.
func (l *lot) name(i int, name []byte) string {
	if i >= len(l.names) {
		l.names = append(l.names, "")
	}
	if l.names[i] != string(name) {
		l.names[i] = string(name)
	}
	return l.names[i]
}
