package main

import (
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// Clients that resolve "localhost" may begin with [::1].
func TestDevBroker_BothLoopbacks_Answer(t *testing.T) {
	address, _ := startBroker(t)
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	if l, err := net.Listen("tcp6", "[::1]:0"); err != nil {
		t.Skip("SKIPPED: this machine has no [::1]:", err)
	} else {
		_ = l.Close()
	}
	for _, host := range []string{"127.0.0.1", "::1"} {
		if err := client(t, net.JoinHostPort(host, port)).Ping(testContext(t)); err != nil {
			t.Errorf("%s: %v", host, err)
		}
	}
}

func produce(t *testing.T, c *kgo.Client, topic string) error {
	t.Helper()
	return c.ProduceSync(testContext(t), &kgo.Record{Topic: topic, Value: []byte("v")}).FirstErr()
}

func TestDevBroker_UsersAndRights_Kept(t *testing.T) {
	address, _ := startBroker(t, "--user", "admin:secret", "--user", "pbx:word", "--acl", "pbx:write:calls", "--acl", "pbx:describe:calls")
	admin := client(t, address, kgo.SASL(scram.Auth{User: "admin", Pass: "secret"}.AsSha256Mechanism()), kgo.AllowAutoTopicCreation())
	for _, topic := range []string{"calls", "others"} {
		if err := produce(t, admin, topic); err != nil {
			t.Errorf("the user without rights of its own, to %s: %v", topic, err)
		}
	}
	pbx := client(t, address, kgo.SASL(plain.Auth{User: "pbx", Pass: "word"}.AsMechanism()), kgo.RecordRetries(1), kgo.UnknownTopicRetries(1))
	if err := produce(t, pbx, "calls"); err != nil {
		t.Errorf("to the topic that it may write to: %v", err)
	}
	if err := produce(t, pbx, "others"); err == nil {
		t.Error("a topic was written to without a right")
	}
	wrong := client(t, address, kgo.SASL(plain.Auth{User: "pbx", Pass: "wrong"}.AsMechanism()), kgo.RetryTimeout(time.Second))
	if err := wrong.Ping(testContext(t)); err == nil {
		t.Error("a wrong password was taken")
	}
}

func TestDevBroker_NoAutoTopics_CreatesNone(t *testing.T) {
	address, _ := startBroker(t, "--no-auto-topics")
	c := client(t, address, kgo.AllowAutoTopicCreation(), kgo.UnknownTopicRetries(1))
	if err := produce(t, c, "calls"); err == nil {
		t.Error("the topic was created")
	}
}

func TestDevBroker_AccessMistakes_Refused(t *testing.T) {
	for _, args := range [][]string{{"--user", "admin"}, {"--acl", "a:write:t"}, {"--user", "a:b", "--acl", "a:eat:t"}, {"--user", "a:b", "--acl", "a:read"}} {
		var out, errs strings.Builder
		if status := run(testContext(t), append([]string{"dev-broker", "--port", "0"}, args...), &out, &errs); status != exitUsage {
			t.Errorf("%v: status %d, %s", args, status, errs.String())
		}
	}
}

func TestDevBroker_NamesThatKafkaRefuses_Refused(t *testing.T) {
	address, _ := startBroker(t)
	c := client(t, address, kgo.AllowAutoTopicCreation(), kgo.UnknownTopicRetries(1))
	for _, topic := range []string{"two words", "call/records", "..", strings.Repeat("x", 250)} {
		if err := produce(t, c, topic); !errors.Is(err, kerr.InvalidTopicException) {
			t.Errorf("%.20q: %v", topic, err)
		}
	}
	if err := produce(t, c, "calls"); err != nil {
		t.Error(err)
	}
	admin := kadm.NewClient(c)
	if _, err := admin.CreateTopic(testContext(t), 1, 1, nil, "two words"); !errors.Is(err, kerr.InvalidTopicException) {
		t.Errorf("creating: %v", err)
	}
	if _, err := admin.CreateTopic(testContext(t), 1, 1, nil, "others"); err != nil {
		t.Error(err)
	}
}
