package spool

import (
	"errors"
	"time"

	"reskafka/internal/metrics"
)

// Log is a topic's log, with the positions from First up to Next, exclusive.
type Log struct {
	Topic       string
	First, Next uint64
}

// Limits are the connection's options for the spool itself.
type Limits struct {
	MaxBytes int64 // spool_max_mbytes
	Sync     Sync  // spool_sync
}

// Sync is the time of the sync of written records.
type Sync int

// The values of spool_sync.
const (
	SyncInterval Sync = iota // at most a second after the write
	SyncAlways               // before Append returns
	SyncNone                 // when the kernel likes
)

// Usage is the state of a spool on disk.
type Usage struct {
	Dir      string
	Bytes    int64 // all files, dead letters included
	MaxBytes int64
	Dead     uint64 // dead letters
	Damaged  uint64 // damaged records found since the opening
	SetAside int    // files with damage, kept for inspection
	Logs     []LogUsage
}

// LogUsage is a topic's part of it.
type LogUsage struct {
	Topic  string
	Bytes  int64
	Oldest time.Time // acceptance of the oldest record without an outcome; zero = none, or unknown
}

// Collect adds the numbers to v, which has the accounts of the topics. Topics without a record on disk are left out.
func (u *Usage) Collect(v *metrics.Values) {
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

// ErrFull is the error of a spool at its limit, spool_max_mbytes, or with a full disk.
var ErrFull = errors.New("the spool is full")
