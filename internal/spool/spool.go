// Package spool stores a connection's records on disk: it implements outbox.Spool on the standard library.
//
//	<dir>/lock                      locked with flock by the process in use
//	<dir>/topics/<topic>/           one log for each topic
//	          <20 digits>.seg       a segment of the log: the digits are the position of its first record
//	          settled               end of the records with an outcome
//	<dir>/dead-letters/             a log of the same kind
//	<dir>/damaged/                  segments with damage, after their end
//
// documentation/spool-format.md has the bytes of the files. The files here: format.go the bytes, scan.go the
// search for records in a damaged file, load.go the reading of a directory, log.go a log in memory,
// append.go, read.go, settle.go and dead.go the work, tidy.go delayed work, aside.go damaged files, view.go
// reading for people. No file is mapped into memory: an access to a page of a truncated file would end the
// engine.
package spool

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"reskafka/internal/host"
	"reskafka/internal/throttle"
)

// Sizes and times.
const (
	maxSegmentBytes = 4 << 20 // of a segment, unless a record is larger
	minSegmentBytes = 4 << 10
	piecesOfLimit   = 8  // least number of segments within the limit, for every log, so there is always one to drop
	partOfLimit     = 8  // dead letters, and files set aside, may each have this part of the limit
	maxOpenFiles    = 64 // files kept open for writing
	maxWriteBytes   = 256 << 10
	maxKeptBuffer   = 4 << 20

	cellDelay = 10 * time.Millisecond // longest delay from Settle to the write of the file
	tidyDelay = time.Second           // from writing to syncing, and from Settle to removing room back, at most
	lineEvery = 30 * time.Second      // between two log lines of a kind
)

// Options are the arguments of Open.
type Options struct {
	Connection   string // name for the files
	Limits       Limits
	Log          host.Logger // may be nil
	SegmentBytes int64       // limit of a segment's size; 0 = 4 MiB. Small limits lower it.
	FS           func(FS) FS // returns a replacement of the spool's file system; nil = none; for tests
	// CloseLimit is the longest wait of Close for the disk, 0 = no limit. The kernel writes the rest, so only
	// a power cut soon after can lose it.
	CloseLimit time.Duration
	Clock      *Clock // nil = this machine's; for tests
}

// Spool implements outbox.Spool. Calls wait for the disk and for each other, except Usage and Configure.
type Spool struct {
	dir          string
	connection   string
	own          dirFS
	fs           FS
	log          host.Logger
	lines        *throttle.Throttle
	segmentBytes int64
	closeLimit   time.Duration
	lock         *os.File
	ages         *ages

	// books guards the map and the limits, never during a wait for the disk. It is locked inside mtx.
	books  sync.RWMutex
	logs   map[string]*topicLog
	limits Limits

	used     atomic.Int64 // bytes of the topics' segments
	damaged  atomic.Uint64
	asides   atomic.Int64 // files set aside
	asideAll atomic.Int64 // size of the files

	// mtx is held by every call with file access, except during the syncs of tidy.
	mtx      sync.Mutex
	closed   bool
	dead     *topicLog
	deadRead reader
	read     reader
	open     *openFiles
	out      []byte // bytes of the next write
	aside    []asideFile
	cells    task // writes the files "settled"
	tidy     task // syncs, and frees space
	dirty    map[*topicLog]struct{}
	unsynced map[string]*segment // by path; nil = a directory
	running  sync.WaitGroup
}

