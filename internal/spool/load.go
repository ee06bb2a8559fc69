package spool

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
)

// Damage is a fault found in a spool.
type Damage struct {
	File    string // below the spool's directory
	Offset  int64  // start, bytes; -1 = the whole file
	Bytes   int64  // size of the damaged part
	Records uint64 // number of lost records
	What    string // a sentence without a full stop
	// Harmless: no accepted record is lost, for example after an interrupted write.
	Harmless bool
}

func (d Damage) String() string {
	s := d.File
	if d.Offset >= 0 {
		s += fmt.Sprintf(", byte %d", d.Offset)
	}
	s += ": " + d.What
	if d.Records > 0 {
		s += fmt.Sprintf(" (%d records)", d.Records)
	}
	return s
}

// findings are the results of reading a log's directory: repairs and reports. The reading changes nothing, so
// offline commands can run beside a running process.
type findings struct {
	aside   []asideOf         // misplaced files, or files without usable content
	remove  []string          // empty files of an interrupted write
	rename  map[string]string // files with names other than in their headers
	cut     int64             // truncate the last segment here; 0 = whole
	damages []Damage
	lost    uint64 // known lost records outside every segment's range
}

type asideOf struct {
	name  string
	later bool // of a later version of the format
}

func (f *findings) note(d Damage) { f.damages = append(f.damages, d) }

// loader reads the directories of a spool's logs.
type loader struct {
	fs         FS
	dir        string
	connection string // empty = unknown
	scan       scanner
	ages       *ages // nil = no reader of ages
}

func (ld *loader) rel(path string) string {
	if rel, err := filepath.Rel(ld.dir, path); err == nil {
		return rel
	}
	return path
}

// topics reads all logs of topics.
func (ld *loader) topics() ([]*topicLog, []*findings, error) {
	entries, err := ld.fs.ReadDir(filepath.Join(ld.dir, topicsName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("reading the topics: %w", err)
	}
	var logs []*topicLog
	var found []*findings
	for _, e := range entries {
		path := filepath.Join(ld.dir, topicsName, e.Name())
		if !e.IsDir() {
			found = append(found, &findings{damages: []Damage{{File: ld.rel(path), Offset: -1, What: "is not a topic's directory and is left alone", Harmless: true}}})
			logs = append(logs, nil)
			continue
		}
		l, f, err := ld.log(kindTopic, path)
		if err != nil {
			return nil, nil, err
		}
		logs, found = append(logs, l), append(found, f)
	}
	return logs, found, nil
}

// dead reads the log of dead letters.
func (ld *loader) dead() (*topicLog, *findings, error) {
	return ld.log(kindDead, filepath.Join(ld.dir, deadName))
}

// log reads the directory of a log. The log is nil if its topic is unknown.
func (ld *loader) log(k kind, dir string) (*topicLog, *findings, error) {
	l := &topicLog{kind: k, dir: dir, first: 1, next: 1, ages: ld.ages}
	f := &findings{rename: map[string]string{}}
	named := k == kindDead
	if k == kindTopic {
		l.topic, named = nameOf(filepath.Base(dir))
	}
	entries, err := ld.fs.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return l, f, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("reading the directory of a log: %w", err)
	}
	l.made = true
	cellsFound := false
	names := map[string]bool{}
	for _, e := range entries {
		if _, ok := firstOf(e.Name()); ok && e.Type().IsRegular() {
			names[e.Name()] = true
		} else if e.Name() == settledName && e.Type().IsRegular() {
			cellsFound = true
		} else {
			f.note(Damage{File: ld.rel(filepath.Join(dir, e.Name())), Offset: -1, What: "does not belong there and is left alone", Harmless: true})
		}
	}
	for _, e := range entries { // by name, which is the order of positions
		if names[e.Name()] {
			if err := ld.segment(l, f, e, names, &named); err != nil {
				return nil, nil, err
			}
		}
	}
	if !named {
		f.note(Damage{File: ld.rel(dir), Offset: -1, What: "nothing says which topic this is of; it is left alone", Harmless: len(names) == 0})
		return nil, f, nil
	}
	slices.SortFunc(l.segs, func(a, b *segment) int {
		if a.first < b.first {
			return -1
		}
		return 1
	})
	known := cellsFound && ld.cells(l, f)
	if err := ld.findEnd(l, f, known); err != nil {
		return nil, nil, err
	}
	ld.bounds(l, f, known)
	return l, f, nil
}

