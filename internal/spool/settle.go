package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"reskafka/internal/host"
	"reskafka/internal/record"
)

// Read implements outbox.Spool. A call may return less than possible behind a segment with losses.
func (s *Spool) Read(topic string, from uint64, max, maxBytes int) (records []*record.Record, positions []uint64, next uint64, err error) {
	s.mtx.Lock()
	defer s.mtx.Unlock()
	if s.closed {
		return nil, nil, from, errClosed
	}
	l := s.logs[topic]
	if l == nil || max <= 0 {
		return nil, nil, from, nil
	}
	s.read.scan.window = min(maxWindow, larger(minWindow, maxBytes+maxBytes/4))
	bytes := 0
	next, err = s.read.walk(l, from, func(f frame) verdict {
		// A body is slightly larger than the record's weight, and is known before the record is decoded.
		if bytes += len(f.body); bytes > maxBytes && len(records) > 0 {
			return takeNone
		}
		r, err := parseRecord(l.topic, f.body)
		if err != nil {
			return takeBad
		}
		g, _ := l.find(f.position)
		r.Stored = time.Duration(l.since(g, f.body))
		records, positions = append(records, r), append(positions, f.position)
		if len(records) == max {
			return takeLast
		}
		return takeMore
	})
	l.publish()
	return records, positions, next, err
}

func larger(a, b int) int { return max(a, b) }

// foundDamage counts and reports lost records, once.
func (s *Spool) foundDamage(l *topicLog, g *segment, d Damage, from, to uint64) {
	fresh := from < to && to > l.counted
	if fresh {
		from = max(from, l.counted)
		d.Records = to - from
		s.damaged.Add(d.Records)
		l.counted = to
	} else {
		d.Records = 0
	}
	if g == nil {
		if fresh {
			s.warn("missing "+d.File, "%s: %d records, from position %d on, are lost", joined(d), d.Records, from)
		}
		return
	}
	if d.Offset >= 0 && !g.damaged {
		g.damaged, fresh = true, true
	}
	if fresh {
		s.report(g, d)
	}
}

// linesOfSegment is the limit of reports about one segment.
const linesOfSegment = 5

func (s *Spool) report(g *segment, d Damage) {
	if g.reports++; g.reports > linesOfSegment {
		return
	}
	more := ""
	if g.reports == linesOfSegment {
		more = "; further places in this file are counted only"
	}
	place := ""
	if d.Offset >= 0 {
		place = fmt.Sprintf(" at byte %d, for %d bytes", d.Offset, d.Bytes)
	}
	host.Logf(s.log, host.Warning, "connection %s: spool: %s%s: %d records are lost%s", s.connection, joined(d), place, d.Records, more)
}

func joined(d Damage) string { return d.File + " " + d.What }

// Settle implements outbox.Spool. It writes nothing itself: the file "settled" is written within 10 ms, and
// space is freed within a second, or as soon as an Append needs it.
func (s *Spool) Settle(topic string, before uint64) error {
	s.mtx.Lock()
	defer s.mtx.Unlock()
	if s.closed {
		return errClosed
	}
	if l := s.logs[topic]; l != nil {
		s.settle(l, before)
	}
	return nil
}

func (s *Spool) settle(l *topicLog, before uint64) {
	first := l.first
	if l.settle(before); l.first != first {
		s.touch(l)
	}
}

// touch has the log's file "settled" written soon, and room given back later.
func (s *Spool) touch(l *topicLog) {
	s.dirty[l] = struct{}{}
	if l.cellDirty {
		s.cells.arm(s)
	}
	s.tidy.arm(s)
}

// DropOldest implements outbox.Spool.
func (s *Spool) DropOldest() (topic string, before uint64, ok bool) {
	s.mtx.Lock()
	defer s.mtx.Unlock()
	if s.closed {
		return "", 0, false
	}
	var largest *topicLog
	for _, l := range s.logs {
		if !l.empty() && (largest == nil || l.bytes.Load() > largest.bytes.Load()) {
			largest = l
		}
	}
	if largest == nil {
		return "", 0, false
	}
	s.dropOldest(largest)
	if err := s.reclaim(); err != nil {
		s.warn("reclaiming", "room cannot be given back: %v", err)
	}
	return largest.topic, largest.first, true
}

// dropOldest settles the log's oldest segment with unsettled records.
func (s *Spool) dropOldest(l *topicLog) {
	_, end := l.find(l.first)
	l.counted = max(l.counted, end)
	s.settle(l, end)
}

// writeCell writes up to where a log is settled.
func (s *Spool) writeCell(l *topicLog) error {
	c := cell{l.cell.sequence + 1, l.first, l.next}
	if !l.made {
		if err := s.fs.Mkdir(l.dir); err != nil {
			return err
		}
		l.made = true
	}
	f, err := s.open.get(l.settledPath(), os.O_CREATE)
	if err != nil {
		return err
	}
	if l.cells.Load() == 0 {
		s.unsynced[l.dir] = nil
	}
	off := int64(c.sequence%2) * cellApart
	if _, err := f.WriteAt(c.append(nil), off); err != nil {
		return err
	}
	l.cells.Store(max(l.cells.Load(), off+cellSize))
	l.cell, l.cellDirty = c, false
	return nil
}

// remove deletes a segment, or sets a damaged segment aside.
func (s *Spool) remove(l *topicLog, g *segment) error {
	path := l.path(g)
	s.open.close(path)
	delete(s.unsynced, path)
	if s.read.at == g {
		s.read.forget()
	}
	if s.deadRead.at == g {
		s.deadRead.forget()
	}
	if g.damaged {
		s.setAside(path, false)
	} else if err := s.fs.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	s.grow(l, -g.size)
	return nil
}
