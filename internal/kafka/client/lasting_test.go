package client

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/internal/host"
)

// listing returns a cluster's metadata with its brokers, each "host" on port 9092.
func listing(hosts ...string) *kmsg.MetadataResponse {
	answer := kmsg.NewPtrMetadataResponse()
	for i, h := range hosts {
		answer.Brokers = append(answer.Brokers, kmsg.MetadataResponseBroker{NodeID: int32(i), Host: h, Port: 9092})
	}
	return answer
}

func (w *watched) brokerAt(address string) (BrokerStatus, bool) {
	for _, b := range w.status.Snapshot().Brokers {
		if b.Address == address {
			return b, true
		}
	}
	return BrokerStatus{}, false
}

var bootstrap = kgo.BrokerMetadata{NodeID: -1 << 31, Host: "bootstrap", Port: 9092}

// TestCluster_AfterAnOutage_OtherAddressesAreNotNeeded guards that a name of `brokers`, tried in an outage,
// does not stay unconnected after the broker is connected under another name.
func TestCluster_AfterAnOutage_OtherAddressesAreNotNeeded(t *testing.T) {
	w := watch(t)
	w.OnBrokerConnect(bootstrap, 0, nil, dialError(1, syscall.ECONNREFUSED))
	w.connect(dialError(1, syscall.ECONNREFUSED))
	if b, _ := w.brokerAt("bootstrap:9092"); b.Unneeded {
		t.Error("an address of `brokers` is not needed although the cluster has not given any")
	}
	w.log.All = nil
	w.at = w.at.Add(time.Minute)
	w.connect(nil)
	w.expect("connection my-kafka: broker kafka1:9092 is back after 1m0s")
	w.SetCluster(listing("kafka1"))
	w.expect("connection my-kafka: broker bootstrap:9092 is not needed any more: the cluster is reached by other addresses")
	if b, ok := w.brokerAt("bootstrap:9092"); !ok || !b.Unneeded {
		t.Errorf("%+v", b)
	}
	w.SetCluster(listing("kafka1"))
	w.expect()
	// A broker that has left the cluster or has a new address.
	w.SetCluster(listing("kafka2"))
	if b, ok := w.brokerAt("kafka1:9092"); ok && b.Unneeded {
		t.Errorf("kafka1 is connected and not needed: %+v", b)
	}
	w.OnBrokerDisconnect(kafka1, nil)
	w.SetCluster(listing("kafka2"))
	if b, ok := w.brokerAt("kafka1:9092"); ok {
		t.Errorf("kafka1 is still known: %+v", b)
	}
	w.SetCluster(&kmsg.MetadataResponse{}) // which tells nothing
	if b, _ := w.brokerAt("bootstrap:9092"); !b.Unneeded {
		t.Errorf("%+v", b)
	}
}

// TestStatus_ClosedWithoutAFailure_IsIdle checks that the end of an idle connection is no failure, and a
// failed connection is not idle.
func TestStatus_ClosedWithoutAFailure_IsIdle(t *testing.T) {
	w := watch(t)
	w.connect(nil)
	w.OnBrokerDisconnect(kafka1, nil)
	if b, _ := w.brokerAt("kafka1:9092"); b.Connected || !b.Idle {
		t.Errorf("after a rest: %+v", b)
	}
	w.answer(kmsg.Produce, &IdleEnded{io.EOF})
	w.expect()
	w.connect(dialError(1, syscall.ECONNREFUSED))
	if b, _ := w.brokerAt("kafka1:9092"); b.Idle {
		t.Errorf("after a failure: %+v", b)
	}
}

// TestStatus_AttemptUnderWay_IsShown checks that a connection attempt is visible before its outcome, with the
// origin of the address.
func TestStatus_AttemptUnderWay_IsShown(t *testing.T) {
	w := watch(t)
	w.status.facts.brokers = []string{"kafka1:9092"}
	over := w.status.attempt("kafka9:9092")
	later := w.status.attempt("kafka9:9092")
	b, _ := w.brokerAt("kafka9:9092")
	if b.Connecting.IsZero() || !strings.HasPrefix(b.Pending, "connecting for 0s (the cluster itself gives this address") {
		t.Errorf("%+v", b)
	}
	if got := w.status.Snapshot().Pending(); !strings.HasPrefix(got, "broker kafka9:9092: connecting for 0s") {
		t.Error(got)
	}
	over()
	over()
	if b, _ := w.brokerAt("kafka9:9092"); b.Connecting.IsZero() {
		t.Error("the other attempt is under way")
	}
	later()
	if b, _ := w.brokerAt("kafka9:9092"); !b.Connecting.IsZero() || w.status.Snapshot().Pending() != "" {
		t.Errorf("%+v", b)
	}
}

