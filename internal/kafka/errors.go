package kafka

import (
	"context"
	"errors"
	"math"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// ErrClosed is the outcome of a record that Close found under way. The broker may or may not have it. It is not
// permanent: the next client of the connection can carry the record.
var ErrClosed = errors.New("the client was closed")

// errHeldBack is the outcome of a record that was not sent because one before it is to be tried again.
var errHeldBack = errors.New("held back behind a record of its topic that is to be tried again")

// sharedVerdict is a refusal that a whole batch received and that one record in it may have earned alone. It is not
// permanent: see trials.
type sharedVerdict struct{ cause error }

func (e *sharedVerdict) Error() string {
	return "in one batch with a refused record: " + e.cause.Error()
}
func (e *sharedVerdict) Unwrap() error { return e.cause }

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
	if _, shared := errors.AsType[*sharedVerdict](err); shared || err == nil {
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

// refusedForNow says whether err is a broker's refusal that counts against `retries`. A connection that failed is none, nor
// is what a broker says of a topic rather than of a record.
func (p *Producer) refusedForNow(err error) bool {
	if p.retries == math.MaxInt32 {
		return false
	}
	answer, ok := err.(*kerr.Error) // as it is: wrapped, it is the answer to a request for metadata
	if !ok || !answer.Retriable || UnknownTopic(answer) {
		return false
	}
	switch answer {
	case kerr.LeaderNotAvailable, kerr.ListenerNotFound, kerr.ReplicaNotAvailable: // of metadata
		return false
	}
	return true
}

// ofBatch says whether err was the broker's verdict on a batch as a whole because of one record, so that it says nothing
// certain about any one unless the batch held only that.
func (p *Producer) ofBatch(err error) bool {
	return errors.Is(err, kerr.MessageTooLarge) || errors.Is(err, kerr.RecordListTooLarge) ||
		errors.Is(err, kerr.InvalidRecord) || errors.Is(err, kerr.InvalidTimestamp)
}

// ended says whether err only means that the client is closing, or that its records were called back.
func ended(err error) bool {
	return errors.Is(err, kgo.ErrClientClosed) || errors.Is(err, kgo.ErrAborting) || errors.Is(err, context.Canceled)
}
