package engine

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// say is a test message's fate in words.
func (r *rig) say(name, topic, message string, key *string) string {
	if err := r.TestSend(context.Background(), name, topic, message, key); err != nil {
		return err.Error()
	}
	return "sent"
}

func TestTestSend(t *testing.T) {
	b := newBroker(t, kfake.SeedTopics(1, "t"))
	r := start(t, newLines())
	r.configure(section("one", b.address(), "message_max_bytes = 1000"))
	key, none := "k", ""
	long := strings.Repeat("x", 1000-36-1)
	for _, c := range []struct {
		name, topic, message string
		key                  *string
		want                 string
	}{
		{"one", "t", "first", nil, "sent"},
		{"one", "t", "", &none, "sent"},
		{"one", "t", long, &key, "sent"},
		{"one", "t", long + "x", &key, "1001 bytes are more than message_max_bytes (1000)"},
		{"one", "", "m", nil, "a topic's name has 1 to 249 letters, digits, dots, underscores and hyphens"},
		{"one", "a b", "m", nil, "the topic's name holds ' ', which no topic's name can"},
		{"one", "..", "m", nil, "the topic's name cannot be the name of a topic"},
		{"one", strings.Repeat("x", 250), "m", nil, "the topic's name is 250 bytes long"},
		{"two", "t", "m", nil, "not found"},
	} {
		if got := r.say(c.name, c.topic, c.message, c.key); got != c.want {
			t.Errorf("%s %s %s: %q, want %q", c.name, c.topic, c.message, got, c.want)
		}
	}
	got := b.consumed(t, "t", 3)
	if got[0].Key != nil || string(got[0].Value) != "first" {
		t.Errorf("the first is %q = %q", got[0].Key, got[0].Value)
	}
	if !same(got[1].Key, []byte{}) || !same(got[1].Value, []byte{}) {
		t.Errorf("the second is %#v = %#v", got[1].Key, got[1].Value)
	}
	if string(got[2].Key) != "k" || string(got[2].Value) != long {
		t.Errorf("the third is %q = %q", got[2].Key, got[2].Value)
	}
	if age := time.Since(got[0].Timestamp); age < 0 || age > patience {
		t.Errorf("its timestamp is %v old", age)
	}
	r.configure("[general]\nenabled = no\n", section("one", b.address()))
	if got := r.say("one", "t", "m", nil); got != "disabled" {
		t.Errorf("while disabled: %q", got)
	}
}

// TestTestSendGivesNothingBack verifies that a test message, never in the stage, does not change the gate.
func TestTestSendGivesNothingBack(t *testing.T) {
	b := newBroker(t, kfake.SeedTopics(1, "t"))
	r := start(t, newLines())
	r.configure(section("one", b.address(), inTime))
	s := r.open("one")
	s.HeldFrames.Store(5)
	s.HeldCharge.Store(100)
	if got := r.say("one", "t", "m", nil); got != "sent" {
		t.Error(got)
	}
	r.configure(section("one", b.address(), "request_timeout_ms = 300"))
	if got := r.say("one", "unknown", "m", nil); got == "sent" {
		t.Error(got)
	}
	r.Stop(0)
	if s.HeldFrames.Load() != 5 || s.HeldCharge.Load() != 100 {
		t.Errorf("%d frames and %d bytes are held", s.HeldFrames.Load(), s.HeldCharge.Load())
	}
}

