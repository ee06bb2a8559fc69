package engine

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"reskafka/internal/config/configtest"
	"reskafka/internal/frame/frametest"
)

// limits are a gate's limits in words.
func limits(g *Gate) string {
	return fmt.Sprintf("open=%d frames=%d charge=%d weight=%d longer=%v linger=%v", g.Open.Load(), g.MaxFrames.Load(), g.MaxCharge.Load(),
		g.MaxWeight.Load(), g.MaxLength.Load() > g.MaxWeight.Load(), time.Duration(g.LingerNS.Load()))
}

func TestGateFollowsTheConfiguration(t *testing.T) {
	r := start(t, newLines())
	nobody := refusedAddress(t)
	want := func(s *stage, text string) {
		t.Helper()
		if got := limits(&s.Gate); got != text {
			t.Errorf("gate %s, want %s", got, text)
		}
	}
	other := section("two", nobody, inMemory)
	r.configure(section("one", nobody, inMemory), other)
	one, two := r.open("one"), r.open("two")
	const standard = "open=1 frames=100000 charge=1073741824 weight=1000000 longer=true linger=5ms"
	want(one, standard)
	changed := section("one", nobody, "queue_buffering_max_messages = 7", "queue_buffering_max_kbytes = 3", "message_max_bytes = 5000", "linger_ms = 20", inMemory)
	const tight = "open=1 frames=7 charge=3072 weight=5000 longer=true linger=20ms"
	r.configure(changed, other)
	want(one, tight)
	want(two, standard)

	for _, without := range []string{"", "[general]\nenabled = no\n" + changed} {
		r.configure(without, other)
		want(one, strings.Replace(tight, "open=1", "open=0", 1))
		if two.Open.Load() != 1 && without == "" {
			t.Error("the other connection was shut")
		}
		r.configure(changed, other)
		want(one, tight)
		want(two, standard)
	}
	// The module opens a shut slot again.
	r.configure(changed)
	if err := r.OpenProducer("one", one.id, &one.Gate); err != nil {
		t.Error(err)
	}
	want(one, tight)
}

// TestOutcomesGiveBack verifies that every outcome frees the record's share of the limits.
func TestOutcomesGiveBack(t *testing.T) {
	b := newBroker(t, kfake.SeedTopics(1, "t"), kfake.BrokerConfigs(map[string]string{"message.max.bytes": "2000"}))
	r := start(t, newLines())
	nobody := refusedAddress(t)
	r.configure(section("good", b.address()), section("late", nobody, "message_timeout_ms = 1000", inMemory),
		section("spooled", nobody, "message_timeout_ms = 1000"))
	good, late, spooled := r.open("good"), r.open("late"), r.open("spooled")
	late.put(numbered("t", "k", 0, 100)...)
	spooled.put(numbered("t", "k", 0, 100)...)
	good.put(numbered("t", "k", 0, 100)...)
	good.put(frametest.Frame{Topic: "t", Value: make([]byte, 5000)})
	good.settled()
	late.settled()
	spooled.settled()
	if c := r.status("good").Totals; c.Acknowledged != 100 || len(c.Dead) != 1 || c.Dead["message too large"] != 1 {
		t.Errorf("account %+v", c)
	}
	if c := r.status("late").Totals; dropped(c, "message timeout") != 100 {
		t.Errorf("account %+v", c)
	}
	if c := r.status("spooled").Totals; c.Spooled != 100 {
		t.Errorf("account %+v", c)
	}
	r.log.want(t, 0, "connection 'spooled'")
	r.log.want(t, 1, "error: connection 'good': 1 record(s) for topic 't' became dead letters (kafka spool retry good sends them again), message too large: ")
	eventually(t, "the log has all of them", func() bool {
		return r.log.records("connection 'late'", "for topic 't' dropped, message timeout") == 100
	})
}

// TestStagedCountsAsWaiting verifies that records in the stage are accounted for.
func TestStagedCountsAsWaiting(t *testing.T) {
	r := start(t, newLines())
	r.configure(section("one", refusedAddress(t)))
	s := r.open("one")
	s.put(numbered("t", "k", 0, 3)...)
	s.Admitted.Add(4)
	if c := r.status("one").Totals; c.Accepted != 7 || c.Waiting+c.Sending != 7 {
		t.Errorf("account %+v", c)
	}
}

// TestNothingIsBetweenStageAndEngine verifies the wait for records between the stage and Take.
func TestNothingIsBetweenStageAndEngine(t *testing.T) {
	r := start(t, newLines())
	r.configure(section("one", refusedAddress(t)))
	s := r.open("one")
	s.Admitted.Add(3)
	s.Handed.Add(3)
	r.Arrivals(func() {
		s.Admitted.Add(-3)
		s.Handed.Add(-3)
		s.put(numbered("t", "k", 0, 3)...)
	})
	if c := r.status("one").Totals; c.Accepted != 3 || c.Waiting+c.Sending != 3 {
		t.Errorf("account %+v", c)
	}
	r.Arrivals(func() {})
}

