package spool

import (
	"path/filepath"
	"slices"
	"sort"
	"sync/atomic"
	"time"
)

// topicLog is one log: the segments of a topic, or those of the dead letters. Spool.mtx guards it, but for what is
// atomic.
type topicLog struct {
	kind  kind
	topic string
	dir   string
	made  bool // dir is there

	segs        []*segment // by position, the last one is appended to
	first, next uint64     // positions that have no outcome yet: from first up to next
	counted     uint64     // what is lost before this position has been counted
	ages        *ages      // nil = nobody asks for them
	newest      int64      // when the last record was accepted that the log had when it was opened, see nanos

	gone []*segment // settled, but still on the disk
	left []leftover // of appends that could not be undone as a whole

	cell      cell // what was last written to the file "settled"
	cellDirty bool // it has to be written again
	synced    cell // what the disk had when it was last synced

	bytes  atomic.Int64 // of all segments that are on the disk
	cells  atomic.Int64 // bytes of the file "settled"
	oldest atomic.Int64 // since when the record at first is stored, see ages; unknownSince also when there is none
	waits  atomic.Int64 // records between first and next
}

// segment is one file of a log.
type segment struct {
	name  string
	first uint64 // its first position
	end   uint64 // the position behind its last one
	size  int64
	body  int64  // where its records begin; 0 = the header is damaged and says nothing
	boot  uint64 // in which boot of the machine it was written; 0 = not known
	since int64  // since when its first record is stored, see ages
	marks []mark

	damaged  bool // something in it is: it is kept
	sealed   bool // nothing more is to be written into it
	unsynced bool
	reports  int // log lines about it
}

// leftover is a file that an append which failed has left too large. size = 0: it should not be there.
type leftover struct {
	path string
	size int64
}

// mark says where a record stands, for every markApart bytes or so of what has been written or read.
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

// markBefore is the last mark that is not behind position.
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

// find gives the segment in which position stands, and the position it is responsible for up to. nil: it is in none,
// and none is before that position.
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

// publish brings up to date what Usage says.
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

// settle moves first; segments that lie before it are gone, but for the last one, which may go on being appended to.
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

// state is what undo brings back.
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

// oldestOf is a time as View has it; 0 = not known.
func oldestOf(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return timeOf(n)
}
