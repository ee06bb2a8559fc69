package engine

import (
	"fmt"
	"maps"
	"math"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"reskafka/internal/console"
	"reskafka/internal/metrics"
)

func TestOpenProducerErrors(t *testing.T) {
	r := start(t, newLines())
	var gate Gate
	refused := func(name string, want error) {
		t.Helper()
		if err := r.OpenProducer(name, 1, &gate); err != want || gate.Open.Load() != 0 {
			t.Errorf("error %v, want %v; gate %s", err, want, limits(&gate))
		}
	}
	refused("one", ErrNotFound)
	r.log.want(t, 1, "error: no producer for connection 'one': kafka.conf has no such section of type = connection")
	r.configure(section("one", refusedAddress(t)))
	refused("two", ErrNotFound)
	r.log.want(t, 1, "error: no producer for connection 'two': kafka.conf has no such section")
	r.configure("[general]\nenabled = no\n", section("one", refusedAddress(t)))
	refused("one", ErrDisabled)
	r.log.want(t, 1, "error: no producer for connection 'one': Kafka is disabled (enabled = no in section [general] of kafka.conf)")
	if r.Enabled() || len(r.Connections()) != 0 || len(r.Consumers()) != 0 {
		t.Error("disabled, and there is something")
	}
	r.Stop(0)
	before := len(r.log.with())
	refused("one", ErrStopped)
	if len(r.log.with()) != before {
		t.Error("logged after the end")
	}
}

// TestClientThatCannotBeOpened verifies the message for a file removed after the configuration's check.
func TestClientThatCannotBeOpened(t *testing.T) {
	r := start(t, newLines())
	certificate, key := writeCertificate(t)
	r.configure(section("one", refusedAddress(t), "security_protocol = ssl", "ssl_certificate_location = "+certificate, "ssl_key_location = "+key))
	remove(t, key)
	var gate Gate
	if err := r.OpenProducer("one", 1, &gate); err != ErrInvalid || gate.Open.Load() != 0 {
		t.Errorf("%v, gate %s", err, limits(&gate))
	}
	r.log.want(t, 1, "error: no producer for connection 'one': ", "ssl_key_location")
	if c := r.status("one"); len(c.Settings) == 0 {
		t.Error("nothing to show")
	}
}

func TestConsumers(t *testing.T) {
	r := start(t, newLines())
	r.configure(section("one", "h:1", "group_id = g"), section("two", "h:1"))
	if got := r.Consumers(); len(got) != 1 || !reflect.DeepEqual(got[0], console.ConsumerStatus{Name: "one", GroupID: "g"}) {
		t.Errorf("consumers %v", got)
	}
}

