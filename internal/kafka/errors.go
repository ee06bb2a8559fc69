package kafka

import (
	"errors"

	"github.com/twmb/franz-go/pkg/kerr"
)

// ErrClosed is the outcome of a record that Close found under way. The broker may or may not have it. It is not
// permanent: the next client of the connection can carry the record.
var ErrClosed = errors.New("the client was closed")

// errHeldBack is the outcome of a record that was not sent because one before it is to be tried again.
var errHeldBack = errors.New("held back behind a record of its topic that is to be tried again")

// errNoAnswer is for a partition that a broker's answer says nothing about.
var errNoAnswer = errors.New("the broker's answer says nothing about the partition")

// errDefect is for a request that was not made because of a defect, which is in the log.
var errDefect = errors.New("the client has a defect, which is in the log")

// retriesSpent is the refusal of the last attempt that `retries` allows.
type retriesSpent struct{ cause error }

func (e *retriesSpent) Error() string { return e.cause.Error() }
func (e *retriesSpent) Unwrap() error { return e.cause }

// permanent holds the brokers' answers, and the client's, that stay the same however often a record is sent, with the
// name of the counter each goes to. Whatever is not here is tried again until the record's time is up: a broker that
// is away, restarting, not the leader any more, out of replicas or of disk, or that refuses our password.
var permanent = []struct {
	err    error
	reason string
}{
	{kerr.MessageTooLarge, "message too large"},
	{kerr.RecordListTooLarge, "message too large"},
	{kerr.InvalidTopicException, "invalid topic"},
	{kerr.TopicAuthorizationFailed, "not authorized"},
	{kerr.InvalidRecord, "invalid record"},
	{kerr.InvalidTimestamp, "invalid timestamp"},
	{kerr.UnsupportedForMessageFormat, "unsupported format"},
	{kerr.UnsupportedCompressionType, "unsupported compression"},
	{kerr.InvalidRequiredAcks, "invalid acks"},
}

// Permanent implements outbox.Transport: whether sending again could never help a record that failed with err, and
// the reason in a word or two.
func (p *Producer) Permanent(err error) (reason string, final bool) {
	if err == nil {
		return "", false
	}
	for _, known := range permanent {
		if errors.Is(err, known.err) {
			return known.reason, true
		}
	}
	if _, spent := errors.AsType[*retriesSpent](err); spent {
		return "retries spent", true
	}
	return "", false
}

// UnknownTopic says whether a record came back because the brokers do not know its topic. The client has then asked
// for it for unknownTopicTime already, creating it where the brokers allow that; whether to go on asking is up to the
// outbox.
func UnknownTopic(err error) bool {
	return errors.Is(err, kerr.UnknownTopicOrPartition) || errors.Is(err, kerr.UnknownTopicID)
}

// ofBatch says whether err is a broker's verdict on a batch as a whole because of one record, or its size, so that it says nothing
// certain about any one unless the batch holds only that.
func ofBatch(err error) bool {
	return errors.Is(err, kerr.MessageTooLarge) || errors.Is(err, kerr.RecordListTooLarge) ||
		errors.Is(err, kerr.InvalidRecord) || errors.Is(err, kerr.InvalidTimestamp)
}
