package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"reskafka/internal/record"
)

// batch is the argument of one append.
type batch interface {
	count() int
	size(i int) int64           // bytes added by put
	put(b []byte, i int) []byte // adds the body
	accepted(i int) int64       // see nanos
	since() int64               // see ages
}

type recordBatch struct {
	records []*record.Record
	stored  time.Duration // time of storage, on the spool's clock
}

func (b recordBatch) count() int                  { return len(b.records) }
func (b recordBatch) size(i int) int64            { return recordSize(b.records[i]) }
func (b recordBatch) put(to []byte, i int) []byte { return appendRecord(to, b.records[i], b.stored) }
func (b recordBatch) accepted(i int) int64        { return nanos(b.records[i].Accepted) }
func (b recordBatch) since() int64                { return int64(b.stored) }

type letterBatch []record.DeadLetter

func (b letterBatch) count() int                  { return len(b) }
func (b letterBatch) size(i int) int64            { return letterSize(&b[i]) }
func (b letterBatch) put(to []byte, i int) []byte { return appendLetter(to, &b[i]) }
func (b letterBatch) accepted(i int) int64        { return nanos(b[i].At) }
func (b letterBatch) since() int64                { return unknownSince }

// maxBodyBytes is above the largest record Kafka can carry, which is a request of 2 GiB.
const maxBodyBytes = 1<<31 - 1

var errPositions = errors.New("the log's positions are used up")

// Append implements outbox.Spool.
func (s *Spool) Append(topic string, records []*record.Record) (first uint64, err error) {
	s.mtx.Lock()
	defer s.mtx.Unlock()
	if s.closed {
		return 0, errClosed
	}
	l, err := s.logOf(topic)
	if err != nil {
		return 0, err
	}
	b := recordBatch{records, s.Now()}
	need, err := s.need(l, b)
	if err != nil {
		return 0, err
	}
	if limit := s.limit().MaxBytes; limit > 0 && s.used.Load()+need > limit {
		if len(s.dirty) == 0 { // without effect
			return 0, s.full(need, limit)
		}
		if err := s.reclaim(); err != nil {
			s.warn("reclaiming", "room cannot be given back: %v", err)
		}
		// The call above may have removed the log's segment.
		if need, err = s.need(l, b); err != nil {
			return 0, err
		}
		if s.used.Load()+need > limit {
			return 0, s.full(need, limit)
		}
	}
	first, err = s.append(l, b)
	if errors.Is(err, syscall.ENOSPC) && s.reclaim() == nil { // which may have made room
		first, err = s.append(l, b)
	}
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT): // other users of the disk need space too
		return 0, fmt.Errorf("appending to the spool: %w: %w", ErrFull, err)
	case err != nil:
		return 0, fmt.Errorf("appending to the spool: %w", err)
	}
	return first, nil
}

func (s *Spool) full(need, limit int64) error {
	return fmt.Errorf("appending %d bytes to the %d of %d that are in use: %w", need, s.used.Load(), limit, ErrFull)
}

// logOf returns a topic's log, creating a missing log.
func (s *Spool) logOf(topic string) (*topicLog, error) {
	if l := s.logs[topic]; l != nil {
		return l, nil
	}
	if len(topic) > maxNameBytes {
		return nil, fmt.Errorf("the name of topic %.40s... is too long for a spool", topic)
	}
	// The directory may exist without the full name of its topic, if the name is too long for a directory.
	dir := filepath.Join(s.dir, topicsName, element(topic))
	ld := &loader{fs: s.fs, dir: s.dir, connection: s.connection, ages: s.ages}
	l, f, err := ld.log(kindTopic, dir)
	if err != nil {
		return nil, err
	}
	if l == nil || l.topic != topic {
		l = &topicLog{kind: kindTopic, first: 1, next: 1, counted: 1, dir: dir, ages: s.ages, made: l == nil || l.made}
		if b, err := ld.read(l.settledPath(), cellsBytes); err == nil {
			if c, ok := parseCells(b); ok {
				l.cell, l.first, l.next, l.counted = c, c.next, c.next, c.next
			}
			l.cells.Store(int64(len(b)))
		}
	} else {
		s.repair(l, f)
	}
	l.topic = strings.Clone(topic)
	s.books.Lock()
	s.logs[l.topic] = l
	s.books.Unlock()
	return l, nil
}