func TestFaultyFileChangesNothing(t *testing.T) {
	b := newBroker(t, kfake.SeedTopics(1, "t"))
	r := start(t, newLines())
	r.configure(section("one", b.address()), section("two", b.address()))
	s := r.open("one")
	s.put(numbered("t", "k", 0, 1)...)
	s.settled()
	before, connects, settings := limits(&s.Gate), b.connects.Load(), r.status("one").Settings

	err := r.Configure(configtest.Read("[general]\nenabled = no\n" +
		section("one", b.address(), "acks = 0", "queue_buffering_max_messages = 1", "compression_codec = rar") +
		section("three", "", "lingr_ms = 5", "message_timeout_ms = 1")))
	if err != ErrInvalid {
		t.Errorf("the answer is %v", err)
	}
	r.log.want(t, 1, "error: kafka.conf:", "[one] compression_codec = rar")
	r.log.want(t, 1, "error: kafka.conf:", "[three] brokers")
	r.log.want(t, 1, "error: kafka.conf:", "[three] lingr_ms", "linger_ms")
	r.log.want(t, 1, "warning: kafka.conf:", "[three] message_timeout_ms = 1")
	if got := limits(&s.Gate); got != before {
		t.Errorf("gate %s, before %s", got, before)
	}
	if got := r.status("one").Settings; fmt.Sprint(got) != fmt.Sprint(settings) {
		t.Errorf("settings %v, before %v", got, settings)
	}
	if !r.Enabled() || len(r.Connections()) != 2 {
		t.Errorf("enabled %v, connections %v", r.Enabled(), r.Connections())
	}
	if err := r.OpenProducer("three", 3, &Gate{}); err != ErrNotFound {
		t.Errorf("the faulty file's connection: %v", err)
	}
	s.put(numbered("t", "k", 1, 2)...)
	s.settled()
	if got := b.connects.Load(); got != connects {
		t.Errorf("%d connections to the broker, before %d", got, connects)
	}
	b.consumed(t, "t", 2)
}

// TestFaultyFirstFile verifies an engine without connections before the first correct file.
func TestFaultyFirstFile(t *testing.T) {
	r := start(t, newLines())
	if err := r.Configure(configtest.Read("[one]\ntype = connection\nacks = many\n")); err != ErrInvalid {
		t.Errorf("the answer is %v", err)
	}
	if err := r.OpenProducer("one", 1, &Gate{}); err != ErrNotFound || len(r.Connections()) != 0 {
		t.Errorf("%v, connections %v", err, r.Connections())
	}
	r.configure(section("one", refusedAddress(t)))
	r.open("one")
}

// TestSameClient verifies that a client and its connection to the broker survive every reload without a
// change of the options.
func TestSameClient(t *testing.T) {
	b := newBroker(t, kfake.SeedTopics(1, "t"))
	nobody := refusedAddress(t)
	r := start(t, newLines())
	one := section("one", b.address(), "group_id = g")
	r.configure(one, section("two", nobody))
	s := r.open("one")
	r.open("two")
	n := 0
	put := func() {
		t.Helper()
		s.put(numbered("t", "k", n, n+1)...)
		n++
		s.settled()
	}
	put()
	connects, states := b.connects.Load(), fmt.Sprint(r.status("one").States)
	if connects == 0 {
		t.Fatal("nobody connected")
	}
	for what, text := range map[string][]string{
		"the other changed":   {one, section("two", nobody, "client_id = x")},
		"moved in the file":   {"[general]\nenabled = yes\n", section("zero", nobody), section("two", nobody), one},
		"limits of the queue": {section("one", b.address(), "group_id = g", "queue_buffering_max_messages = 77"), section("two", nobody)},
		"gone":                {section("two", nobody)},
		"disabled":            {"[general]\nenabled = no\n", one},
	} {
		r.configure(text...)
		r.configure(one)
		put()
		if got := b.connects.Load(); got != connects {
			t.Fatalf("%s: %d connections, before %d", what, got, connects)
		}
		if got := fmt.Sprint(r.status("one").States); got != states {
			t.Errorf("%s: states %s, before %s", what, got, states)
		}
	}
	for i, between := range []string{one, section("two", nobody)} { // changed in place, and while absent
		r.configure(between)
		r.configure(section("one", b.address(), fmt.Sprintf("client_id = other%d", i)))
		put()
		if got := b.connects.Load(); got == connects {
			t.Error("another client_id made no new connection")
		} else {
			connects = got
		}
	}
	b.consumed(t, "t", n)
}

