package produce

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"reskafka/internal/kafka/client"
	"reskafka/internal/record"
	"reskafka/test/kafkatest"
)

// longRecords returns n records of size bytes in topic t, and a later short record of the same partition.
func longRecords(n, size int) []*record.Record {
	records := kafkatest.Numbers("t", 0, n+1)
	for i := range n {
		records[i].Value = make([]byte, size)
	}
	return kafkatest.Records(records...)
}

// next returns the next request to broker 0, after a check of its counted length on the wire.
func (b *bench) next() *flight {
	b.t.Helper()
	b.later(2 * time.Second) // past the pause after a close
	f := b.leaves(0, true)
	f.wrote.Store(int64(f.size))
	return f
}

// closes makes broker 0 close the connection on the next request, and returns the request's number of
// records.
func (b *bench) closes() int {
	b.t.Helper()
	f := b.next()
	b.deliver(b.landed(f, nil, io.EOF))
	return len(f.cargo)
}

// answersProbe answers the next request, which must be a probe.
func (b *bench) answersProbe() {
	b.t.Helper()
	f := b.next()
	if len(f.cargo) != 0 || !b.nodes[0].alone {
		b.t.Fatalf("%d records are sent instead of a probe, alone %v", len(f.cargo), b.nodes[0].alone)
	}
	b.answers(f, nil)
}

// closesOn makes broker 0 close the connection this many times on the first record, with an answered probe
// before each.
func (b *bench) closesOn(times int) {
	b.t.Helper()
	for range times {
		b.answersProbe()
		if n := b.closes(); n != 1 {
			b.t.Fatalf("%d batches are sent after a probe", n)
		}
	}
}

// TestProducer_RecordOverBrokersLimit_IsRefused checks the end of a record on which alone a broker always
// closes the connection. Later records are sent, and a second such record costs fewer connections.
func TestProducer_RecordOverBrokersLimit_IsRefused(t *testing.T) {
	bothKinds(t, func(t *testing.T, idempotence bool) {
		b := playing(t, idempotence)
		b.topic(0)
		records := longRecords(2, 1_500_000)
		o := kafkatest.ExpectOutcomes(t, 3)
		b.send(o, records...)
		for i, counted := range []int{overlongCloses, overlongClosesAgain} {
			b.closes()
			b.closesOn(counted)
			if len(o.Order) != i {
				t.Fatalf("%d outcomes before a probe is answered after the last close", len(o.Order))
			}
			b.answersProbe()
			if idempotence {
				b.look(func() {
					if b.identity.given {
						t.Error("the numbers of the record go on")
					}
					b.identity = identity{id: 8 + int64(i), given: true}
				})
			}
			if len(o.Order) != i+1 || o.Order[i] != records[i] {
				t.Fatalf("%d outcomes", len(o.Order))
			}
		}
		if limit := b.nodes[0].limit; limit.bytes != 0 || limit.trial {
			t.Errorf("the limit of requests with more than one record is %+v", limit)
		}
		f := b.next()
		if len(f.cargo) != 1 || f.cargo[0].batch.records[0] != records[2] {
			t.Fatal("the record behind is not sent")
		}
		b.answers(f, nil)
		for i, r := range records {
			err := o.Wait()[r]
			reason, final := b.Permanent(err)
			if i == 2 && err != nil || i < 2 && (!final || reason != "message too large" || !errors.Is(err, kerr.MessageTooLarge)) {
				t.Errorf("record %d: %v (%s)", i, err, reason)
			}
		}
		text := fmt.Sprint(o.Err[records[0]])
		for _, part := range []string{fmt.Sprint(1_500_000 / 1000), "request_max_bytes", "message_max_bytes"} {
			if !strings.Contains(text, part) {
				t.Errorf("%q does not name %s", text, part)
			}
		}
	})
}