// need returns a batch's size on disk, in bytes.
func (s *Spool) need(l *topicLog, b batch) (need int64, err error) {
	if l.next+uint64(b.count()) >= maxPosition { // only reachable with files made by hand
		return 0, errPositions
	}
	head, limit := headerSize(s.connection, l.topic), s.segmentLimit(l.kind)
	size, fresh := int64(0), true
	if g := l.active(); g != nil {
		size, fresh = g.size, g.first == g.end
	} else {
		need, size = head, head
	}
	for i := range b.count() {
		n := b.size(i)
		if n > maxBodyBytes {
			return 0, fmt.Errorf("a record of %d bytes is too large for a spool", n)
		}
		if !fresh && size+frameHead+n > limit {
			need += head
			size = head
		}
		need += frameHead + n
		size += frameHead + n
		fresh = false
	}
	return need, nil
}

// segmentLimit returns the largest size of a segment with more than one record.
func (s *Spool) segmentLimit(k kind) int64 {
	limit := s.limit().MaxBytes
	if limit <= 0 {
		return s.segmentBytes
	}
	pieces := int64(piecesOfLimit * max(len(s.logs), 1))
	if k == kindDead {
		pieces = partOfLimit * piecesOfLimit
	}
	return min(s.segmentBytes, max(limit/pieces, minSegmentBytes))
}

// append writes a whole batch to a log, or nothing.
func (s *Spool) append(l *topicLog, b batch) (first uint64, err error) {
	if err := s.undoRest(l); err != nil {
		return 0, err
	}
	before := l.state()
	first = l.next
	if err = s.write(l, b); err != nil {
		s.undo(l, before)
		return 0, err
	}
	if s.limit().Sync == SyncAlways {
		if err = s.syncNow(l, before); err != nil {
			s.undo(l, before)
			if g := l.active(); g != nil {
				g.sealed = true // its content on disk is unknown: continue in another segment
			}
			return 0, err
		}
	}
	if cap(s.out) > maxKeptBuffer {
		s.out = nil
	}
	l.publish()
	// The file "settled" soon stores the log's end: a loss of the end is then known.
	l.cellDirty = true
	s.touch(l)
	return first, nil
}

// write encodes a batch and writes many records in one call.
func (s *Spool) write(l *topicLog, b batch) error {
	limit := s.segmentLimit(l.kind)
	s.out = s.out[:0]
	for i := range b.count() {
		n := frameHead + b.size(i)
		g := l.active()
		if g == nil || g.end > g.first && g.size+int64(len(s.out))+n > limit {
			if err := s.flush(l, g); err != nil {
				return err
			}
			g = s.begin(l, b.accepted(i), b.since())
		} else if len(s.out) > 0 && int64(len(s.out))+n > maxWriteBytes {
			if err := s.flush(l, g); err != nil {
				return err
			}
		}
		start := len(s.out)
		var head [frameHead]byte
		s.out = b.put(append(s.out, head[:]...), i)
		sealFrame(s.out[start:], l.next)
		g.addMark(l.next, g.size+int64(start), b.since())
		l.next++
		g.end = l.next
	}
	return s.flush(l, l.active())
}

// begin adds a segment to the log and queues its header as the first write, which creates the file.
func (s *Spool) begin(l *topicLog, accepted, since int64) *segment {
	h := header{kind: l.kind, first: l.next, accepted: accepted, boot: s.ages.clock.Boot, stored: since,
		connection: s.connection, topic: l.topic}
	g := &segment{name: segmentName(l.next), first: l.next, end: l.next, boot: h.boot, since: since}
	s.out = h.append(s.out[:0])
	g.body = int64(len(s.out))
	if n := len(l.segs); n > 0 {
		l.segs[n-1].sealed = true
		s.open.close(l.path(l.segs[n-1]))
	}
	l.segs = append(l.segs, g)
	return g
}

