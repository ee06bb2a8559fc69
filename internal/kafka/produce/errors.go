package produce

import (
	"errors"

	"github.com/twmb/franz-go/pkg/kerr"

	"reskafka/internal/kafka/client"
)

// ErrClosed is the outcome of a record that Close found under way. The broker may or may not have it. It is not
// permanent: the next client of the connection can carry the record.
var ErrClosed = errors.New("the client was closed")

// errHeldBack is the outcome of a record that was not sent because one before it is to be tried again.
var errHeldBack = errors.New("held back behind a record of its topic that is to be tried again")

// errDefect is for a request that was not made because of a defect, which is in the log.
var errDefect = errors.New("the client has a defect, which is in the log")

// retriesSpent is the refusal of the last attempt that `retries` allows.
type retriesSpent struct{ cause error }

func (e *retriesSpent) Error() string { return e.cause.Error() }
func (e *retriesSpent) Unwrap() error { return e.cause }

// Permanent implements outbox.Transport: whether sending again could never help a record that failed with err, and
// the reason in a word or two.
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

// ofBatch says whether err is a broker's verdict on a batch as a whole because of one record, or its size, so that it says nothing
// certain about any one unless the batch holds only that.
func ofBatch(err error) bool {
	return errors.Is(err, kerr.MessageTooLarge) || errors.Is(err, kerr.RecordListTooLarge) || errors.Is(err, kerr.InvalidRecord)
}
