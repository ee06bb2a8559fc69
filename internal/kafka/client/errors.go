package client

import (
	"errors"

	"github.com/twmb/franz-go/pkg/kerr"
)

// ErrNoAnswer is the error of a partition that is missing from a broker's answer.
var ErrNoAnswer = errors.New("the broker's answer says nothing about the partition")

// ErrNoBatch is the verdict on an answer from which no record can be taken and which has no other fault.
var ErrNoBatch = errors.New("the batch is cut off or has other records than it claims")

// Subject is the subject of a verdict.
type Subject int

const (
	OnRecord Subject = iota // the record: a retry cannot succeed
	OnTopic                 // the topic, the cluster or this connection: the records wait for a change
	OnTime                  // the time: the record is sent with another time
)

// verdicts are the brokers' answers that a retry does not change without a change elsewhere. reason is the
// name of a counter. All other answers are retried until the record's deadline: a broker that is away,
// restarting, no longer the leader, out of replicas or of disk, or refuses our password.
var verdicts = []struct {
	err    *kerr.Error
	on     Subject
	reason string
}{
	{kerr.MessageTooLarge, OnRecord, "message too large"},    // the size
	{kerr.RecordListTooLarge, OnRecord, "message too large"}, // the size
	{kerr.InvalidTopicException, OnRecord, "invalid topic"},  // the name of the topic, which the record keeps
	{kerr.InvalidRecord, OnRecord, "invalid record"},         // the key or the value, by a rule of the cluster

	{kerr.TopicAuthorizationFailed, OnTopic, "not authorized"},            // the topic's ACLs
	{kerr.ClusterAuthorizationFailed, OnTopic, "not authorized"},          // the cluster's ACLs
	{kerr.TransactionalIDAuthorizationFailed, OnTopic, "not authorized"},  // the cluster's ACLs
	{kerr.PolicyViolation, OnTopic, "policy violation"},                   // a policy of the cluster
	{kerr.UnsupportedForMessageFormat, OnTopic, "unsupported format"},     // message.format.version of the topic
	{kerr.UnsupportedCompressionType, OnTopic, "unsupported compression"}, // the broker's version, compression_codec
	{kerr.InvalidRequiredAcks, OnTopic, "invalid acks"},                   // acks of the connection

	{kerr.InvalidTimestamp, OnTime, "invalid timestamp"}, // the clock here or there, or how long the record waited
}

// VerdictOf returns the reason of a verdict, which is the name of a counter, and its subject. known is false
// for every other error.
func VerdictOf(err error) (reason string, on Subject, known bool) {
	for _, v := range verdicts {
		if errors.Is(err, v.err) {
			return v.reason, v.on, true
		}
	}
	return "", 0, false
}

// VerdictsOn returns the answers that are verdicts on a subject.
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

// UnknownTopic reports whether a record came back because the topic is unknown to the brokers. The client has
// then asked for the topic for unknownTopicTime, including the creation where allowed. The outbox decides
// about further attempts.
func UnknownTopic(err error) bool {
	return errors.Is(err, kerr.UnknownTopicOrPartition) || errors.Is(err, kerr.UnknownTopicID)
}
