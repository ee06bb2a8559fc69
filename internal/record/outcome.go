package record

import (
	"errors"
	"strings"
)

// Reasons of outcomes without a broker; a client adds the brokers' reasons.
const (
	ReasonExpired    = "message timeout"
	ReasonStopped    = "engine stopped"
	ReasonQueueFull  = "queue full"               // a record of an event source in memory, beside records on disk
	ReasonSpoolFull  = "spool full"               // the oldest, with spool_full = drop_oldest
	ReasonTooOld     = "expired"                  // spool_max_hours
	ReasonDamaged    = "damaged"                  // cannot be read back from the disk
	ReasonUnreadable = "not encodable"            // the frame in shared memory is not what it was at the acceptance
	ReasonPurged     = "purged"                   // by an administrator
	ReasonDeadFull   = "no room for dead letters" // the oldest dead letters, which may take an eighth of spool_max_mbytes
)

// ErrSpooled is the report of an unsent record on disk at a stop: the record will be sent after the next
// start.
var ErrSpooled = errors.New("kept in the spool until the next start")

// DroppedError is the outcome of a record dropped without a broker: the reason.
type DroppedError string

// Error implements error.
func (e DroppedError) Error() string { return string(e) }

// DeadError is the outcome of a dead letter.
type DeadError struct {
	Reason string
	Cause  error // the broker's words, or nil
}

// Error implements error.
func (e *DeadError) Error() string {
	text := "dead letter, " + e.Reason
	if e.Cause != nil {
		text += ": " + strings.TrimPrefix(e.Cause.Error(), e.Reason+": ")
	}
	return text
}

// Unwrap returns the cause, and the reason as a DroppedError.
func (e *DeadError) Unwrap() []error {
	if e.Cause == nil {
		return []error{DroppedError(e.Reason)}
	}
	return []error{DroppedError(e.Reason), e.Cause}
}
