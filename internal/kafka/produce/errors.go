package produce

import (
	"errors"

	"github.com/twmb/franz-go/pkg/kerr"

	"reskafka/internal/kafka/client"
)

// ErrClosed is the outcome of a record in flight at Close. The broker may have the record. The error is not
// permanent: the connection's next client can send the record.
var ErrClosed = errors.New("the client was closed")

// errHeldBack is the outcome of an unsent record behind a record that will be retried.
var errHeldBack = errors.New("held back behind a record of its topic that is to be tried again")

// errDefect is the error of a request without bytes because of a defect; the log has the defect.
var errDefect = errors.New("the client has a defect, which is in the log")

// retriesSpent is the refusal of the last attempt allowed by `retries`.
type retriesSpent struct{ cause error }

func (e *retriesSpent) Error() string { return e.cause.Error() }
func (e *retriesSpent) Unwrap() error { return e.cause }

// Permanent implements outbox.Transport: whether no retry can help a record after err, and the reason in a
// word or two.
func (p *Producer) Permanent(err error) (reason string, final bool) {
	if err == nil {
		return "", false
	}
	if reason, on, known := client.VerdictOf(err); known && on == client.OnRecord {
		return reason, true
	}
	if _, spent := errors.AsType[*retriesSpent](err); spent {
		return "retries spent", true
	}
	return "", false
}

// ofBatch reports whether err is a broker's verdict on a whole batch because of one record or the size. Such
// a verdict proves nothing about a single record, unless the batch has no other.
func ofBatch(err error) bool {
	return errors.Is(err, kerr.MessageTooLarge) || errors.Is(err, kerr.RecordListTooLarge) || errors.Is(err, kerr.InvalidRecord)
}
