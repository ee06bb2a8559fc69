package outbox

import (
	"errors"
	"time"

	"reskafka/internal/metrics"
)

// Spool stores a connection's records on disk: a log for each topic, with a position for every record, and
// the dead letters. Positions of a log count from 1, without a gap, and are never reused.
//
// internal/spool implements Spool, the tests of this package with a fake. Calls may wait for the disk. One
// goroutine at a time makes calls, without the outbox's lock; Usage and Configure are for any goroutine.
// After the return of a call, the content survives the end of the process; the spool decides when the content
// survives a power cut.
type Spool interface {
	// Logs returns the spool's logs at its opening, by topic, without empty logs.
	Logs() []SpoolLog

	// Append writes records of one topic at the end of its log, creating a missing log. The first record gets
	// position first, the others follow. Append writes all records or none: after an error the log is
	// unchanged. errors.Is(err, ErrSpoolFull): the spool is at its own limit, or the disk is full; other
	// errors are the disk's.
	Append(topic string, records []*Record) (first uint64, err error)

	// Read returns the records from position from on, at most max records and, except for the first, at most
	// maxBytes of keys, values and headers. next is the position behind the last examined record. The spool
	// leaves out, sets aside and reports damaged records: next - from - len(records) are lost. A returned
	// record owns its bytes; Topic, Key, Value, Headers, Accepted and Stored are set and nothing else.
	// Positions are parallel to records.
	Read(topic string, from uint64, max, maxBytes int) (records []*Record, positions []uint64, next uint64, err error)

	// Settle notes that every record before this position has an outcome: the space is freed some time later,
	// and these records are not sent again after the end of the process. With the log's next position the log
	// is empty.
	Settle(topic string, before uint64) error

	// Bury writes dead letters, and returns the number written: all letters, or after an error the first
	// letters. Dead letters do not count against Append's limit, but have another: without space the oldest
	// letters are dropped, see DeadLog.
	Bury(letters []DeadLetter) (written int, err error)

	// DeadLog returns the positions of the present dead letters, in a log of their own, without a topic.
	DeadLog() SpoolLog

	// Exhume returns the oldest dead letters, at most max, with positions and reasons, and next, the position
	// behind the last examined letter: missing letters before next are damaged. forget removes all of these
	// from the spool. Without letters next is the first position.
	Exhume(max int) (letters []DeadLetter, next uint64, forget func() error, err error)

	// DropOldest drops the oldest piece of the largest log, for space: every record of the topic before the
	// position is gone from the disk. ok = false: there is nothing to drop.
	DropOldest() (topic string, before uint64, ok bool)

	// Now returns the time on the clock of Record.Stored, which no user can set. It is safe for concurrent
	// use and does not block.
	Now() time.Duration

	// Configure changes the limits.
	Configure(limits SpoolLimits)

	// Usage returns the state of the disk.
	Usage() SpoolUsage

	// Close executes the pending writes of Settle and syncs, and releases the directory.
	Close() error
}

// SpoolLog is a topic's log, with the positions from First up to Next, exclusive.
type SpoolLog struct {
	Topic       string
	First, Next uint64
}

// DeadLetter is a record that will not be sent, with the reason.
type DeadLetter struct {
	Record *Record
	Reason string // name of its counter
	Cause  string // the broker's words, or empty
	At     time.Time

	Position uint64 // in the log of dead letters, set by Exhume
	written  bool   // already in the spool, to be rewritten behind the others
}

// SpoolLimits are the connection's options for the spool itself.
type SpoolLimits struct {
	MaxBytes int64     // spool_max_mbytes
	Sync     SpoolSync // spool_sync
}

// SpoolSync is the time of the sync of written records.
type SpoolSync int

// The values of spool_sync.
const (
	SyncInterval SpoolSync = iota // at most a second after the write
	SyncAlways                    // before Append returns
	SyncNone                      // when the kernel likes
)

// SpoolUsage is the state of a spool on disk.
type SpoolUsage struct {
	Dir      string
	Bytes    int64 // all files, dead letters included
	MaxBytes int64
	Dead     uint64 // dead letters
	Damaged  uint64 // damaged records found since the opening
	SetAside int    // files with damage, kept for inspection
	Logs     []SpoolLogUsage
}

// SpoolLogUsage is a topic's part of it.
type SpoolLogUsage struct {
	Topic  string
	Bytes  int64
	Oldest time.Time // acceptance of the oldest record without an outcome; zero = none, or unknown
}

// Collect adds the numbers to v, which has the accounts of the topics. Topics without a record on disk are left out.
func (u *SpoolUsage) Collect(v *metrics.Values) {
	v.Add(metrics.SpoolBytes, uint64(u.Bytes))
	v.Add(metrics.SpoolDeadLetters, u.Dead)
	v.Add(metrics.SpoolDamaged, u.Damaged)
	v.Add(metrics.SpoolSetAside, uint64(u.SetAside))
	for _, l := range u.Logs {
		if at := v.At(metrics.Topic, l.Topic); at.Sum(metrics.RecordsSpooled) > 0 {
			at.Add(metrics.SpoolTopicBytes, uint64(l.Bytes))
			at.AddTime(metrics.SpoolOldest, l.Oldest)
		}
	}
}

// ErrSpoolFull is the error of a spool at its limit, spool_max_mbytes, or with a full disk.
var ErrSpoolFull = errors.New("the spool is full")
