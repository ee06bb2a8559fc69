package engine

import (
	"encoding/binary"
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
	memory  []byte // up to the end of the lot's last frame; the capacity is the rest of the slab
	at      int    // of the next frame to look at
	edge    int    // up to here every frame was complete at the hand-over; 0 = not known
	topic   string
	reports *Reports // for the records with a report; nil = none has one
	lasting bool
	names   []string // of the headers of the last record
}

// lotsMost is the number of lots of a range that are collected before their hand-over.
const lotsMost = 16

// collect adds the frame of a record to the lot of its topic. It reports whether the record may be in a lot.
func (t *taking) collect(f *frame.Frame) bool {
	reports, ok := t.receiver(f)
	if !ok {
		return false
	}
	if len(t.records) > 0 { // of events: the order within a topic
		t.handOver()
	}
	accepted := time.Unix(0, f.AcceptedNS)
	p := t.lotFor(reports)
	if p == nil {
		t.lots = append(t.lots, outbox.Lot{Topic: t.topic, First: accepted, Last: accepted, Frames: &lot{at: f.At, topic: t.topic, lasting: t.handed.Lasting}})
		p = &t.lots[len(t.lots)-1]
	}
	if accepted.After(p.Last) {
		p.Last = accepted
	}
	p.Records++
	p.Bytes += int64(len(f.Key) + len(f.Value))
	l := p.Frames.(*lot)
	l.memory = t.handed.Frames[:f.End]
	if reports != nil {
		l.reports = reports
	}
	t.added++
	return true
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
	if unsafe.SliceData(whole[l.edge:]) != unsafe.SliceData(next.memory) {
		return false
	}
	l.memory, l.edge = whole, l.edge+next.edge
	if next.edge == 0 {
		l.edge = 0
	}
	if next.reports != nil {
		l.reports = next.reports
	}
	return true
}

// Read implements outbox.Frames.
func (l *lot) Read(records []*record.Record) int {
	var f frame.Frame
	n := 0
	for n < len(records) && l.at < len(l.memory) {
		state, err := f.Load(l.memory, l.at)
		if f.End == 0 {
			break
		}
		l.at = f.End
		if err != nil || state != frame.Ready || f.Source != 0 || string(f.Topic) != l.topic {
			continue
		}
		r := records[n]
		r.Key, r.Value, r.Accepted, r.Charge = f.Key, f.Value, time.Unix(0, f.AcceptedNS), int64(f.Charge)
		r.Staged, r.Lasting = frame.State(l.memory, f.At), l.lasting
		if f.FieldCount() > 0 && !l.fields(r, &f) {
			*r = record.Record{}
			continue
		}
		n++
	}
	return n
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