// Open opens the spool in dir, creating a missing directory, for this process alone: a *LockedError reports a
// spool in use. Open reads the headers of all segments and the last segment of each log, repairs the rest of
// an interrupted write, and reports all other faults to the log. No such fault is an error.
func Open(dir string, o Options) (*Spool, error) {
	if len(o.Connection) > maxNameBytes {
		return nil, fmt.Errorf("the name of connection %.40s... is too long for a spool", o.Connection)
	}
	own, err := openSpool(dir, true)
	if err != nil {
		return nil, err
	}
	lock, err := takeLock(own)
	if err != nil {
		_ = own.dir.Close()
		return nil, err
	}
	s := &Spool{
		dir: dir, connection: o.Connection, own: own, fs: own, log: o.Log, lock: lock, limits: o.Limits, closeLimit: o.CloseLimit,
		ages:     newAges(o.Clock),
		lines:    throttle.New(lineEvery, time.Now),
		logs:     map[string]*topicLog{},
		dirty:    map[*topicLog]struct{}{},
		unsynced: map[string]*segment{},
	}
	if o.FS != nil {
		s.fs = o.FS(own)
	}
	s.segmentBytes = o.SegmentBytes
	if s.segmentBytes <= 0 {
		s.segmentBytes = maxSegmentBytes
	}
	s.open = newOpenFiles(s.fs, maxOpenFiles)
	s.read = reader{fs: s.fs, dir: dir, found: s.foundDamage}
	s.deadRead = reader{fs: s.fs, dir: dir, found: s.foundDamage}
	s.cells = task{after: cellDelay, what: "writing what is settled of a spool", run: s.writeCellsLater}
	s.tidy = task{after: tidyDelay, what: "tidying a spool", run: s.tidyLater}
	if err := s.load(); err != nil {
		s.open.closeAll()
		_ = lock.Close()
		_ = own.dir.Close()
		return nil, fmt.Errorf("opening spool %s: %w", dir, err)
	}
	return s, nil
}

// load reads the directory and repairs it.
func (s *Spool) load() error {
	if err := s.fs.Mkdir(filepath.Join(s.dir, topicsName)); err != nil {
		return fmt.Errorf("making a directory: %w", err)
	}
	s.loadAside()
	ld := &loader{fs: s.fs, dir: s.dir, connection: s.connection, ages: s.ages}
	logs, found, err := ld.topics()
	if err != nil {
		return err
	}
	dead, deadFound, err := ld.dead()
	if err != nil {
		return err
	}
	s.dead = dead
	logs, found = append(logs, dead), append(found, deadFound)
	for i, l := range logs {
		s.reportFindings(found[i])
		if l == nil {
			continue
		}
		s.repair(l, found[i])
		if l.kind == kindTopic {
			s.logs[l.topic] = l
		}
		if old := l.firstKept(); old > 0 {
			l.gone, l.segs = append(l.gone, l.segs[:old]...), l.segs[old:]
			s.touch(l)
		}
		if l.empty() && len(l.segs) > 0 {
			s.touch(l)
		}
	}
	return nil
}

// firstKept is how many segments at the beginning of the log are settled as a whole.
func (l *topicLog) firstKept() int {
	n := 0
	for n < len(l.segs)-1 && l.segs[n+1].first <= l.first {
		n++
	}
	return n
}

// reportFindings reports the findings of a log.
func (s *Spool) reportFindings(f *findings) {
	for _, d := range f.damages {
		level := host.Warning
		if d.Harmless {
			level = host.Notice
		}
		host.Logf(s.log, level, "connection %s: spool: %s", s.connection, d)
	}
	s.damaged.Add(f.lost)
}

// repair executes the repairs of findings. A log with a failed repair is not written again, which is
// sufficient. Segments of another boot or of version 1 are not written either: one clock stores all records
// of a segment.
func (s *Spool) repair(l *topicLog, f *findings) {
	if g := l.active(); g != nil && g.boot != s.ages.clock.Boot {
		g.sealed = true
	}
	for from, to := range f.rename {
		if err := s.fs.Rename(filepath.Join(l.dir, from), filepath.Join(l.dir, to)); err != nil {
			s.warn("repair", "a segment's name cannot be repaired: %v", err)
		}
	}
	for _, a := range f.aside {
		s.setAside(filepath.Join(l.dir, a.name), a.later)
	}
	for _, name := range f.remove {
		if err := s.fs.Remove(filepath.Join(l.dir, name)); err != nil {
			s.warn("repair", "what an interrupted write left cannot be removed: %v", err)
		}
	}
	if n := len(l.segs); f.cut > 0 && n > 0 {
		g := l.segs[n-1]
		if err := s.truncate(l.path(g), f.cut); err != nil {
			s.warn("repair", "what an interrupted write left cannot be cut off: %v", err)
			g.sealed = true
		} else {
			l.bytes.Add(f.cut - g.size)
			g.size = f.cut
		}
	}
	if l.kind == kindTopic {
		s.used.Add(l.bytes.Load())
	}
}