// cells reads the file "settled"; false: no valid cell.
func (ld *loader) cells(l *topicLog, f *findings) bool {
	b, err := ld.read(l.settledPath(), cellsBytes)
	l.cells.Store(int64(len(b)))
	var ok bool
	if err == nil {
		l.cell, ok = parseCells(b)
	}
	// The first cell is written behind space for the second; before the first write the file has no content.
	begun := len(b) < cellsBytes && len(bytes.TrimLeft(b[:min(len(b), cellApart)], "\x00")) == 0
	if !ok && !begun {
		f.note(Damage{File: ld.rel(l.settledPath()), Offset: 0, Bytes: int64(len(b)),
			What: "what has been delivered cannot be told; some of it may be sent again"})
	}
	return ok
}

// read returns the first bytes of a file, at most n.
func (ld *loader) read(path string, n int) ([]byte, error) {
	file, err := ld.fs.Open(path, os.O_RDONLY)
	if err != nil {
		return nil, cannotOpen{err}
	}
	defer func() { _ = file.Close() }()
	b := make([]byte, n)
	got, err := file.ReadAt(b, 0)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return b[:got], err
}

// segment checks a segment's header and adds the segment to the log, or notes the necessary repair.
func (ld *loader) segment(l *topicLog, f *findings, e fs.DirEntry, names map[string]bool, named *bool) error {
	first, _ := firstOf(e.Name())
	path := filepath.Join(l.dir, e.Name())
	info, err := e.Info()
	if err != nil {
		return nil // removed meanwhile
	}
	g := &segment{name: e.Name(), first: first, size: info.Size()}
	if g.size == 0 {
		f.remove = append(f.remove, e.Name())
		f.note(Damage{File: ld.rel(path), Offset: -1, What: "is empty and is removed", Harmless: true})
		return nil
	}
	if g.size > maxHeaderBytes+frameHead+maxBodyBytes {
		ld.reject(f, path, false, fmt.Sprintf("has %d bytes, more than any segment", g.size))
		return nil
	}
	h, size, err := ld.header(path, g.size)
	var later *VersionError
	var closed cannotOpen
	switch {
	case errors.As(err, &closed):
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if errors.Is(err, fs.ErrPermission) { // whole, owned by another user
			return fmt.Errorf("opening a segment: %w; chown -R %d %s gives all of it to this user", err, os.Geteuid(), ld.dir)
		}
		if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOMEM) {
			return fmt.Errorf("opening a segment: %w", err)
		}
		ld.reject(f, path, false, fmt.Sprintf("cannot be opened: %v", closed.error))
	case errors.As(err, &later):
		ld.reject(f, path, true, later.Error())
	case err != nil: // the records may be intact nevertheless
		g.damaged = true
		f.note(Damage{File: ld.rel(path), Offset: 0, What: err.Error() + ", its records are looked for without it"})
		l.segs = append(l.segs, g)
	case h.kind != l.kind || *named && h.topic != l.topic:
		ld.reject(f, path, false, fmt.Sprintf("belongs to topic %q", h.topic))
	case h.first != first && names[segmentName(h.first)]:
		ld.reject(f, path, false, "is a copy of "+segmentName(h.first)+" or was renamed")
	default:
		if h.first != first {
			g.name, g.first = segmentName(h.first), h.first
			f.rename[e.Name()] = g.name
			names[g.name] = true
			f.note(Damage{File: ld.rel(path), Offset: -1, What: "was renamed, its name is " + g.name, Harmless: true})
		}
		if !*named {
			l.topic, *named = h.topic, element(h.topic) == filepath.Base(l.dir)
		}
		if ld.connection != "" && h.connection != ld.connection { // moved here on purpose
			f.note(Damage{File: ld.rel(path), Offset: -1, What: fmt.Sprintf("was written for connection %q", h.connection), Harmless: true})
		}
		g.old = h.version != version
		g.body, g.boot, g.since = int64(size), h.boot, ld.ages.since(h.boot, h.stored, h.accepted)
		l.segs = append(l.segs, g)
	}
	return nil
}

func (ld *loader) reject(f *findings, path string, later bool, why string) {
	f.aside = append(f.aside, asideOf{filepath.Base(path), later})
	f.note(Damage{File: ld.rel(path), Offset: -1, What: why + "; it is set aside"})
}

