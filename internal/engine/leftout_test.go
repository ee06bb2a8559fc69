package engine

import (
	"context"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"

	"reskafka/internal/config/configtest"
	"reskafka/internal/metrics"
)

// lastLine is the engine's last log line.
func (l *lines) lastLine() string {
	l.mtx.Lock()
	defer l.mtx.Unlock()
	return l.all[len(l.all)-1]
}

// One faulty connection of several must not stop a PBX.
func TestConfigure_OneBadConnectionAtLoad_OthersServe(t *testing.T) {
	b := newBroker(t, kfake.SeedTopics(1, "t"))
	r := start(t, newLines())
	r.configure(section("Good", b.address()),
		section("bad", b.address(), "security_protocol = ssl", "ssl_ca_location = /nonexistent/ca.pem"))
	r.log.want(t, 1, "error: kafka.conf:", "[bad] ssl_ca_location = /nonexistent/ca.pem cannot be read")
	r.log.want(t, 1, "error: connection 'bad' is left out, the others serve: kafka.conf:",
		"[bad] ssl_ca_location")

	s := r.open("gOOD") // names are found in any case
	s.put(numbered("t", "k", 0, 3)...)
	s.settled()
	b.consumed(t, "t", 3)
	if c, ok := r.Connection("GOOD"); !ok || c.Name != "Good" || c.Numbers.Sum(metrics.RecordsAcknowledged) != 3 {
		t.Errorf("connection %+v, %v", c, ok)
	}
	if err := r.OpenProducer("BAD", 1, &Gate{}); err != ErrNotFound {
		t.Errorf("the producer of what is left out: %v", err)
	}
	r.log.want(t, 1, "error: no producer for connection 'BAD': it is left out, kafka.conf:", "[bad] ssl_ca_location")
	if err := r.checkConsumer("bad"); err != ErrNotFound {
		t.Errorf("the consumer of what is left out: %v", err)
	}
	if why, ok := r.LeftOut("Bad"); !ok || !strings.Contains(why, "ssl_ca_location") {
		t.Errorf("left out: %q, %v", why, ok)
	}
	for name, want := range map[string]string{"bad": "it is left out, kafka.conf:", "none": "kafka.conf has no such section"} {
		_, _, err := r.OpenSource("cdr", configtest.Read("[global]\nconnection = "+name+"\n"), 0)
		if err != ErrInvalid {
			t.Errorf("call records on %s: %v", name, err)
		}
		r.log.want(t, 1, "error: cdr_kafka.conf: connection = "+name+": "+want,
			"; once it is mended, module load cdr_kafka.so")
	}
	if _, name, err := r.OpenSource("cdr", configtest.Read("[global]\nconnection = gOOd\n"), 0); name != "Good" || err != nil {
		t.Errorf("call records go to %q, %v", name, err)
	}

	// A reload with the mistake changes nothing; a reload without it adds the connection.
	faulty := section("two", b.address()) + section("bad", b.address(), "acks = some")
	if err := r.Configure(configtest.Read(faulty)); err != ErrInvalid {
		t.Errorf("a reload with an error: %v", err)
	}
	if got := r.log.lastLine(); !strings.HasPrefix(got, "error: kafka.conf has errors, so nothing of it is used") {
		t.Errorf("the last line is %q", got)
	}
	if len(r.Connections()) != 1 {
		t.Errorf("connections %v", r.Connections())
	}
	r.configure(section("Good", b.address()), section("bad", b.address()))
	r.open("bad")
	if _, ok := r.LeftOut("bad"); ok || len(r.Connections()) != 2 {
		t.Errorf("connections %v", r.Connections())
	}
}

// A mistake in an option for producing does not end the consumer, and the other way round.
func TestConfigure_MistakeOfOneSide_OtherSideServes(t *testing.T) {
	b := newBroker(t, kfake.SeedTopics(1, "t"))
	r := start(t, newLines())
	r.configure(section("consumes", b.address(), "group_id = g", "enable_idempotence = yes", "acks = 1"),
		section("produces", b.address(), "group_id = g", "session_timeout_ms = 30000",
			"max_poll_interval_ms = 20000"),
		section("neither", b.address(), "group_id = g", "auto_offset_reset = first", "linger_ms = soon"),
		section("unused", b.address(), "session_timeout_ms = 30000", "max_poll_interval_ms = 20000",
			"auto_offset_reset = first"))
	s := r.open("produces")
	r.open("unused")
	s.put(numbered("t", "k", 0, 2)...)
	s.settled()
	b.consumed(t, "t", 2)
	if err := r.checkConsumer("produces"); err != ErrInvalid {
		t.Errorf("the consumer: %v", err)
	}
	r.log.want(t, 1, "error: no consumer for connection 'produces': kafka.conf:",
		"max_poll_interval_ms = 20000 must be at least session_timeout_ms")
	if err := r.OpenProducer("consumes", 1, &Gate{}); err != ErrInvalid {
		t.Errorf("the producer: %v", err)
	}
	const needs = "enable_idempotence = yes needs acks = -1"
	r.log.want(t, 1, "error: no producer for connection 'consumes': kafka.conf:", needs)
	err := r.TestSend(context.Background(), "consumes", "t", "m", nil)
	if err == nil || !strings.Contains(err.Error(), needs) {
		t.Errorf("a test message: %v", err)
	}
	if id, err := r.subscribe("consumes", "t", &counter{}); err != nil {
		t.Errorf("subscribing: %v", err)
	} else {
		r.Unsubscribe(id)
	}
	if len(r.Connections()) != 3 {
		t.Errorf("connections %v", r.Connections())
	}
	r.log.want(t, 1, "error: connection 'neither' is left out")
}

// A load is declined only when nothing can be used, and the last line says so.
func TestConfigure_NoUsableConnection_Declines(t *testing.T) {
	for name, text := range map[string]string{
		"empty":          "",
		"only mistakes":  "[one]\ntype = connection\nacks = many\n",
		"without a type": "[one]\nbrokers = kafka1\n",
		"another family": "[one]\ntype = cluster\nbrokers = kafka1\n",
	} {
		r := start(t, newLines())
		if err := r.Configure(configtest.Read(text)); err != ErrInvalid {
			t.Errorf("%s: %v", name, err)
		}
		if got := r.log.lastLine(); !strings.HasPrefix(got, "error: kafka.conf: no connection can be used") {
			t.Errorf("%s: the last line is %q", name, got)
		}
	}
	r := start(t, newLines())
	r.configure("[general]\nenabled = no\n")
}