// TestProducer_ClosesWithoutProof_KeepRecord checks that connections ended for other reasons than a record's
// length cost no record: an event between the closes proves an outage, and the count starts again.
func TestProducer_ClosesWithoutProof_KeepRecord(t *testing.T) {
	other := func(b *bench, size int) *flight { // a request of the other partition, which is ready first
		b.send(kafkatest.ExpectOutcomes(b.t, 1), kafkatest.Records(record.Record{Topic: "t", Key: key(1, 2), Value: make([]byte, size)})...)
		f := b.next()
		if len(f.cargo) != 1 || f.cargo[0].partition.number != 1 {
			b.t.Fatal("another request is sent")
		}
		return f
	}
	for name, test := range map[string]struct {
		between func(b *bench)
		ends    bool // the count continues
		last    bool // after the last close
	}{
		"nothing":                    {func(*bench) {}, true, false},
		"a short request is closed":  {func(b *bench) { b.deliver(b.landed(other(b, 1), nil, io.EOF)) }, false, false},
		"a short one is at the end":  {func(b *bench) { b.deliver(b.landed(other(b, 1), nil, io.EOF)) }, false, true},
		"a probe is closed":          {func(b *bench) { b.closes() }, false, false},
		"a probe cannot be sent":     {func(b *bench) { f := b.next(); f.state.Store(boarding); b.deliver(b.landed(f, nil, errDefect)) }, false, false},
		"an idle connection ends":    {func(b *bench) { b.deliver(b.landed(b.next(), nil, &client.IdleEnded{Err: io.EOF})) }, true, false},
		"a short request passes":     {func(b *bench) { b.answers(other(b, 1), nil) }, true, false},
		"as long a request passes":   {func(b *bench) { b.answers(other(b, 1_500_000), nil) }, false, false},
		"the answer never comes":     {func(b *bench) { b.answersProbe(); b.deliver(b.landed(b.next(), nil, errDefect)) }, false, false},
		"the partition moves around": {(*bench).moves, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			b := playing(t, false)
			b.topic(0, 0)
			o := kafkatest.ExpectOutcomes(t, 1)
			b.send(o, kafkatest.Records(record.Record{Topic: "t", Key: key(0, 2), Value: make([]byte, 1_500_000)})...)
			b.closes()
			b.closesOn(overlongCloses - 1)
			if !test.last {
				test.between(b)
			}
			for closed := false; !closed; {
				if f := b.next(); len(f.cargo) == 0 {
					b.answers(f, nil)
				} else {
					b.deliver(b.landed(f, nil, io.EOF))
					closed = true
				}
			}
			if test.last {
				test.between(b)
			}
			if test.ends {
				b.answersProbe()
				if err := o.Wait()[o.Order[0]]; !errors.Is(err, kerr.MessageTooLarge) {
					t.Errorf("the record ends with %v", err)
				}
				return
			}
			for len(o.Order) == 0 {
				b.answers(b.next(), nil)
			}
			o.AllSent()
		})
	}
}

// moves makes broker 1 the leader of the first partition, closes its connection on the record, and makes
// broker 0 the leader again.
func (b *bench) moves() {
	b.look(func() { b.nodes[1] = &node{id: 1, resume: b.nodes[0].resume} })
	b.learn(b.topics["t"], told([16]byte{1}, 1, 0))
	f := b.leaves(1, true)
	f.wrote.Store(int64(f.size))
	b.deliver(b.landed(f, nil, io.EOF))
	b.learn(b.topics["t"], told([16]byte{1}, 0, 0))
}

// TestProducer_ClosesEverything_NeverTests checks that a broker that closes on each request, including
// probes, costs no record.
func TestProducer_ClosesEverything_NeverTests(t *testing.T) {
	b := playing(t, false)
	b.topic(0)
	o := kafkatest.ExpectOutcomes(t, 2)
	b.send(o, longRecords(1, 1_500_000)...)
	for range 5 * overlongCloses {
		b.closes()
	}
	o.None()
	for len(o.Order) < 2 {
		b.answers(b.next(), nil)
	}
	o.AllSent()
}

// TestProducer_SuspectedRecord_HasTheConnectionToItself checks that no other request is in flight beside a
// suspected record. Batches of other partitions are in other requests.
func TestProducer_SuspectedRecord_HasTheConnectionToItself(t *testing.T) {
	b := playing(t, false)
	b.topic(0, 0)
	n := b.nodes[0]
	b.send(kafkatest.ExpectOutcomes(t, 1), kafkatest.Records(record.Record{Topic: "t", Key: key(0, 2), Value: make([]byte, 400_000)})...)
	b.closes()
	b.later(2 * time.Second)
	b.send(kafkatest.ExpectOutcomes(t, 1), kafkatest.Records(record.Record{Topic: "t", Key: key(1, 2), Value: make([]byte, 400_000)})...)
	b.look(func() {
		n.limit.trial, n.limit.taken = false, 1_000_000
		for n.flights = range maxFlights {
			if n.flights > 0 && b.pipelines(n) {
				t.Errorf("a probe is sent beside %d requests", n.flights)
			}
		}
		n.flights = 0
	})
	b.answersProbe()
	f := b.leaves(0, true)
	b.look(func() {
		if len(f.cargo) != 1 || b.pipelines(n) || len(n.ready) != 1 {
			t.Errorf("%d batches in the record's request, %d partitions ready", len(f.cargo), len(n.ready))
		}
	})
	b.answers(f, nil)
	b.look(func() {
		if n.alone {
			t.Error("the broker stays with one request at a time")
		}
	})
}
