package spool

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"reskafka/internal/record"
)

// View is a read-only view of a spool at the time of OpenView. It changes nothing and takes no lock, so it
// works beside the process in use; concurrent writes or removals of that process may be missing. Not safe for
// concurrent use.
type View struct {
	Dir        string
	Connection string // empty: not in the directory's name
	InUse      bool   // a process has the spool open
	PID        int    // which; 0 = not known

	ld     *loader
	topics []*topicLog
	dead   *topicLog
	found  []Damage
}

// LogView is a log of a spool.
type LogView struct {
	Topic          string // empty for the dead letters
	First, Next    uint64 // the positions without an outcome: from First up to Next
	Segments       int
	Bytes          int64
	Oldest, Newest time.Time // when these were accepted; zero = not known
}

// FileView is a file set aside.
type FileView struct {
	Name  string // below the spool's directory
	Bytes int64
}

// OpenView reads a spool.
func OpenView(dir string) (*View, error) {
	own, err := openSpool(dir, false)
	if err != nil {
		return nil, err
	}
	if !own.isSpool() {
		return nil, fmt.Errorf("%s is not the directory of a spool", dir)
	}
	v := &View{Dir: dir, ld: &loader{fs: own, dir: dir}}
	v.Connection, _ = Connection(dir)
	v.ld.connection = v.Connection
	if v.PID, v.InUse, err = inUse(own); err != nil {
		return nil, fmt.Errorf("looking at spool %s: %w", dir, err)
	}
	logs, found, err := v.ld.topics()
	if err != nil {
		return nil, fmt.Errorf("looking at spool %s: %w", dir, err)
	}
	dead, f, err := v.ld.dead()
	if err != nil {
		return nil, fmt.Errorf("looking at spool %s: %w", dir, err)
	}
	for i, l := range append(logs, dead) {
		if i < len(found) {
			v.note(l, found[i])
		} else {
			v.note(l, f)
			v.dead = l
			continue
		}
		if l != nil {
			v.topics = append(v.topics, l)
		}
	}
	slices.SortFunc(v.topics, func(a, b *topicLog) int { return strings.Compare(a.topic, b.topic) })
	return v, nil
}

// note stores the findings. Files are read by their present names, up to the place where Open would truncate.
func (v *View) note(l *topicLog, f *findings) {
	v.found = append(v.found, f.damages...)
	if l == nil {
		return
	}
	for _, g := range l.segs {
		g.name = v.ld.nameNow(f, g)
	}
	if n := len(l.segs); f.cut > 0 && n > 0 {
		l.segs[n-1].size = f.cut
	}
}

// Logs returns the non-empty logs of topics, by topic.
func (v *View) Logs() []LogView {
	var logs []LogView
	for _, l := range v.topics {
		if !l.empty() {
			logs = append(logs, v.logView(l))
		}
	}
	return logs
}

// Dead returns the log of the dead letters.
func (v *View) Dead() LogView { return v.logView(v.dead) }

func (v *View) logView(l *topicLog) LogView {
	out := LogView{Topic: l.topic, First: l.first, Next: l.next, Segments: len(l.segs), Bytes: l.bytes.Load()}
	if l.empty() {
		return out
	}
	out.Newest = oldestOf(l.newest)
	r := v.reader(nil)
	_, _ = r.walk(l, l.first, func(f frame) verdict {
		out.Oldest = oldestOf(acceptedOf(f.body))
		return takeLast
	})
	return out
}

// SetAside returns the files set aside because of damage.
func (v *View) SetAside() []FileView {
	var files []FileView
	for _, a := range listAside(v.ld.fs, filepath.Join(v.Dir, damagedName)) {
		files = append(files, FileView{v.ld.rel(a.path), a.size})
	}
	return files
}

func (v *View) reader(found func(*topicLog, *segment, Damage, uint64, uint64)) *reader {
	return &reader{fs: v.ld.fs, dir: v.Dir, found: found}
}

// Verify reads all files of the spool and returns the damage and the number of valid records. Files set aside
// are not read.
func (v *View) Verify() (damages []Damage, records uint64, err error) {
	damages = slices.Clone(v.found)
	r := v.reader(func(l *topicLog, g *segment, d Damage, from, to uint64) {
		d.Harmless = from < to && to <= l.first || g == nil && v.InUse && v.settledNow(l) >= to
		damages = append(damages, d)
	})
	for _, l := range append(slices.Clone(v.topics), v.dead) {
		from := l.first
		if len(l.segs) > 0 {
			from = min(from, l.segs[0].first)
		}
		for from < l.next {
			from, err = r.walk(l, from, func(f frame) verdict {
				if _, bad := v.parse(l, f); bad != nil {
					return takeBad
				}
				records++
				return takeMore
			})
			if err != nil {
				return damages, records, err
			}
		}
	}
	return damages, records, nil
}

// settledNow is up to where a log is settled by now.
func (v *View) settledNow(l *topicLog) uint64 {
	b, err := v.ld.read(l.settledPath(), cellsBytes)
	if c, ok := parseCells(b); ok && err == nil {
		return c.settled
	}
	return 0
}

func (v *View) parse(l *topicLog, f frame) (record.DeadLetter, error) {
	if l.kind == kindDead {
		return parseLetter(f.body)
	}
	r, err := parseRecord(l.topic, f.body)
	return record.DeadLetter{Record: r}, err
}

// Records passes the records of a topic without an outcome to each, in order. It stops at an error of each
// and returns the error.
func (v *View) Records(topic string, each func(position uint64, r *record.Record) error) error {
	for _, l := range v.topics {
		if l.topic == topic {
			return v.each(l, func(position uint64, letter record.DeadLetter) error { return each(position, letter.Record) })
		}
	}
	return nil
}

// Letters passes the dead letters to each, like Records.
func (v *View) Letters(each func(position uint64, letter record.DeadLetter) error) error {
	return v.each(v.dead, each)
}

func (v *View) each(l *topicLog, each func(uint64, record.DeadLetter) error) error {
	r := v.reader(nil)
	for next := l.first; next < l.next; {
		var stopped error
		var err error
		next, err = r.walk(l, next, func(f frame) verdict {
			letter, bad := v.parse(l, f)
			if bad != nil {
				return takeBad
			}
			if stopped = each(f.position, letter); stopped != nil {
				return takeLast
			}
			return takeMore
		})
		if stopped != nil || err != nil {
			return errors.Join(stopped, err)
		}
	}
	return nil
}

// Find returns the directories of the spools at a path: the path itself, or the spools below it, see List.
func Find(path string) ([]string, error) {
	own, err := openSpool(path, false)
	if err == nil {
		defer func() { _ = own.dir.Close() }()
		if own.isSpool() {
			return []string{path}, nil
		}
	}
	found, err := List(path)
	var dirs []string
	for _, f := range found {
		dirs = append(dirs, f.Dir)
	}
	if err == nil && len(dirs) == 0 {
		if _, err = os.Lstat(path); err == nil {
			err = fmt.Errorf("%s holds no spool", path)
		}
	}
	return dirs, err
}