// writeCertificate writes a certificate and a key.
func writeCertificate(t *testing.T) (certificate, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	certificate, key = filepath.Join(t.TempDir(), "c.pem"), filepath.Join(t.TempDir(), "k.pem")
	for path, block := range map[string]*pem.Block{certificate: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certificate, key
}

// TestClientThatCannotBeMade removes a key file between the check and the use of a configuration, during
// another problem's log line. No connection may change.
func TestClientThatCannotBeMade(t *testing.T) {
	b := newBroker(t, kfake.SeedTopics(1, "t"))
	certificate, key := writeCertificate(t)
	log := newLines()
	gone := false
	log.on = func(text string) {
		if strings.Contains(text, "linger_ms = -1") {
			gone = os.Remove(key) == nil
		}
	}
	r := start(t, log)
	names := []string{"a", "b", "c", "d", "e"} // for any order
	conf := func(options ...string) string {
		var text strings.Builder
		for _, name := range names {
			text.WriteString(section(name, b.address(), options...))
		}
		return text.String()
	}
	r.configure(conf())
	var stages []*stage
	for _, name := range names {
		stages = append(stages, r.open(name))
	}
	before := limits(&stages[0].Gate)
	changed := conf("queue_buffering_max_messages = 5", "client_id = x")
	changed += section("f", b.address())
	changed = strings.Replace(changed, "[c]\n", "[c]\nsecurity_protocol = ssl\nlinger_ms = -1\nssl_certificate_location = "+certificate+"\nssl_key_location = "+key+"\n", 1)
	if err := r.Configure(configtest.Read(changed)); err != ErrInvalid || !gone {
		t.Fatalf("%v, key removed: %v", err, gone)
	}
	log.want(t, 1, "error: kafka.conf: connection c: ", "ssl_key_location", "; nothing has been changed")
	for i, s := range stages {
		if got := limits(&s.Gate); got != before {
			t.Errorf("gate of %s is %s, before %s", s.name, got, before)
		}
		s.put(numbered("t", "k", i, i+1)...)
		s.settled()
	}
	b.consumed(t, "t", len(names))
	if len(r.Connections()) != len(names) {
		t.Errorf("connections %v", r.Connections())
	}
}

// TestOpenWhileConfiguring opens a connection during a change of options: in each order the client must have
// the present options.
func TestOpenWhileConfiguring(t *testing.T) {
	nobody := refusedAddress(t)
	for i := range 200 {
		r := start(t, newLines())
		r.configure(section("one", nobody, "client_id = old", inMemory))
		var gate Gate
		var both sync.WaitGroup
		begin := make(chan struct{})
		both.Go(func() {
			<-begin
			if err := r.Configure(configtest.Read(section("one", nobody, "client_id = new", "queue_buffering_max_messages = 5", inMemory))); err != nil {
				t.Error(err)
			}
		})
		both.Go(func() {
			<-begin
			time.Sleep(time.Duration(i) * time.Microsecond) // a different moment of the reload
			if err := r.OpenProducer("one", 1, &gate); err != nil {
				t.Error(err)
			}
		})
		close(begin)
		both.Wait()
		c := r.byID(1)
		if c.made.ClientID != "new" || gate.MaxFrames.Load() != 5 || gate.Open.Load() != 1 {
			t.Fatalf("round %d: the client is that of %s, gate %s", i, c.made.ClientID, limits(&gate))
		}
		r.Stop(0)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

// TestFailedConnection verifies that a connection with a panicked outbox accepts no record by any call.
func TestFailedConnection(t *testing.T) {
	nobody := refusedAddress(t)
	r := start(t, newLines())
	r.configure(section("one", nobody))
	s := r.open("one")
	c := r.byID(s.id)
	c.Panicked("boom")
	r.log.want(t, 1, "error: the engine panicked in the outbox of connection 'one', this is a defect: boom")
	c.Dropped("t", "engine stopped", 3, nil) // pending records are given up at once, before the engine's stop
	r.log.want(t, 1, "error: connection 'one': 3 record(s) for topic 't' dropped, engine stopped")
	r.configure(section("one", nobody, "linger_ms = 7"))
	if err := r.OpenProducer("one", s.id, &s.Gate); err != ErrInvalid || s.Open.Load() != 0 {
		t.Errorf("%v, gate %s", err, limits(&s.Gate))
	}
	r.log.want(t, 1, "error: no producer for connection 'one': it has failed")
	if got := r.say("one", "t", "m", nil); !strings.HasPrefix(got, "it has failed") {
		t.Error(got)
	}
}