// TestLasting_TroubleGone_IsLoggedOnce checks that the end of each logged trouble has a line, and no other
// end has.
func TestLasting_TroubleGone_IsLoggedOnce(t *testing.T) {
	w := watch(t)
	w.Recovered("topic t")
	w.expect()
	w.Report("topic t", AnswerOf(kerr.TopicAuthorizationFailed.Code, nil, ToProduce))
	w.at = w.at.Add(3 * time.Minute)
	w.Report("topic t", AnswerOf(kerr.TopicAuthorizationFailed.Code, nil, ToProduce))
	w.log.All = nil
	w.Recovered("topic u")
	w.Recovered("topic t")
	w.Recovered("topic t")
	w.expect("connection my-kafka: topic t works again after 3m0s; it was: TOPIC_AUTHORIZATION_FAILED: this user is not " +
		"authorized to write to the topic (the cluster's ACLs must allow Write on it)")
}

// TestFollow_TroubleOfTheClientBefore_IsLoggedWhenGone guards the log line about a corrected password in
// kafka.conf: one client logs the failure, and the next client succeeds.
func TestFollow_TroubleOfTheClientBefore_IsLoggedWhenGone(t *testing.T) {
	follower := func(t *testing.T) *watched {
		before, w := watch(t), watch(t)
		before.connect(kerr.SaslAuthenticationFailed)
		before.Report("topic t", AnswerOf(kerr.TopicAuthorizationFailed.Code, nil, ToProduce))
		w.status.Follow(before.status)
		w.at = before.at.Add(2 * time.Minute)
		return w
	}
	const text = "SASL: unknown user or wrong password, the broker does not tell which (see sasl_username and sasl_password; write a semicolon in the password as \\;)"
	t.Run("mended", func(t *testing.T) {
		w := follower(t)
		w.connect(nil)
		w.expect()
		w.answer(kmsg.Metadata, nil)
		w.answer(kmsg.Metadata, nil)
		w.expect("connection my-kafka: broker kafka1:9092 works again after 2m0s; it was: " + text)
		if !w.status.lasting.has("topic t") {
			t.Error("what the broker has against a topic is taken for mended")
		}
	})
	t.Run("still wrong", func(t *testing.T) {
		w := follower(t)
		w.connect(kerr.SaslAuthenticationFailed)
		w.connect(nil)
		w.answer(kmsg.Metadata, nil)
		w.expect("connection my-kafka: broker kafka1:9092 cannot be reached: "+text+"; records wait",
			"connection my-kafka: broker kafka1:9092 is back after 0s")
	})
	t.Run("replaced again", func(t *testing.T) {
		before, w := follower(t), watch(t)
		w.status.Follow(before.status)
		w.answer(kmsg.Metadata, nil)
		if lines := w.log.Above(host.Notice); len(lines) != 1 {
			t.Errorf("%v", lines)
		}
	})
}

// TestUnsent_FailureInsideTheLibrary_IsLogged guards against silence: no hook reports a request that fails
// before its write, or an undecodable answer.
func TestUnsent_FailureInsideTheLibrary_IsLogged(t *testing.T) {
	w := watch(t)
	old := errors.New("broker is too old; the broker has already indicated it will not know how to handle the request")
	if !w.ReportUnsent("asking for topics", old) {
		t.Error("not taken for one")
	}
	w.expect("connection my-kafka: asking for topics: the versions of the protocol that the broker offers do not fit (is it a Kafka " +
		"broker of 0.11 or later, and does a proxy before it limit the versions?); records wait")
	if got := w.status.Snapshot(); got.Failures != 1 || !strings.Contains(got.LastError.Text, "do not fit") {
		t.Errorf("%+v", got.LastError)
	}
	dial := fmt.Errorf("unable to dial: %w", dialError(1, syscall.ECONNREFUSED))
	w.connect(dial)
	w.log.All = nil
	for _, err := range []error{
		nil, dial, fmt.Errorf("asking: %w", dial), kgo.ErrClientClosed, &IdleEnded{io.EOF}, errors.New(ConnectionDied), errors.New(unknownBroker),
		AnswerOf(5, nil, ToProduce),
	} {
		if w.ReportUnsent("asking for topics", err) {
			t.Errorf("%v is logged twice", err)
		}
	}
	w.expect()
}
