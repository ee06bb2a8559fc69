package client

import (
	"errors"

	"github.com/twmb/franz-go/pkg/kerr"
)

// ErrNoAnswer is for a partition that a broker's answer says nothing about.
var ErrNoAnswer = errors.New("the broker's answer says nothing about the partition")

// ErrNoBatch is the verdict on an answer from which no record can be taken and which has no other fault.
var ErrNoBatch = errors.New("the batch is cut off or has other records than it claims")

// Subject is what an answer of a broker is a verdict on.
type Subject int

const (
	OnRecord Subject = iota // the record: it stays refused however often it is sent
	OnTopic                 // its topic, the cluster or this connection: the records wait until somebody changes that
	OnTime                  // its time, which is sent as another one
)

// verdicts are the brokers' answers that stay the same when a batch is sent again, unless somebody or something changes. reason is
// the name of a counter. Whatever is not here is tried again until the record's time is up: a broker that is away, restarting,
// not the leader any more, out of replicas or of disk, or that refuses our password.
var verdicts = []struct {
	err    *kerr.Error
	on     Subject
	reason string
}{
	{kerr.MessageTooLarge, OnRecord, "message too large"},    // its size
	{kerr.RecordListTooLarge, OnRecord, "message too large"}, // its size
	{kerr.InvalidTopicException, OnRecord, "invalid topic"},  // the name of its topic, which the record keeps
	{kerr.InvalidRecord, OnRecord, "invalid record"},         // its key or value, by a rule of the cluster

	{kerr.TopicAuthorizationFailed, OnTopic, "not authorized"},            // the topic's ACLs
	{kerr.ClusterAuthorizationFailed, OnTopic, "not authorized"},          // the cluster's ACLs
	{kerr.TransactionalIDAuthorizationFailed, OnTopic, "not authorized"},  // the cluster's ACLs
	{kerr.PolicyViolation, OnTopic, "policy violation"},                   // a policy of the cluster
	{kerr.UnsupportedForMessageFormat, OnTopic, "unsupported format"},     // message.format.version of the topic
	{kerr.UnsupportedCompressionType, OnTopic, "unsupported compression"}, // the broker's version, compression_codec
	{kerr.InvalidRequiredAcks, OnTopic, "invalid acks"},                   // acks of the connection

	{kerr.InvalidTimestamp, OnTime, "invalid timestamp"}, // the clock here or there, or how long the record waited
}

// VerdictOf returns the reason of a verdict, a counter's name, and its subject. known is false for every other error.
func VerdictOf(err error) (reason string, on Subject, known bool) {
	for _, v := range verdicts {
		if errors.Is(err, v.err) {
			return v.reason, v.on, true
		}
	}
	return "", 0, false
}

// VerdictsOn returns the answers that are verdicts on something.
func VerdictsOn(on Subject) (answers []*kerr.Error) {
	for _, v := range verdicts {
		if v.on == on {
			answers = append(answers, v.err)
		}
	}
	return answers
}

// IsVerdict reports whether err is a verdict on something.
func IsVerdict(err error, on Subject) bool {
	_, found, known := VerdictOf(err)
	return known && found == on
}

// UnknownTopic reports whether a record came back because the brokers do not know its topic. The client has then asked
// for it for unknownTopicTime already, creating it where the brokers allow that; whether to go on asking is up to the
// outbox.
func UnknownTopic(err error) bool {
	return errors.Is(err, kerr.UnknownTopicOrPartition) || errors.Is(err, kerr.UnknownTopicID)
}
