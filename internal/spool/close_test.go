package spool

import (
	"sync"
	"testing"
	"time"
)

// slowDisk is a file system whose disk blocks until released.
type slowDisk struct {
	FS
	let     chan struct{}
	waiting chan struct{}
	began   sync.Once
}

// over returns d for the files of inner.
func (d *slowDisk) over(inner FS) FS {
	d.FS = inner
	return d
}

type slowFile struct {
	File
	disk *slowDisk
}

func (d *slowDisk) Open(name string, flag int) (File, error) {
	f, err := d.FS.Open(name, flag)
	if err != nil {
		return nil, err
	}
	return slowFile{f, d}, nil
}

func (f slowFile) Sync() error {
	f.disk.began.Do(func() { close(f.disk.waiting) })
	<-f.disk.let
	return f.File.Sync()
}

// TestCloseDoesNotWaitForASlowDisk checks that a stop ends with any disk, also during the spool's own sync,
// and that the next process finds all records and can open the spool at once.
func TestCloseDoesNotWaitForASlowDisk(t *testing.T) {
	for name, syncing := range map[string]bool{"at the end": false, "meanwhile": true} {
		t.Run(name, func(t *testing.T) {
			dir := newDir(t)
			disk := &slowDisk{let: make(chan struct{}), waiting: make(chan struct{})}
			s, err := Open(dir, Options{Connection: connection, FS: disk.over, CloseLimit: time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			appendAll(t, s, batchOf("calls", 0, 10)...)
			if err := s.Settle("calls", 4); err != nil {
				t.Fatal(err)
			}
			if syncing {
				<-disk.waiting
			}
			closeSpool(t, s)
			closeSpool(t, s)

			again := open(t, dir, Options{})
			got, _, lost := readAll(t, again, "calls", again.Logs()[0].First)
			wantRecords(t, got, batchOf("calls", 3, 10))
			if lost > 0 {
				t.Errorf("%d are lost", lost)
			}
			close(disk.let) // later syncs change nothing
			s.running.Wait()
			appendAll(t, again, batchOf("calls", 10, 20)...)
			got, _, _ = readAll(t, again, "calls", 4)
			wantRecords(t, got, batchOf("calls", 3, 20))
		})
	}
}

// TestClose_WarningsHeldBack_AreCounted guards the number of warnings suppressed by the log's throttle.
func TestClose_WarningsHeldBack_AreCounted(t *testing.T) {
	var log lines
	s := open(t, newDir(t), Options{Log: &log})
	for range 5 {
		s.warn("syncing", "the disk is slow")
	}
	closeSpool(t, s)
	if log.count("spool: the disk is slow") != 1 || log.count("spool: syncing: 4 more line(s) like the last one") != 1 {
		t.Errorf("lines:\n%s", &log)
	}
}