func (s *Spool) truncate(path string, size int64) error {
	f, err := s.open.get(path, 0)
	if err != nil {
		return err
	}
	return f.Truncate(size)
}

// warn writes a log line, at most one of a kind in 30 seconds.
func (s *Spool) warn(kind, format string, args ...any) {
	suppressed, ok := s.lines.Allow(kind)
	if !ok {
		return
	}
	text := fmt.Sprintf("connection %s: spool: ", s.connection) + fmt.Sprintf(format, args...)
	if suppressed > 0 {
		text += fmt.Sprintf(" (%d more like this since the last line)", suppressed)
	}
	host.LogDepth(s.log, 1, host.Warning, text)
}

// Logs implements outbox.Spool.
func (s *Spool) Logs() []Log {
	s.mtx.Lock()
	defer s.mtx.Unlock()
	var logs []Log
	for topic, l := range s.logs {
		if !l.empty() {
			logs = append(logs, Log{Topic: topic, First: l.first, Next: l.next})
		}
	}
	slices.SortFunc(logs, func(a, b Log) int { return strings.Compare(a.Topic, b.Topic) })
	return logs
}

// Configure implements outbox.Spool.
func (s *Spool) Configure(limits Limits) {
	s.books.Lock()
	defer s.books.Unlock()
	s.limits = limits
}

func (s *Spool) limit() Limits {
	s.books.RLock()
	defer s.books.RUnlock()
	return s.limits
}

// Usage implements outbox.Spool. It reads no file and never blocks on the disk.
func (s *Spool) Usage() Usage {
	s.books.RLock()
	defer s.books.RUnlock()
	u := Usage{
		Dir:      s.dir,
		Bytes:    s.dead.bytes.Load() + s.dead.cells.Load() + s.asideAll.Load(),
		MaxBytes: s.limits.MaxBytes,
		Dead:     uint64(s.dead.waits.Load()),
		Damaged:  s.damaged.Load(),
		SetAside: int(s.asides.Load()),
	}
	for topic, l := range s.logs {
		u.Bytes += l.bytes.Load() + l.cells.Load()
		if l.waits.Load() > 0 {
			u.Logs = append(u.Logs, LogUsage{Topic: topic, Bytes: l.bytes.Load(), Oldest: s.ages.date(l.oldest.Load())})
		}
	}
	slices.SortFunc(u.Logs, func(a, b LogUsage) int { return strings.Compare(a.Topic, b.Topic) })
	return u
}

// errClosed is the error of a call after Close.
var errClosed = errors.New("the spool is closed")

// Close implements outbox.Spool. Idempotent.
func (s *Spool) Close() error {
	s.mtx.Lock()
	defer s.mtx.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	for _, rest := range s.lines.Flush() {
		host.Logf(s.log, host.Warning, "connection %s: spool: %s: %d more line(s) like the last one", s.connection, rest.Key, rest.Count)
	}
	s.cells.stop(&s.running)
	s.tidy.stop(&s.running)
	err := s.writeCells()
	done, syncing := s.syncLast()
	if done {
		if removing := s.removeSettled(); syncing == nil {
			syncing = removing
		}
		if err == nil {
			err = syncing
		}
	}
	s.open.closeAll()
	if done {
		_ = s.own.dir.Close() // otherwise a goroutine still uses it
	}
	if closing := s.lock.Close(); err == nil && closing != nil {
		err = fmt.Errorf("removing the lock free: %w", closing)
	}
	return err
}

// syncLast syncs unsynced files, and waits for running syncs, with mtx released. done = false: the limit of
// Close was reached. The sync continues and touches nothing but the disk, whoever opens the spool by then.
func (s *Spool) syncLast() (done bool, err error) {
	paths, segments := s.takeUnsynced()
	over := make(chan error, 1)
	go func() {
		err := errors.New("forcing the spool to the disk did not end")
		defer func() { over <- err }()
		defer host.Guard(nil, "syncing a spool")
		s.running.Wait()
		err = s.syncAll(paths, segments)
	}()
	s.mtx.Unlock()
	defer s.mtx.Lock()
	var late <-chan time.Time
	if s.closeLimit > 0 {
		timer := time.NewTimer(s.closeLimit)
		defer timer.Stop()
		late = timer.C
	}
	select {
	case err = <-over:
		return true, err
	case <-late:
		return false, nil
	}
}
