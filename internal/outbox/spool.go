package outbox

import (
	"errors"
	"time"

	"reskafka/internal/metrics"
)

// Spool keeps a connection's records on disk: one log for each topic, where every record stands at a position, and the
// dead letters. Positions of a log are counted from 1, follow each other without a gap and are never given twice.
//
// internal/spool implements it, the tests of this package with a fake. Its calls may wait for the disk. They come from
// one goroutine at a time, without the outbox's lock; Usage and Configure from any. What the spool holds after a call
// has returned survives the end of the process; when it survives a power cut is the spool's affair.
type Spool interface {
	// Logs says what the spool held when it was opened, by topic. An empty log is left out.
	Logs() []SpoolLog

	// Append writes records, all of them of one topic, at the end of its log, which it makes if there is none. The first one stands
	// at position first, the others behind it. It writes all of them or none: with an error the log is as it was.
	// errors.Is(err, ErrSpoolFull): the spool is at its own limit, or the disk is full; other errors are the disk's.
	Append(topic string, records []*Record) (first uint64, err error)

	// Read gives the records from position from on, at most max of them and, but for the first, at most maxBytes of
	// keys, values and headers, and next, the position behind the last one looked at. What is damaged is left out,
	// set aside and reported by the spool; next says that it was passed: next - from - len(records) are lost. A record
	// that is given owns its bytes; Topic, Key, Value, Headers,
	// Accepted and Stored are set and nothing else. Positions are parallel to records.
	Read(topic string, from uint64, max, maxBytes int) (records []*Record, positions []uint64, next uint64, err error)

	// Settle says that every record before this position has had its outcome: its room is given back some time, and
	// when the process ends it is not sent again. With the log's next position the log is empty.
	Settle(topic string, before uint64) error

	// Bury writes dead letters, and says how many: all of them, or with an error the first ones. It does not count against what
	// Append may use up, but is bounded by itself: when there is no room it gives up the oldest dead letters, see DeadLog.
	Bury(letters []DeadLetter) (written int, err error)

	// DeadLog gives the positions of the dead letters that there are. They are those of a log of its own, without a topic.
	DeadLog() SpoolLog

	// Exhume gives the oldest dead letters, at most max, with their positions and what they were buried for, and next, the position
	// behind the last one looked at: what is missing before it is damaged. forget removes all of these from the spool. Without any it
	// gives none, and the first position as next.
	Exhume(max int) (letters []DeadLetter, next uint64, forget func() error, err error)

	// DropOldest gives up the oldest piece of the largest log, to make room: everything of that topic before the
	// position is gone from the disk. ok = false: there is nothing to give up.
	DropOldest() (topic string, before uint64, ok bool)

	// Now is the time on the clock of Record.Stored, which nobody can set. It may be called from any goroutine and does not block.
	Now() time.Duration

	// Configure changes the limits.
	Configure(limits SpoolLimits)

	// Usage says what there is on disk.
	Usage() SpoolUsage

	// Close writes what Settle and the policy of syncing still owe and gives the directory free for others.
	Close() error
}

// SpoolLog is one topic's log: it holds the positions from First up to, but not including, Next.
type SpoolLog struct {
	Topic       string
	First, Next uint64
}

// DeadLetter is a record that is not to be sent, and why.
type DeadLetter struct {
	Record *Record
	Reason string // the counter it went to
	Cause  string // the broker's words, or empty
	At     time.Time

	Position uint64 // in the log of dead letters, set by Exhume
	written  bool   // it is in the spool already, and is to be written again behind the others
}

// SpoolLimits are the connection's options that the spool itself obeys.
type SpoolLimits struct {
	MaxBytes int64     // spool_max_mbytes
	Sync     SpoolSync // spool_sync
}

// SpoolSync says when what was written is forced to the disk.
type SpoolSync int

// The values of spool_sync.
const (
	SyncInterval SpoolSync = iota // a second after it was written at the latest
	SyncAlways                    // before Append returns
	SyncNone                      // when the kernel likes
)

// SpoolUsage is what a spool has on disk.
type SpoolUsage struct {
	Dir      string
	Bytes    int64 // all files, dead letters included
	MaxBytes int64
	Dead     uint64 // dead letters
	Damaged  uint64 // records found damaged since it was opened
	SetAside int    // files with something damaged in them, kept for a look
	Logs     []SpoolLogUsage
}

// SpoolLogUsage is one topic's part of it.
type SpoolLogUsage struct {
	Topic  string
	Bytes  int64
	Oldest time.Time // when the oldest record was accepted that has no outcome yet; zero = none, or not known yet
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

// ErrSpoolFull is the error of a spool at its limit, spool_max_mbytes, and of one whose disk is full.
var ErrSpoolFull = errors.New("the spool is full")
