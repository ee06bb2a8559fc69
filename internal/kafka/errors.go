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

// subject is what an answer of a broker is a verdict on.
type subject int

const (
	onRecord subject = iota // the record: it stays refused however often it is sent
	onTopic                 // its topic, the cluster or this connection: the records wait until somebody changes that
	onTime                  // its time, which is sent as another one
)

// verdicts are the brokers' answers that stay the same when a batch is sent again, unless somebody or something changes. reason is
// the name of a counter. Whatever is not here is tried again until the record's time is up: a broker that is away, restarting,
// not the leader any more, out of replicas or of disk, or that refuses our password.
var verdicts = []struct {
	err    error
	on     subject
	reason string
}{
	{kerr.MessageTooLarge, onRecord, "message too large"},    // its size
	{kerr.RecordListTooLarge, onRecord, "message too large"}, // its size
	{kerr.InvalidTopicException, onRecord, "invalid topic"},  // the name of its topic, which the record keeps
	{kerr.InvalidRecord, onRecord, "invalid record"},         // its key or value, by a rule of the cluster

	{kerr.TopicAuthorizationFailed, onTopic, "not authorized"},            // the topic's ACLs
	{kerr.ClusterAuthorizationFailed, onTopic, "not authorized"},          // the cluster's ACLs
	{kerr.TransactionalIDAuthorizationFailed, onTopic, "not authorized"},  // the cluster's ACLs
	{kerr.PolicyViolation, onTopic, "policy violation"},                   // a policy of the cluster
	{kerr.UnsupportedForMessageFormat, onTopic, "unsupported format"},     // message.format.version of the topic
	{kerr.UnsupportedCompressionType, onTopic, "unsupported compression"}, // the broker's version, compression_codec
	{kerr.InvalidRequiredAcks, onTopic, "invalid acks"},                   // acks of the connection

	{kerr.InvalidTimestamp, onTime, "invalid timestamp"}, // the clock here or there, or how long the record waited
}

// verdictOf finds an answer in the table.
func verdictOf(err error) (reason string, on subject, known bool) {
	for _, v := range verdicts {
		if errors.Is(err, v.err) {
			return v.reason, v.on, true
		}
	}
	return "", 0, false
}

// judged reports whether err is a verdict on something.
func judged(err error, on subject) bool {
	_, found, known := verdictOf(err)
	return known && found == on
}

// Permanent implements outbox.Transport: whether sending again could never help a record that failed with err, and
// the reason in a word or two.
func (p *Producer) Permanent(err error) (reason string, final bool) {
	if err == nil {
		return "", false
	}
	if reason, on, known := verdictOf(err); known && on == onRecord {
		return reason, true
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
	return errors.Is(err, kerr.MessageTooLarge) || errors.Is(err, kerr.RecordListTooLarge) || errors.Is(err, kerr.InvalidRecord)
}