// TestTestSendFails verifies that an unacknowledged message ends in time with the broker's reason or the most
// likely reason.
func TestTestSendFails(t *testing.T) {
	refusing := newBroker(t, kfake.SeedTopics(1, "t"))
	refusing.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		refusing.KeepControl()
		resp := req.ResponseKind().(*kmsg.ProduceResponse)
		for _, topic := range req.(*kmsg.ProduceRequest).Topics {
			resp.Topics = append(resp.Topics, kmsg.ProduceResponseTopic{Topic: topic.Topic, TopicID: topic.TopicID,
				Partitions: []kmsg.ProduceResponseTopicPartition{{ErrorCode: kerr.TopicAuthorizationFailed.Code}}})
		}
		return resp, nil, true
	})
	plain := newBroker(t, kfake.SeedTopics(1, "t"))
	held := newBroker(t, kfake.SeedTopics(1, "t"))
	held.hold(t)
	const timeout = 500 * time.Millisecond
	for _, c := range []struct {
		name, brokers, topic string
		want                 []string
		timed                bool
	}{
		{"refused", refusing.address(), "t", []string{"TOPIC_AUTHORIZATION_FAILED"}, false},
		{"unknown topic", plain.address(), "nowhere", []string{"no broker acknowledged it within 500 ms; the brokers can be reached", "topic 'nowhere'"}, true},
		{"nobody there", refusedAddress(t), "t", []string{"no broker acknowledged it within 500 ms; broker 127.0.0.1:", ": connection refused"}, true},
		// With idempotence the client cannot give up records possibly at the broker.
		{"no answer to produce", held.address(), "t", []string{"no broker acknowledged it within 500 ms"}, true},
		{"packets are swallowed", swallowingAddress(t), "t", []string{"no broker acknowledged it within 500 ms; broker 127.0.0.1:", ": connecting for 0s (see brokers; "}, true},
		{"silence", silentAddress(t), "t", []string{"no broker acknowledged it within 500 ms; broker 127.0.0.1:", ": connecting for 0s (see brokers; "}, true},
	} {
		r := start(t, newLines())
		r.configure(section("one", c.brokers, "request_timeout_ms = 500", "enable_idempotence = yes"))
		said := func() (got string, right bool) {
			began := time.Now()
			got = r.say("one", c.topic, "m", nil)
			if took := time.Since(began); c.timed && took < timeout || took > timeout+busy {
				t.Errorf("%s: it took %v of %v", c.name, took, timeout)
			}
			return got, !slices.ContainsFunc(c.want, func(part string) bool { return !strings.Contains(got, part) })
		}
		got, right := said()
		for range 5 { // on a busy machine the time may be over before there was an attempt to connect
			if !right {
				got, right = said()
			}
		}
		if !right {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
		r.status("one")
	}
}

// TestManyTestSends verifies one answer for an expired message, noticed first by the outbox or by the caller.
func TestManyTestSends(t *testing.T) {
	r := start(t, newLines())
	r.configure(section("one", refusedAddress(t), "request_timeout_ms = 100"))
	var all sync.WaitGroup
	for range 200 {
		all.Go(func() {
			if got := r.say("one", "t", "m", nil); !strings.HasPrefix(got, "no broker acknowledged it within 100 ms") {
				t.Error(got)
			}
		})
	}
	all.Wait()
}

// TestTestSendBehindABacklog verifies that a test message waits in the queue until its expiry at most, and is
// not sent afterwards.
func TestTestSendBehindABacklog(t *testing.T) {
	b := newBroker(t, kfake.SeedTopics(1, "t"))
	asked, release := b.hold(t)
	r := start(t, newLines())
	r.configure(section("one", b.address(), "request_timeout_ms = 300", "socket_timeout_ms = 60000"))
	s := r.open("one")
	s.put(numbered("t", "k", 0, 100)...)
	<-asked
	if got := r.say("one", "t", "test", nil); !strings.HasPrefix(got, "no broker acknowledged it within 300 ms") {
		t.Error(got)
	}
	release()
	s.settled()
	r.configure(section("one", b.address(), inTime, "socket_timeout_ms = 60000"))
	if got := r.say("one", "t", "another", nil); got != "sent" {
		t.Error(got)
	}
	values := map[string]bool{}
	for _, got := range b.consumed(t, "t", 101) {
		values[string(got.Value)] = true
	}
	if values["test"] || !values["another"] {
		t.Error("the message came after its time, or the one within its time did not")
	}
	if c := r.status("one").Totals; c.Accepted != 100 || c.Acknowledged != 100 || len(c.Dropped) != 0 {
		t.Errorf("account %+v", c)
	}
}

func TestTestSendIsCalledOff(t *testing.T) {
	r := start(t, newLines())
	r.configure(section("one", refusedAddress(t), "request_timeout_ms = 900000"))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := r.TestSend(ctx, "one", "t", "m", nil); err != context.Canceled {
		t.Errorf("the answer is %v", err)
	}
	// The engine's end cancels the wait too.
	answer := make(chan error)
	go func() { answer <- r.TestSend(context.Background(), "one", "t", "m", nil) }()
	eventually(t, "the message was sent", func() bool { return len(r.status("one").States) > 0 })
	r.Stop(0)
	// ErrStopped is the answer where the engine ended before the message was taken.
	if err := <-answer; err == nil || err != ErrStopped && !strings.Contains(err.Error(), "engine stopped") && !strings.Contains(err.Error(), "client was closed") {
		t.Errorf("at the end it is %v", err)
	}
}