// flush writes the queued bytes at the end of segment g, which may be nil with an empty queue.
func (s *Spool) flush(l *topicLog, g *segment) error {
	if len(s.out) == 0 {
		return nil
	}
	f, err := s.writable(l, g)
	if err != nil {
		return err
	}
	if _, err := f.WriteAt(s.out, g.size); err != nil {
		return err
	}
	s.grow(l, int64(len(s.out)))
	g.size += int64(len(s.out))
	s.out = s.out[:0]
	if !g.unsynced {
		g.unsynced = true
		s.unsynced[l.path(g)] = g
		s.tidy.arm(s)
	}
	return nil
}

// writable opens a segment for writing, and creates a segment without bytes.
func (s *Spool) writable(l *topicLog, g *segment) (File, error) {
	path := l.path(g)
	if g.size > 0 {
		return s.open.get(path, 0)
	}
	if !l.made {
		parent := filepath.Dir(l.dir)
		if err := s.fs.Mkdir(l.dir); err != nil {
			return nil, err
		}
		l.made = true
		s.unsynced[parent] = nil
	}
	f, err := s.open.get(path, os.O_CREATE|os.O_EXCL)
	if errors.Is(err, fs.ErrExist) { // left by an undo without the right to remove, or foreign
		s.setAside(path, false)
		f, err = s.open.get(path, os.O_CREATE|os.O_EXCL)
	}
	if err == nil {
		s.unsynced[l.dir] = nil
	}
	return f, err
}

func (s *Spool) grow(l *topicLog, n int64) {
	l.bytes.Add(n)
	if l.kind == kindTopic {
		s.used.Add(n)
	}
}

// undo reverts the writes of a failed append. A segment that cannot be truncated to its old size is not
// written again: bytes behind its end are outside the range of its positions.
func (s *Spool) undo(l *topicLog, before state) {
	s.out = s.out[:0]
	for _, g := range l.segs[before.segs:] {
		path := l.path(g)
		s.open.close(path)
		if err := s.fs.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.warn("undoing", "a segment that could not be written cannot be removed: %v", err)
			l.left = append(l.left, leftover{path, 0})
			s.touch(l)
		}
		s.grow(l, -g.size)
		delete(s.unsynced, path)
	}
	clear(l.segs[before.segs:])
	l.segs = l.segs[:before.segs]
	l.next = before.next
	defer l.publish()
	if before.segs == 0 {
		return
	}
	g := l.segs[before.segs-1]
	s.grow(l, before.size-g.size)
	g.size, g.end, g.marks, g.sealed = before.size, before.end, g.marks[:before.marks], before.sealed
	if g.sealed {
		return
	}
	if err := s.truncate(l.path(g), before.size); err != nil {
		g.sealed = true
		l.left = append(l.left, leftover{l.path(g), before.size})
		s.touch(l)
		s.warn("undoing", "what could not be written as a whole cannot be cut off, a new file is begun: %v", err)
	}
}

// undoRest retries the failed parts of undo. No append may follow while segments of reused positions exist;
// bytes behind a segment's end are harmless.
func (s *Spool) undoRest(l *topicLog) error {
	kept := l.left[:0]
	var first error
	for _, rest := range l.left {
		var err error
		if rest.size > 0 {
			err = s.truncate(rest.path, rest.size)
		} else if err = s.fs.Remove(rest.path); err != nil && !errors.Is(err, fs.ErrNotExist) && first == nil {
			first = fmt.Errorf("removing what an earlier call left: %w", err)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			kept = append(kept, rest)
		}
	}
	l.left = kept
	return first
}
