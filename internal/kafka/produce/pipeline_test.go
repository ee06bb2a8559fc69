package produce

import (
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"reskafka/internal/config"
	"reskafka/internal/record"
	"reskafka/test/kafkatest"
)

// opened returns a producer with an acknowledged record on the only partition, of broker 0.
func opened(t *testing.T, idempotence bool, adjust ...func(*config.Connection)) (*bench, *partition) {
	b := playing(t, idempotence, adjust...)
	part := b.topic(0).partitions[0]
	b.sendKeys("first")
	b.answers(b.leaves(0, true), nil)
	return b, part
}

// sendKeys sends a record for each key; "" = none.
func (b *bench) sendKeys(keys ...string) {
	var records []record.Record
	for _, key := range keys {
		r := record.Record{Topic: "t", Value: []byte("v"), Accepted: time.Now()}
		if key != "" {
			r.Key = []byte(key)
		}
		records = append(records, r)
	}
	b.Send(kafkatest.Records(records...), b.now().Add(time.Hour), func(*record.Record, error) {})
}

// ready reports whether a batch of the partition may leave, a spacing later.
func (b *bench) ready(part *partition) (ready bool) {
	b.later(minSpacing)
	b.look(func() { ready = part.listed != nil })
	return ready
}

// TestPipeline_Limit verifies five unanswered batches with idempotence: brokers recognize no more.
func TestPipeline_Limit(t *testing.T) {
	b, part := opened(t, true)
	var flights []*flight
	for range maxOutstanding {
		b.sendKeys("k")
		if !b.ready(part) {
			t.Fatalf("%d batches in flight, and no other may leave", len(flights))
		}
		flights = append(flights, b.leaves(0, true))
	}
	b.sendKeys("k")
	if b.ready(part) {
		t.Error("a sixth batch may leave")
	}
	b.answers(flights[0], nil)
	if !b.ready(part) {
		t.Error("no batch follows an answer")
	}
}

// TestPipeline_Spacing verifies that a batch with free room waits beside an unanswered one, and that a full
// batch does not: batches of a near broker stay large.
func TestPipeline_Spacing(t *testing.T) {
	b, part := opened(t, true, func(c *config.Connection) { c.BatchNumMessages, c.Linger = 3, 50*time.Millisecond })
	b.sendKeys("k")
	first := b.leaves(0, true)
	b.sendKeys("k", "k")
	b.look(func() {
		if part.listed != nil {
			t.Error("a batch with free room leaves at once")
		}
	})
	b.sendKeys("k", "k")
	b.look(func() {
		if part.listed == nil {
			t.Error("a full batch waits")
		}
	})
	b.answers(first, nil)
	b.answers(b.leaves(0, true), nil)
	b.sendKeys("k")
	b.leaves(0, true)
	b.sendKeys("k")
	b.later(49 * time.Millisecond)
	if b.look(func() {}); part.listed != nil {
		t.Error("a batch leaves before linger_ms")
	}
	if !b.ready(part) {
		t.Error("a batch waits longer than linger_ms")
	}
}

// TestPipeline_SlowBroker_RequestsAreSpread verifies that the few allowed batches spread over the time to the
// answer: otherwise all of them would leave within milliseconds, and later records would wait.
func TestPipeline_SlowBroker_RequestsAreSpread(t *testing.T) {
	b, part := opened(t, true)
	b.look(func() { part.leader.answerTime = 500 * time.Millisecond })
	b.sendKeys("k")
	b.leaves(0, true)
	b.sendKeys("k")
	b.later(99 * time.Millisecond)
	if part.listed != nil {
		t.Error("a batch leaves too early")
	}
	b.later(time.Millisecond)
	if part.listed == nil {
		t.Error("a batch waits too long")
	}
}

// TestPipeline_WithoutIdempotence_KeysApart verifies that without idempotence no two batches with the same
// key are in flight: a broker could refuse the first and accept the second.
func TestPipeline_WithoutIdempotence_KeysApart(t *testing.T) {
	for _, test := range []struct {
		first, second []string
		apart         bool
	}{
		{[]string{"a", "b"}, []string{"c"}, true},
		{[]string{"a", "b"}, []string{"c", "b"}, false},
		{[]string{"", "a"}, []string{"", "b"}, true},
		{[]string{""}, []string{""}, true},
	} {
		t.Run(fmt.Sprint(test.first, test.second), func(t *testing.T) {
			b, part := opened(t, false)
			b.sendKeys(test.first...)
			first := b.leaves(0, true)
			b.sendKeys(test.second...)
			if apart := b.ready(part); apart != test.apart {
				t.Errorf("the second may leave: %v", apart)
			}
			b.sendKeys("a") // behind the second, or in the same batch after the first's answer
			if test.apart {
				b.leaves(0, true)
				if b.ready(part) != (test.first[0] == "" && len(test.first) == 1) {
					t.Error("a key in flight")
				}
			}
			b.answers(first, nil)
		})
	}
}

// TestPipeline_Failure_OneGoesAlone verifies the order after a failure: all batches land first, then the first
// leaves alone with the same numbers, and the others follow its acknowledgement.
func TestPipeline_Failure_OneGoesAlone(t *testing.T) {
	b, part := opened(t, true)
	var flights []*flight
	for range 3 {
		b.sendKeys("k")
		b.later(minSpacing)
		flights = append(flights, b.leaves(0, true))
	}
	b.answers(flights[0], kerr.NotLeaderForPartition)
	b.later(time.Minute)
	if part.listed != nil {
		t.Fatal("a batch leaves with two in flight")
	}
	b.answers(flights[1], kerr.OutOfOrderSequenceNumber)
	b.answers(flights[2], kerr.OutOfOrderSequenceNumber)
	b.later(time.Minute)
	again := b.leaves(0, true)
	if first := again.cargo[0].batch; first != flights[0].cargo[0].batch || first.sequence != 1 {
		t.Errorf("sequence %d leaves first", first.sequence)
	}
	if b.ready(part) {
		t.Error("a second batch leaves before the acknowledgement of the first")
	}
	b.answers(again, nil)
	for want := int32(2); want < 4; want++ {
		b.later(time.Second)
		if f := b.leaves(0, true); f.cargo[0].batch.sequence != want || f.cargo[0].batch.identity.id != 7 {
			t.Errorf("sequence %d of producer %d, want %d", f.cargo[0].batch.sequence, f.cargo[0].batch.identity.id, want)
		}
	}
}
