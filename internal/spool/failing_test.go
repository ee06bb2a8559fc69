package spool

import (
	"errors"
	"io/fs"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"reskafka/internal/record"
)

// failingFS is a file system with counted changes. Changes fail from the count at up to until, exclusive. A
// failed write has written a part of its bytes.
type failingFS struct {
	FS
	mtx       sync.Mutex
	count     int
	at, until int
	err       error
	reads     bool // opening and reading fail too, like in a dead process
	syncs     int  // number of failing calls of Sync from now on
	files     int  // open
	synced    map[string]int
	broken    string // files of this name cannot be made or written
}

// over returns f for the files of inner.
func (f *failingFS) over(inner FS) FS {
	f.FS = inner
	return f
}

// reached reports whether the first failure has happened.
func (f *failingFS) reached() bool {
	f.mtx.Lock()
	defer f.mtx.Unlock()
	return f.count >= f.at
}

// syncedAll reports whether segment and directories of the topic "calls" are on disk.
func (f *failingFS) syncedAll() bool {
	f.mtx.Lock()
	defer f.mtx.Unlock()
	return f.synced[segmentName(1)] > 0 && f.synced["calls"] > 0 && f.synced[topicsName] > 0
}

func (f *failingFS) change() error {
	f.mtx.Lock()
	defer f.mtx.Unlock()
	f.count++
	if f.count >= f.at && f.count < f.until {
		return f.err
	}
	return nil
}

func (f *failingFS) look() error {
	f.mtx.Lock()
	defer f.mtx.Unlock()
	if f.reads && f.count >= f.at && f.count < f.until {
		return f.err
	}
	return nil
}

func (f *failingFS) Open(name string, flag int) (File, error) {
	check := f.look
	if filepath.Base(name) == f.broken && flag&syscall.O_CREAT != 0 {
		return nil, &fs.PathError{Op: "open", Path: name, Err: syscall.EIO}
	}
	if flag&syscall.O_CREAT != 0 {
		check = f.change
	}
	if err := check(); err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	file, err := f.FS.Open(name, flag)
	if err != nil {
		return nil, err
	}
	f.mtx.Lock()
	f.files++
	f.mtx.Unlock()
	return &failingFile{file, filepath.Base(name), f}, nil
}

func (f *failingFS) Mkdir(name string) error {
	if err := f.change(); err != nil {
		return err
	}
	return f.FS.Mkdir(name)
}

func (f *failingFS) Remove(name string) error {
	if err := f.change(); err != nil {
		return err
	}
	return f.FS.Remove(name)
}

func (f *failingFS) Rename(from, to string) error {
	if err := f.change(); err != nil {
		return err
	}
	return f.FS.Rename(from, to)
}

type failingFile struct {
	File
	name string
	fs   *failingFS
}

func (f *failingFile) WriteAt(b []byte, off int64) (int, error) {
	if err := f.fs.change(); err != nil {
		n, _ := f.File.WriteAt(b[:f.fs.at*7919%len(b)], off) // 7919: from nothing to nearly everything
		return n, err
	}
	return f.File.WriteAt(b, off)
}

func (f *failingFile) Truncate(size int64) error {
	if err := f.fs.change(); err != nil {
		return err
	}
	return f.File.Truncate(size)
}

func (f *failingFile) Sync() error {
	f.fs.mtx.Lock()
	fails := f.fs.syncs > 0
	if fails {
		f.fs.syncs--
	}
	if f.fs.synced != nil {
		f.fs.synced[f.name]++
	}
	f.fs.mtx.Unlock()
	if fails {
		return syscall.EIO
	}
	if err := f.fs.change(); err != nil {
		return err
	}
	return nil // the real result is not under test
}

func (f *failingFile) Close() error {
	f.fs.mtx.Lock()
	f.fs.files--
	f.fs.mtx.Unlock()
	return f.File.Close()
}

// account is a test's knowledge of a topic's log.
type account struct {
	records map[uint64]*record.Record // accepted records by position
	next    uint64                    // behind the last accepted record
	settled uint64                    // asked for
	certain uint64                    // settled long enough ago to be final
	failed  []*record.Record          // of the last failed Append
}

type accounts map[string]*account

func (a accounts) of(topic string) *account {
	if a[topic] == nil {
		a[topic] = &account{records: map[uint64]*record.Record{}, next: 1, settled: 1, certain: 1}
	}
	return a[topic]
}

// append appends and keeps the account. Positions are never given twice.
func (a accounts) append(t *testing.T, s *Spool, records []*record.Record) error {
	t.Helper()
	topic := a.of(records[0].Topic)
	first, err := s.Append(records[0].Topic, records)
	if err != nil {
		topic.failed = records
		return err
	}
	if first < topic.next {
		t.Errorf("position %d was given again, %d comes next", first, topic.next)
	}
	for i, r := range records {
		topic.records[first+uint64(i)] = r
	}
	topic.next = first + uint64(len(records))
	topic.failed = nil
	return nil
}

