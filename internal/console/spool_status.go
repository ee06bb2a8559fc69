package console

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// SpoolStatus is what a command shows of the part of a connection's messages that is on disk.
type SpoolStatus struct {
	Name       string // of the connection
	Durability string // of the connection; one of its modules may ask for another
	Dir        string // the connection's own directory
	State      string // SpoolInUse, SpoolUnused, or why it cannot be used

	Bytes    int64  // all files, dead letters included
	MaxBytes int64  // spool_max_mbytes
	Records  uint64 // that wait on disk for their delivery, over all topics
	Dead     uint64 // dead letters
	Damaged  uint64 // records found damaged since the spool was opened; they are lost
	SetAside int    // files with something damaged in them, kept for a look

	Topics []SpoolTopic // those with records, in any order
}

// The states of a spool that need no attention.
const (
	SpoolInUse  = "in use"
	SpoolUnused = "not used yet"
)

// SpoolTopic is one topic's part of a spool.
type SpoolTopic struct {
	Topic   string
	Records uint64
	Bytes   int64
	Oldest  time.Time // when the oldest of them was accepted; zero = none, or not known
}

// RetryResult says what RetrySpool has set going.
type RetryResult struct {
	Letters uint64 // dead letters that are records again and on their way
	Topics  int    // topics that were waiting to be tried again and need not wait any more
}

// PurgeResult says what PurgeSpool has thrown away.
type PurgeResult struct {
	Records uint64 // that waited for their delivery; they are counted as dropped
	Letters uint64 // dead letters
	Bytes   int64  // the room that is free again
}

// oldest is when the oldest record of all topics was accepted, or zero.
func (s *SpoolStatus) oldest() time.Time {
	var oldest time.Time
	for _, t := range s.Topics {
		if !t.Oldest.IsZero() && (oldest.IsZero() || t.Oldest.Before(oldest)) {
			oldest = t.Oldest
		}
	}
	return oldest
}

// summary says in a few words how a spool is doing.
func (s *SpoolStatus) summary(now time.Time) string {
	if s.State == SpoolUnused {
		return s.State
	}
	text := plural(s.Records, "record") + ", " + s.room()
	if oldest := s.oldest(); !oldest.IsZero() {
		text += ", oldest " + age(now.Sub(oldest))
	}
	if s.Dead > 0 {
		text += ", " + plural(s.Dead, "dead letter")
	}
	if s.State != SpoolInUse {
		text += "; " + printable(s.State)
	}
	return text
}

// room says how much of the disk is used, and how much may be.
func (s *SpoolStatus) room() string { return size(s.Bytes) + " of " + size(s.MaxBytes) }

// ageOrNone prints how long ago something was.
func ageOrNone(at, now time.Time) string {
	if at.IsZero() {
		return "-"
	}
	return age(now.Sub(at))
}

// plural counts things: 1 record, 2 records.
func plural(n uint64, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return strconv.FormatUint(n, 10) + " " + thing
}

// size prints a number of bytes to about three digits: 812 B, 11.3 MiB, 512 MiB.
func size(bytes int64) string {
	if bytes < 1<<10 {
		return fmt.Sprintf("%d B", bytes)
	}
	const units = "KMGTPE"
	n, unit := float64(bytes)/(1<<10), 0
	for n >= 1023.5 { // what would be printed as 1024
		n, unit = n/(1<<10), unit+1
	}
	text := fmt.Sprintf("%.1f", n)
	if n >= 99.95 {
		text = fmt.Sprintf("%.0f", n)
	}
	return fmt.Sprintf("%s %ciB", strings.TrimSuffix(text, ".0"), units[unit])
}
