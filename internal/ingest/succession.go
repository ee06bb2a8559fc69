package ingest

import (
	"errors"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

// Succession is a lock of an engine after the death of its Asterisk, until the last records are sent or on
// disk. The engine of the next Asterisk waits for the lock, so no new record overtakes the old records. The
// lock is on the folder of notes, so engines with the same spool directory exclude each other. The kernel
// releases the lock at the process's end.
type Succession struct{ folder atomic.Pointer[os.File] } // nil = not held

const (
	lookAgain = 10 * time.Millisecond // between two attempts to lock
	holdTries = 5                     // against engines that only test the lock
)

// HoldSuccession locks the folder for an ending engine. Without a spool directory, or beside another ending
// engine, it locks nothing.
func HoldSuccession(spool string) *Succession {
	for range holdTries {
		folder, err := lockNotes(spool, true, syscall.LOCK_EX)
		if err == nil {
			var s Succession
			s.folder.Store(folder)
			return &s
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			break
		}
		time.Sleep(lookAgain)
	}
	return &Succession{}
}

// Release lets the next engine begin. Idempotent; safe for concurrent use.
func (s *Succession) Release() {
	if folder := s.folder.Swap(nil); folder != nil {
		_ = folder.Close()
	}
}

// AwaitSuccession waits while another engine holds the lock, for limit at most. It calls waits once before
// the wait.
func AwaitSuccession(spool string, limit time.Duration, waits func()) {
	for end := time.Now().Add(limit); ; time.Sleep(lookAgain) {
		folder, err := lockNotes(spool, false, syscall.LOCK_SH)
		if err == nil {
			_ = folder.Close()
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) || !time.Now().Before(end) {
			return
		}
		if waits != nil {
			waits()
			waits = nil
		}
	}
}

// lockNotes opens the folder of notes and locks it until the file is closed. errors.Is(err,
// syscall.EWOULDBLOCK): another process holds a conflicting lock.
func lockNotes(spool string, create bool, how int) (*os.File, error) {
	if spool == "" {
		return nil, os.ErrNotExist
	}
	notes, err := openNotes(spool, create)
	if err != nil {
		return nil, err
	}
	defer func() { _ = notes.Close() }()
	folder, err := notes.OpenFile(".", os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(folder.Fd()), how|syscall.LOCK_NB); err != nil {
		_ = folder.Close()
		return nil, err
	}
	return folder, nil
}