func (a accounts) settle(t *testing.T, s *Spool, topic string, before uint64) {
	t.Helper()
	if err := s.Settle(topic, before); err != nil {
		t.Error(err)
	}
	a.of(topic).settled = max(a.of(topic).settled, before)
}

// certain makes all settlements final.
func (a accounts) certain() {
	for _, topic := range a {
		topic.certain = topic.settled
	}
}

// check compares a spool with the accounts. extras: records of an interrupted Append may exist.
func (a accounts) check(t *testing.T, s *Spool, extras bool) {
	t.Helper()
	logs := map[string]Log{}
	for _, l := range s.Logs() {
		logs[l.Topic] = l
	}
	for topic, want := range a {
		l, there := logs[topic]
		if !there {
			if want.settled < want.next {
				t.Errorf("nothing is left of %s, %d to %d should be", topic, want.settled, want.next)
			}
			continue
		}
		if l.First < want.certain || l.First > want.settled || l.Next < want.next || l.Next > want.next && !extras {
			t.Errorf("%s has %d to %d, want %d to %d, at least from %d on", topic, l.First, l.Next, want.certain, want.next, want.settled)
		}
		records, positions, lost := readAll(t, s, topic, l.First)
		if lost > 0 {
			t.Errorf("%d records of %s are lost", lost, topic)
		}
		for i, p := range positions {
			r := want.records[p]
			if p >= want.next && p-want.next < uint64(len(want.failed)) { // the beginning of the interrupted write
				r = want.failed[p-want.next]
			}
			if r == nil || !sameRecord(r, records[i]) {
				t.Errorf("%s holds another record at %d, accepted at %v", topic, p, records[i].Accepted)
				break
			}
			want.records[p] = r
		}
		want.next = l.Next
	}
	if d := s.Usage().Damaged; d > 0 {
		t.Errorf("%d records are damaged", d)
	}
}

// short is a short run with every operation of a spool. It continues after errors.
func short(t *testing.T, s *Spool, a accounts, dead func() bool) {
	t.Helper()
	settle := func(topic string, before uint64) {
		if !dead() {
			a.settle(t, s, topic, before)
		}
	}
	certain := func() {
		time.Sleep(2 * cellDelay)
		if !dead() {
			a.certain()
		}
	}
	n := 0
	add := func(topic string, count int) {
		if !dead() {
			_ = a.append(t, s, batchOf(topic, n, n+count))
		}
		n += count
	}
	for round := range 3 {
		add("calls", 10)
		add("events", 3)
		add("calls", 40) // several segments
		settle("calls", max(a.of("calls").next, 21)-20)
		certain()
		add("calls", 1)
		settle("events", a.of("events").next)
		certain()
		if round == 1 {
			time.Sleep(tidyDelay)
		}
		_, _ = s.Bury([]record.DeadLetter{{Record: numbered("calls", n), Reason: "too large"}})
		settle("calls", a.of("calls").next)
		add("events", 2)
		certain()
	}
}

var errDead = errors.New("the process is dead")

// The process dies at every change of a short run, in the middle of a write: no accepted record is lost, no
// record settled some time ago comes again, and no position is reused.
func TestDeathAtEveryWrite(t *testing.T) {
	for _, sync := range []Sync{SyncInterval, SyncAlways} {
		runs := 0
		for n, done := 1, false; !done && !t.Failed(); n++ {
			runs = n
			dir, a := newDir(t), accounts{}
			synctest.Test(t, func(t *testing.T) {
				f := &failingFS{at: n, until: 1 << 30, err: errDead, reads: true}
				s, err := Open(dir, Options{Connection: connection, FS: f.over, SegmentBytes: 5 << 10, Limits: Limits{Sync: sync}})
				if err != nil {
					if !errors.Is(err, errDead) {
						t.Fatal(err)
					}
					return
				}
				short(t, s, a, f.reached)
				done = !f.reached()
				_ = s.Close()
				if f.files != 0 {
					t.Errorf("%d files are open", f.files)
				}
			})
			s := open(t, dir, Options{SegmentBytes: 5 << 10})
			a.check(t, s, true)
			for topic := range a {
				if err := a.append(t, s, batchOf(topic, 5000, 5003)); err != nil {
					t.Error(err)
				}
			}
			a.check(t, s, false)
			closeSpool(t, s)
			if t.Failed() {
				t.Logf("died at change %d", n)
			}
		}
		if runs < 50 {
			t.Errorf("a run has only %d changes", runs)
		}
	}
}

