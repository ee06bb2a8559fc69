package engine

import (
	"context"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/internal/config/configtest"
)

// TestSource_TopicPartitions_CreatesTopic verifies that cdr_kafka.conf creates a topic, with retries after a
// refusal, and creates nothing without the options.
func TestSource_TopicPartitions_CreatesTopic(t *testing.T) {
	b := newBroker(t)
	refusals := 0
	b.ControlKey(int16(kmsg.CreateTopics), func(req kmsg.Request) (kmsg.Response, error, bool) {
		if refusals++; refusals > 1 {
			return nil, nil, false
		}
		b.KeepControl()
		resp := req.ResponseKind().(*kmsg.CreateTopicsResponse)
		one := kmsg.NewCreateTopicsResponseTopic()
		one.Topic, one.ErrorCode = "calls", kerr.PolicyViolation.Code
		resp.Topics = append(resp.Topics, one)
		return resp, nil, true
	})
	r := start(t, newLines())
	r.configure(section("c", b.address()))
	open := func(text string) {
		t.Helper()
		if _, _, err := r.OpenSource("cdr", configtest.Read("[global]\nconnection = c\n"+text), 0); err != nil {
			t.Fatal(err, r.log.with())
		}
	}
	open("topic = left-alone\n")
	open("topic = calls\ntopic_partitions = 7\ntopic_replication = 1\n")
	eventually(t, "the topic is there", func() bool { return b.TopicInfo("calls") != nil })
	if n := len(b.PartitionInfos("calls")); n != 7 {
		t.Errorf("%d partitions", n)
	}
	eventually(t, "that is logged", func() bool { return len(r.log.with("notice: connection c: topic calls created")) == 1 })
	r.log.want(t, 1, "warning: connection c: topic calls is not created: POLICY_VIOLATION", "; it is tried again")
	if b.TopicInfo("left-alone") != nil {
		t.Error("a topic without numbers was created")
	}
}

// TestCreateTopic_Outcomes verifies the answers of `kafka topic create`.
func TestCreateTopic_Outcomes(t *testing.T) {
	b := newBroker(t)
	r := start(t, newLines())
	r.configure(section("c", b.address()), section("down", refusedAddress(t), "request_timeout_ms = 100"))
	for _, c := range []struct {
		name, topic string
		created     bool
		want        string
	}{
		{"c", "t", true, ""}, {"c", "t", false, ""}, {"C", "u", true, ""},
		{"c", "no name", false, "a topic cannot be called 'no name'"},
		{"down", "t", false, "cannot be used: connection refused"},
		{"none", "t", false, ErrNotFound.Error()},
	} {
		created, err := r.CreateTopic(context.Background(), c.name, c.topic, 3, 1)
		if created != c.created || (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s on %s: %v, %v", c.topic, c.name, created, err)
		}
	}
	if n := len(b.PartitionInfos("t")); n != 3 {
		t.Errorf("%d partitions", n)
	}
	if lines := r.log.with("error: "); len(lines) > 0 {
		t.Errorf("the console's own answer is logged as well: %q", lines)
	}
}
