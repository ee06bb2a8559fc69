package outbox

import (
	"time"

	"reskafka/internal/record"
	"reskafka/internal/spool"
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
	Logs() []spool.Log

	// Append writes records of one topic at the end of its log, creating a missing log. The first record gets
	// position first, the others follow. Append writes all records or none: after an error the log is
	// unchanged. errors.Is(err, spool.ErrFull): the spool is at its own limit, or the disk is full; other
	// errors are the disk's.
	Append(topic string, records []*record.Record) (first uint64, err error)

	// Read returns the records from position from on, at most max records and, except for the first, at most
	// maxBytes of keys, values and headers. next is the position behind the last examined record. The spool
	// leaves out, sets aside and reports damaged records: next - from - len(records) are lost. A returned
	// record owns its bytes; Topic, Key, Value, Headers, Accepted and Stored are set and nothing else.
	// Positions are parallel to records.
	Read(topic string, from uint64, max, maxBytes int) (records []*record.Record, positions []uint64, next uint64, err error)

	// Settle notes that every record before this position has an outcome: the space is freed some time later,
	// and these records are not sent again after the end of the process. With the log's next position the log
	// is empty.
	Settle(topic string, before uint64) error

	// Bury writes dead letters, and returns the number written: all letters, or after an error the first
	// letters. Dead letters do not count against Append's limit, but have another: without space the oldest
	// letters are dropped, see DeadLog.
	Bury(letters []record.DeadLetter) (written int, err error)

	// DeadLog returns the positions of the present dead letters, in a log of their own, without a topic.
	DeadLog() spool.Log

	// Exhume returns the oldest dead letters, at most max, with positions and reasons, and next, the position
	// behind the last examined letter: missing letters before next are damaged. forget removes all of these
	// from the spool. Without letters next is the first position.
	Exhume(max int) (letters []record.DeadLetter, next uint64, forget func() error, err error)

	// DropOldest drops the oldest piece of the largest log, for space: every record of the topic before the
	// position is gone from the disk. ok = false: there is nothing to drop.
	DropOldest() (topic string, before uint64, ok bool)

	// Now returns the time on the clock of Record.Stored, which no user can set. It is safe for concurrent
	// use and does not block.
	Now() time.Duration

	// Configure changes the limits.
	Configure(limits spool.Limits)

	// Usage returns the state of the disk.
	Usage() spool.Usage

	// Close executes the pending writes of Settle and syncs, and releases the directory.
	Close() error
}