// A change, or three in a row, fail, of every kind and at every place of a short run: a failed Append leaves
// nothing behind, later records are not lost, and nothing is duplicated.
func TestFailureAtEveryWrite(t *testing.T) {
	for _, c := range []struct {
		err    error
		length int
	}{{syscall.EIO, 1}, {syscall.ENOSPC, 1}, {syscall.EIO, 3}} {
		for n, done := 1, false; !done && !t.Failed(); n++ {
			dir, a := newDir(t), accounts{}
			synctest.Test(t, func(t *testing.T) {
				f := &failingFS{at: n, until: n + c.length, err: c.err}
				s, err := Open(dir, Options{Connection: connection, FS: f.over, SegmentBytes: 5 << 10, Limits: Limits{Sync: SyncAlways}})
				if err != nil {
					return
				}
				short(t, s, a, func() bool { return false })
				done = !f.reached()
				f.mtx.Lock()
				f.until = 0 // from here on all is well
				f.mtx.Unlock()
				a.certain()
				if a.check(t, s, false); t.Failed() {
					t.Logf("%d changes from %d on failed with %v", c.length, n, c.err)
				}
				for topic := range a {
					if err := a.append(t, s, batchOf(topic, 5000, 5003)); err != nil {
						t.Error(err)
					}
				}
				time.Sleep(2 * tidyDelay)
				wantUsage(t, s, dir)
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			})
			if done {
				continue
			}
			s := open(t, dir, Options{SegmentBytes: 5 << 10})
			a.check(t, s, false)
			closeSpool(t, s)
			if t.Failed() {
				t.Logf("%d changes from %d on failed with %v", c.length, n, c.err)
			}
		}
	}
}

// After a failed sync Append returns an error, and later records go to another file.
func TestSyncFails(t *testing.T) {
	dir := newDir(t)
	var log lines
	f := &failingFS{}
	s := open(t, dir, Options{FS: f.over, Log: &log, Limits: Limits{Sync: SyncAlways}})
	appendAll(t, s, batchOf("calls", 0, 5)...)
	f.syncs = 1
	if _, err := s.Append("calls", batchOf("calls", 5, 10)); !errors.Is(err, syscall.EIO) {
		t.Fatalf("appending while syncing fails: %v", err)
	}
	if first := appendAll(t, s, batchOf("calls", 5, 10)...); first != 6 {
		t.Errorf("goes on at %d", first)
	}
	if n := len(segments(t, dir, "calls")); n != 2 {
		t.Errorf("%d segments", n)
	}
	s.Configure(Limits{Sync: SyncInterval})
	f.mtx.Lock()
	f.syncs = 1 << 30
	f.mtx.Unlock()
	appendAll(t, s, batchOf("calls", 10, 15)...)
	wait(t, "the failure is told", func() bool { return log.count("cannot be forced to the disk") > 0 })
	wait(t, "the segment is left", func() bool {
		s.mtx.Lock()
		defer s.mtx.Unlock()
		return s.logs["calls"].active() == nil
	})
	f.mtx.Lock()
	f.syncs = 0
	f.mtx.Unlock()
	appendAll(t, s, batchOf("calls", 15, 20)...)
	got, _, _ := readAll(t, s, "calls", 1)
	wantRecords(t, got, batchOf("calls", 0, 20))
}

// While settlements cannot be written, segments stay: they show the used positions.
func TestSegmentsStayUntilSettlingIsWritten(t *testing.T) {
	dir := newDir(t)
	var log lines
	synctest.Test(t, func(t *testing.T) {
		f := &failingFS{broken: settledName}
		s, err := Open(dir, Options{Connection: connection, FS: f.over, Log: &log, SegmentBytes: 5 << 10})
		if err != nil {
			t.Fatal(err)
		}
		appendAll(t, s, batchOf("calls", 0, 100)...)
		before := len(segments(t, dir, "calls"))
		if err := s.Settle("calls", 101); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * tidyDelay)
		if after := len(segments(t, dir, "calls")); after != before || before < 3 {
			t.Errorf("%d segments of %d are left", after, before)
		}
		if n := log.count("may be sent again"); n != 1 {
			t.Errorf("%d lines say so", n)
		}
		if err := s.Close(); !errors.Is(err, syscall.EIO) {
			t.Errorf("closing: %v", err)
		}
	})
	s := open(t, dir, Options{})
	if logs := s.Logs(); len(logs) != 1 || logs[0].First != 1 || logs[0].Next != 101 {
		t.Errorf("logs %v", logs)
	}
}

// The policy decides when written records are synced.
func TestSyncPolicy(t *testing.T) {
	for _, c := range []struct {
		sync          Sync
		atOnce, later bool
	}{{SyncAlways, true, true}, {SyncInterval, false, true}, {SyncNone, false, false}} {
		dir := newDir(t)
		synctest.Test(t, func(t *testing.T) {
			f := &failingFS{synced: map[string]int{}}
			s, err := Open(dir, Options{Connection: connection, FS: f.over, Limits: Limits{Sync: c.sync}})
			if err != nil {
				t.Fatal(err)
			}
			appendAll(t, s, batchOf("calls", 0, 5)...)
			if f.syncedAll() != c.atOnce {
				t.Errorf("policy %d: synced at once: %v", c.sync, f.synced)
			}
			time.Sleep(tidyDelay + time.Millisecond)
			if f.syncedAll() != c.later {
				t.Errorf("policy %d: synced later: %v", c.sync, f.synced)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}
