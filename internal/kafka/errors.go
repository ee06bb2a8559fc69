package kafka

import (
	"errors"

	"github.com/twmb/franz-go/pkg/kerr"
)

// errNoAnswer is for a partition that a broker's answer says nothing about.
var errNoAnswer = errors.New("the broker's answer says nothing about the partition")

// errNoBatch is the verdict on an answer from which no record can be taken and which has no other fault.
var errNoBatch = errors.New("the batch is cut off or has other records than it claims")

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
	err    *kerr.Error
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

// verdictsOn returns the answers that are verdicts on something.
func verdictsOn(on subject) (answers []*kerr.Error) {
	for _, v := range verdicts {
		if v.on == on {
			answers = append(answers, v.err)
		}
	}
	return answers
}

// judged reports whether err is a verdict on something.
func judged(err error, on subject) bool {
	_, found, known := verdictOf(err)
	return known && found == on
}

// UnknownTopic says whether a record came back because the brokers do not know its topic. The client has then asked
// for it for unknownTopicTime already, creating it where the brokers allow that; whether to go on asking is up to the
// outbox.
func UnknownTopic(err error) bool {
	return errors.Is(err, kerr.UnknownTopicOrPartition) || errors.Is(err, kerr.UnknownTopicID)
}
