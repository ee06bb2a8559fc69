package console

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"reskafka/internal/metrics"
)

// SpoolStatus is the state of a connection's messages on disk for a command.
type SpoolStatus struct {
	Name       string // of the connection
	Durability string // of the connection; a module may use another
	Dir        string // the connection's own directory
	State      string // SpoolInUse, SpoolUnused, or the fault

	Numbers *metrics.Values // of the connection, its topics and spool
}

// The states of a spool without need of attention.
const (
	SpoolInUse  = "in use"
	SpoolUnused = "not used yet"
)

// RetryResult is the result of RetrySpool.
type RetryResult struct {
	Letters uint64 // requeued dead letters
	Topics  int    // topics without a further wait for their retry
}

// PurgeResult is the result of PurgeSpool.
type PurgeResult struct {
	Records uint64 // deleted waiting records; counted as dropped
	Letters uint64 // dead letters
	Bytes   int64  // freed bytes
}

// oldest is when the oldest record of all topics was accepted, or zero.
func (s *SpoolStatus) oldest() time.Time {
	var oldest time.Time
	for _, v := range s.Numbers.Each(metrics.Topic) {
		if at := v.Time(metrics.SpoolOldest); !at.IsZero() && (oldest.IsZero() || at.Before(oldest)) {
			oldest = at
		}
	}
	return oldest
}

// summary says in a few words how a spool is doing.
func (s *SpoolStatus) summary(now time.Time) string {
	if s.State == SpoolUnused {
		return s.State
	}
	text := plural(spooled.of(s.Numbers), "record") + ", " + s.room()
	if oldest := s.oldest(); !oldest.IsZero() {
		text += ", oldest " + age(now.Sub(oldest))
	}
	if dead := s.Numbers.Sum(metrics.SpoolDeadLetters); dead > 0 {
		text += ", " + plural(dead, "dead letter")
	}
	if s.State != SpoolInUse {
		text += "; " + printable(s.State)
	}
	return text
}

// room says how much of the disk is used, and how much may be.
func (s *SpoolStatus) room() string {
	return s.size(metrics.SpoolBytes) + " of " + s.size(metrics.SpoolLimit)
}

// size prints a number of bytes of the whole spool.
func (s *SpoolStatus) size(m *metrics.Metric) string { return size(int64(s.Numbers.Sum(m))) }

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
	for n >= 1023.5 { // 1024 in print
		n, unit = n/(1<<10), unit+1
	}
	text := fmt.Sprintf("%.1f", n)
	if n >= 99.95 {
		text = fmt.Sprintf("%.0f", n)
	}
	return fmt.Sprintf("%s %ciB", strings.TrimSuffix(text, ".0"), units[unit])
}
