package spool

import (
	"path/filepath"
	"slices"
	"sort"
	"sync/atomic"
	"time"
)

// topicLog is a log: the segments of a topic, or of the dead letters. Spool.mtx guards the fields, except
// atomic ones.
type topicLog struct {
	kind  kind
	topic string
	dir   string
	made  bool // dir is there

	segs        []*segment // by position; appends go to the last
	first, next uint64     // positions without an outcome: from first up to next
	counted     uint64     // losses before this position have been counted
	ages        *ages      // nil = no reader of ages
	newest      int64      // time of acceptance of the last record at the opening, see nanos

	gone []*segment // settled, but still on the disk
	left []leftover // of appends that were undone only in part

	cell      cell // last content written to the file "settled"
	cellDirty bool // a write of cell is due
	synced    cell // content on disk at the last sync

	bytes  atomic.Int64 // of all segments on disk
	cells  atomic.Int64 // bytes of the file "settled"
	oldest atomic.Int64 // since when the record at first is stored, see ages; unknownSince also when there is none
	waits  atomic.Int64 // records between first and next
}

// segment is a file of a log.
type segment struct {
	name  string
	first uint64 // first position
	end   uint64 // position behind the last record
	size  int64
	body  int64  // start of the records; 0 = the header is damaged
	boot  uint64 // the machine's boot at the write; 0 = unknown
	since int64  // time of the first record's storage, see ages
	marks []mark

	old      bool // of an earlier version: no further writes
	damaged  bool // has damage: kept after its end
	sealed   bool // no further writes
	unsynced bool
	reports  int // log lines about the segment
}

// leftover is a file left too large by a failed append. size = 0: to be removed.
type leftover struct {
	path string
	size int64
}

// mark is the place of a record, for about every markApart bytes written or read.
type mark struct {
	position uint64
	offset   int64
	since    int64 // see ages
}

const markApart = 32 << 10

func (g *segment) addMark(position uint64, offset, since int64) {
	if n := len(g.marks); n == 0 || (offset-g.marks[n-1].offset >= markApart && position > g.marks[n-1].position) {
		g.marks = append(g.marks, mark{position, offset, since})
	}
}

// markBefore returns the last mark up to position.
func (g *segment) markBefore(position uint64) (mark, bool) {
	i := sort.Search(len(g.marks), func(i int) bool { return g.marks[i].position > position })
	if i == 0 {
		return mark{}, false
	}
	return g.marks[i-1], true
}

func (l *topicLog) path(g *segment) string { return filepath.Join(l.dir, g.name) }

func (l *topicLog) settledPath() string { return filepath.Join(l.dir, settledName) }

// active is the segment to append to, or nil.
func (l *topicLog) active() *segment {
	if n := len(l.segs); n > 0 && !l.segs[n-1].sealed {
		return l.segs[n-1]
	}
	return nil
}

func (l *topicLog) empty() bool { return l.first == l.next }

// find returns the segment responsible for position, and the end of its range. nil: no segment at or before
// position.
func (l *topicLog) find(position uint64) (g *segment, end uint64) {
	i := sort.Search(len(l.segs), func(i int) bool { return l.segs[i].first > position })
	end = l.next
	if i < len(l.segs) {
		end = l.segs[i].first
	}
	if i == 0 {
		return nil, end
	}
	return l.segs[i-1], end
}

// publish updates the values for Usage.
func (l *topicLog) publish() {
	l.waits.Store(int64(l.next - l.first))
	oldest := int64(unknownSince)
	if !l.empty() {
		if g, _ := l.find(l.first); g != nil {
			oldest = g.since
			if m, ok := g.markBefore(l.first); ok && m.position > g.first {
				oldest = m.since
			}
		}
	}
	l.oldest.Store(oldest)
}

// settle advances first. Segments before it are removed, except the last, which may get further appends.
func (l *topicLog) settle(before uint64) {
	if before = min(before, l.next); before <= l.first {
		return
	}
	l.first, l.cellDirty = before, true
	n := 0
	for n < len(l.segs)-1 && l.segs[n+1].first <= before {
		n++
	}
	l.gone = append(l.gone, l.segs[:n]...)
	l.segs = slices.Delete(l.segs, 0, n)
	l.publish()
}

// state is the part of a log restored by undo.
type state struct {
	segs      int
	size      int64
	end, next uint64
	marks     int
	sealed    bool
}

func (l *topicLog) state() state {
	s := state{segs: len(l.segs), next: l.next}
	if s.segs > 0 {
		g := l.segs[s.segs-1]
		s.size, s.end, s.marks, s.sealed = g.size, g.end, len(g.marks), g.sealed
	}
	return s
}

// since is since when the record of a body in g is stored, see ages.
func (l *topicLog) since(g *segment, body []byte) int64 {
	return l.ages.since(g.boot, storedOf(body), acceptedOf(body))
}

// oldestOf returns a time in the form of View; 0 = unknown.
func oldestOf(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return timeOf(n)
}
