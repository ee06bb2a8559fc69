package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// lazyFile opens a file at the first read. A file that cannot be opened returns cannotOpen.
type lazyFile struct {
	fs   FS
	path string
	file File
}

func (f *lazyFile) ReadAt(b []byte, off int64) (int, error) {
	if f.file == nil {
		file, err := f.fs.Open(f.path, os.O_RDONLY)
		if err != nil {
			return 0, cannotOpen{err}
		}
		f.file = file
	}
	return f.file.ReadAt(b, off)
}

func (f *lazyFile) close() {
	if f.file != nil {
		_ = f.file.Close()
		f.file = nil
	}
}

// verdict is the result of a taker for a record.
type verdict int

const (
	takeMore verdict = iota // taken; continue
	takeLast                // taken; stop
	takeNone                // not taken; the first record of the next call
	takeBad                 // invalid fields: damaged
)

// reader reads logs. It caches its last place, so the next call continues there.
type reader struct {
	fs  FS
	dir string
	// found reports damage, each time it is passed: records from position from up to to are lost. g is nil
	// outside of segments.
	found func(l *topicLog, g *segment, d Damage, from, to uint64)

	scan scanner
	at   *segment // the segment of scan
	next uint64   // the next position of scan
}

// forget drops the cached place.
func (r *reader) forget() { r.at = nil }

// walk passes the records of a log from position from on to take, and returns the position behind the last
// examined record. It stops on request of take, at the end of the log and, to limit the length of a call,
// behind a segment with losses.
func (r *reader) walk(l *topicLog, from uint64, take func(frame) verdict) (next uint64, err error) {
	for next = from; next < l.next; {
		g, end := l.find(next)
		if g == nil {
			r.lost(l, nil, Damage{File: r.rel(l.dir), Offset: -1, What: "the segment is missing"}, next, end)
			next = end
			continue
		}
		more, lossy := false, false
		next, more, lossy, err = r.segment(l, g, end, next, take)
		if err != nil || !more || lossy {
			return next, err
		}
	}
	return next, nil
}

func (r *reader) rel(path string) string {
	if rel, err := filepath.Rel(r.dir, path); err == nil {
		return rel
	}
	return path
}

func (r *reader) lost(l *topicLog, g *segment, d Damage, from, to uint64) {
	d.Records = to - from
	if r.found != nil {
		r.found(l, g, d, from, to)
	}
}

// segment is walk within a segment responsible for the positions up to end. more = false: take has stopped.
func (r *reader) segment(l *topicLog, g *segment, end, from uint64, take func(frame) verdict) (next uint64, more, lossy bool, err error) {
	file := &lazyFile{fs: r.fs, path: l.path(g)}
	defer file.close()
	r.place(g, file, from, end)
	damage := Damage{File: r.rel(file.path), Offset: -1}
	r.scan.skipped = func(off, n int64) { damage.Offset, damage.Bytes = off, n }
	report := func(what string, from, to uint64) {
		d := damage
		d.What = what
		damage.Offset, damage.Bytes = -1, 0
		lossy = true
		r.lost(l, g, d, from, to)
	}
	next = from
	for {
		f, ok := r.scan.next()
		if !ok {
			break
		}
		if damage.Offset >= 0 && f.position <= next {
			report("is damaged", next, next)
		}
		if f.position < next {
			continue
		}
		if f.position > next {
			report(what(damage), next, f.position)
			next = f.position
		}
		g.addMark(f.position, f.offset, l.since(g, f.body))
		switch v := take(f); v {
		case takeNone:
			r.scan.off, r.scan.low, r.next = f.offset, f.position, f.position
			return next, false, lossy, nil
		case takeBad:
			damage.Offset, damage.Bytes = f.offset, f.size()
			report("is damaged: "+errBody.Error(), next, next+1)
			fallthrough
		default:
			next++
			r.next = next
			if v == takeLast {
				return next, false, lossy, nil
			}
		}
	}
	return r.endOf(l, g, end, next, damage, lossy, report)
}

// endOf handles the end of a segment, or of its readable part.
func (r *reader) endOf(l *topicLog, g *segment, end, next uint64, damage Damage, lossy bool, report func(string, uint64, uint64)) (uint64, bool, bool, error) {
	if err := r.scan.err; err != nil {
		r.forget()
		if !errors.Is(err, fs.ErrNotExist) {
			return next, false, lossy, fmt.Errorf("reading a segment: %w", err)
		}
		r.lost(l, nil, Damage{File: damage.File, Offset: -1, What: "is missing"}, next, end)
		return end, true, true, nil
	}
	if next < end || damage.Offset >= 0 {
		report(what(damage), next, end)
		lossy = true
	}
	r.next = end
	return end, true, lossy, nil
}

func what(d Damage) string {
	if d.Offset >= 0 {
		return "is damaged"
	}
	return "ends too early, or the segment behind it is missing"
}

// place puts the scanner before position from.
func (r *reader) place(g *segment, file *lazyFile, from, end uint64) {
	s := &r.scan
	if r.at == g && r.next == from && s.err == nil {
		s.file, s.high = file, end
		s.size = g.size
		return
	}
	off, low := g.body, g.first
	if m, ok := g.markBefore(from); ok {
		off, low = m.offset, m.position
	}
	s.begin(file, g.size, off, low, end)
	r.at, r.next = g, from
}