// TestRefused verifies that every refusal is counted by reason: one line per reason at once, the others as a
// number.
func TestRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, newLines())
		r.configure(section("one", "h:1"), section("two", "h:1"))
		const one, two = 1, 2
		for id, name := range map[uint64]string{one: "one", two: "two"} {
			if err := r.number(r.byName[name], id); err != nil {
				t.Fatal(err)
			}
		}
		r.Refused(one, FullFrames, 2, "t")
		r.Refused(one, FullFrames, 3, "u")
		r.Refused(one, FullCharge, 1, "t")
		r.Refused(two, BadTopic, 1, "a\nb\x1b[31m")
		r.Refused(0, BadArgument, 1, "t")
		r.Refused(0, BadArgument, 1, "t")
		for _, line := range []string{
			"error: connection 'one': refused 2 record(s), topic 't': queue_buffering_max_messages records are waiting already",
			"error: connection 'one': refused 1 record(s), topic 't': queue_buffering_max_kbytes are waiting already",
			"error: connection 'two': refused 1 record(s), topic 'a\\x0ab\\x1b[31m': a topic's name has 1 to 249 letters",
			"error: connection '(none)': refused 1 record(s), topic 't': ",
		} {
			r.log.want(t, 1, line)
		}
		r.log.want(t, 4, "error")

		// Suppressed lines follow soon without another event, and only once.
		time.Sleep(logEvery / 15)
		synctest.Wait()
		r.log.want(t, 1, "error: connection 'one': refused 3 more record(s): queue_buffering_max_messages")
		r.log.want(t, 1, "error: connection '(none)': refused 1 more record(s): ")
		r.log.want(t, 6, "error")
		r.Refused(one, FullFrames, 5, "v") // the cause has had a line and a sum, and continues
		time.Sleep(logEvery / 2)
		synctest.Wait()
		r.log.want(t, 6, "error")
		time.Sleep(logEvery)
		synctest.Wait()
		r.log.want(t, 1, "error: connection 'one': refused 5 more record(s): queue_buffering_max_messages")
		r.log.want(t, 7, "error")
		r.Refused(one, FullFrames, 7, "v")
		r.Refused(one, TooLong, 1, "t")
		r.Refused(one, Closed, 1, "t")
		r.Refused(one, NoMemory, 1, "t")
		r.Refused(one, 4711, 1, "t")
		r.log.want(t, 1, "reason 4711")

		got := r.status("one").Numbers.By(metrics.Reason, metrics.RecordsRefused)
		want := map[string]uint64{"queue full": 18, "closed": 1, "no memory": 1, "other": 1, "too large": 1}
		if !maps.Equal(got, want) {
			t.Errorf("counted %v, want %v", got, want)
		}
		r.Refused(math.MaxUint64, 0, math.MaxUint64, "") // no module does this; a panic is forbidden
		r.Stop(0)
		r.log.want(t, 1, "error: connection 'one': refused 7 more record(s): queue_buffering_max_messages")
		before := len(r.log.with())
		r.Refused(one, FullFrames, 1, "t")
		time.Sleep(2 * logEvery)
		if len(r.log.with()) != before {
			t.Error("logged after the end")
		}
	})
}

// TestEveryReasonIsSaid verifies a text for every reason of the contract.
func TestEveryReasonIsSaid(t *testing.T) {
	for reason := Closed; reason <= BadArgument; reason++ {
		if refusals[reason].name == "" || refusals[reason].text == "" {
			t.Errorf("reason %d has no words", reason)
		}
	}
}

// TestThrottleMakesRoom verifies that the log has every record, by name or in a sum, with more causes than
// the throttle stores.
func TestThrottleMakesRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, newLines())
		c := &connection{engine: r.Engine, name: "one"}
		for range 2 {
			for i := range 3000 {
				c.Dropped(string(rune('a'+i%26))+time.Duration(i).String(), "reason", 1, nil)
				c.Dropped(string(rune('a'+i%26))+time.Duration(i).String(), "reason", 1, nil)
			}
		}
		r.Stop(0)
		if len(r.log.with("error: connection '(several)': ", "more record(s) for more causes than the log can keep apart")) == 0 {
			t.Error("no line about what the throttle made room with")
		}
		logged := 0
		for _, line := range r.log.with("error: connection ") { // however often the rest was logged meanwhile
			_, text, _ := strings.Cut(line, "': ")
			n := 0
			if _, err := fmt.Sscan(text, &n); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			logged += n
		}
		if logged != 12000 {
			t.Errorf("%d of 12000 records are in the log", logged)
		}
	})
}

// TestOpenProducer_NumberOfAnother_Refused verifies that no number of the module moves records to another
// connection.
func TestOpenProducer_NumberOfAnother_Refused(t *testing.T) {
	r := start(t, newLines())
	r.configure(section("one", refusedAddress(t)), section("two", refusedAddress(t)))
	var gate, other Gate
	if err := r.OpenProducer("one", 7, &gate); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		id   uint64
		line string
	}{
		{"two", 7, "its number 7 is that of connection 'one'"},
		{"one", 8, "it has number 7 already, and cannot get 8"},
		{"two", 0, "its number 0 is not one from 1 to"},
		{"two", maxNumber + 1, "its number 65537 is not one from 1 to"},
	} {
		if err := r.OpenProducer(c.name, c.id, &other); err != ErrInvalid || other.Open.Load() != 0 {
			t.Errorf("%s as %d: %v, gate %s", c.name, c.id, err, limits(&other))
		}
		r.log.want(t, 1, "error: no producer for connection '"+c.name+"': "+c.line)
	}
	if err := r.OpenProducer("ONE", 7, &gate); err != nil {
		t.Errorf("again: %v", err)
	}
}