func (ld *loader) header(path string, size int64) (header, int, error) {
	for _, n := range []int64{1 << 10, maxHeaderBytes} {
		b, err := ld.read(path, int(min(n, size)))
		if err != nil {
			return header{}, 0, err
		}
		h, used, err := parseHeader(b)
		if !errors.Is(err, errHeaderShort) || n == maxHeaderBytes || int64(len(b)) == size {
			return h, used, err
		}
	}
	return header{}, 0, errHeaderShort
}

// findEnd finds the end of the log's last segment with records, and thereby the next position. Later segments
// without records are not part of the log. known: the log's cell is known.
func (ld *loader) findEnd(l *topicLog, f *findings, known bool) error {
	for i := range l.segs[:max(len(l.segs)-1, 0)] {
		l.segs[i].end = l.segs[i+1].first
	}
	for len(l.segs) > 0 {
		g := l.segs[len(l.segs)-1]
		used, err := ld.lastSegment(l, f, g, known)
		if used || err != nil {
			return err
		}
		l.segs = l.segs[:len(l.segs)-1]
	}
	return nil
}

// lastSegment reads the log's last segment to the end. used = false: the segment is empty.
func (ld *loader) lastSegment(l *topicLog, f *findings, g *segment, known bool) (used bool, err error) {
	lazy := &lazyFile{fs: ld.fs, path: filepath.Join(l.dir, ld.nameNow(f, g))}
	defer lazy.close()
	s := &ld.scan
	s.begin(lazy, g.size, g.body, g.first, maxPosition)
	end, records, damaged := g.body, 0, false
	s.skipped = func(off, n int64) { damaged = damaged || off+n < g.size }
	for {
		r, ok := s.next()
		if !ok {
			break
		}
		records++
		l.newest = acceptedOf(r.body)
		g.addMark(r.position, r.offset, l.since(g, r.body))
		end = r.offset + r.size()
	}
	if s.err != nil {
		if errors.Is(s.err, fs.ErrNotExist) {
			return false, nil
		}
		return false, fmt.Errorf("reading the last segment: %w", s.err)
	}
	s.size = g.size
	g.end = s.low
	if records == 0 && g.body == 0 {
		f.aside = append(f.aside, asideOf{name: g.name})
		return false, nil
	}
	broken, tail := s.damagedTail(end, g.end)
	lostMore := known && l.cell.next > g.end+broken
	switch {
	case end == g.size:
	case broken > 0 || lostMore: // accepted records are damaged: Read will find them
		g.end += broken
		g.damaged = true
	default:
		f.cut = end
		f.note(Damage{File: ld.rel(l.path(g)), Offset: end, Bytes: g.size - tail, Harmless: true,
			What: fmt.Sprintf("the last %d bytes are of a write that was interrupted; they are cut off", g.size-end)})
		if records == 0 && end == g.body {
			f.cut = 0
			f.remove = append(f.remove, g.name)
			return false, nil
		}
	}
	g.damaged = g.damaged || damaged
	g.sealed = g.old || g.damaged || g.body == 0 || lostMore
	return true, nil
}

// nameNow is the name under which a segment is to be found as long as nothing was repaired.
func (ld *loader) nameNow(f *findings, g *segment) string {
	for from, to := range f.rename {
		if to == g.name {
			return from
		}
	}
	return g.name
}

// bounds says which positions of the log have no outcome yet.
func (ld *loader) bounds(l *topicLog, f *findings, known bool) {
	bytes := int64(0)
	for _, g := range l.segs {
		bytes += g.size
	}
	l.bytes.Store(bytes)
	if n := len(l.segs); n > 0 {
		l.next = l.segs[n-1].end
		l.first = l.segs[0].first
	}
	if known {
		l.next = max(l.next, l.cell.next)
		l.first = l.cell.settled
	}
	l.counted = l.first
	if n := len(l.segs); n > 0 && l.next > l.segs[n-1].end {
		l.segs[n-1].sealed = true
	}
	if len(l.segs) == 0 && l.first < l.next {
		f.lost = l.next - l.first
		f.note(Damage{File: ld.rel(l.dir), Offset: -1, Records: f.lost, What: fmt.Sprintf("the records from %d to %d are missing", l.first, l.next-1)})
		l.first, l.counted = l.next, l.next
	}
	l.publish()
}
