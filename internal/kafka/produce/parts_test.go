package produce

import (
	"bytes"
	"context"
	"errors"
	"math"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/internal/kafka/client"
	"reskafka/internal/record"
	"reskafka/test/kafkatest"
)

// decoded decodes a batch by the protocol's own description.
func decoded(t *testing.T, wire []byte) (batch kmsg.RecordBatch, records []kmsg.Record) {
	t.Helper()
	if err := batch.ReadFrom(wire); err != nil {
		t.Fatal(err)
	}
	for rest := batch.Records; len(rest) > 0; {
		length, n := kbin.Varint(rest)
		var one kmsg.Record
		if err := one.ReadFrom(rest[:n+int(length)]); err != nil {
			t.Fatal(err)
		}
		records, rest = append(records, one), rest[n+int(length):]
	}
	if len(records) != int(batch.NumRecords) || int(batch.LastOffsetDelta) != len(records)-1 {
		t.Fatalf("%d records, the header says %d, the last %d", len(records), batch.NumRecords, batch.LastOffsetDelta)
	}
	return batch, records
}

// TestRecordBatch compares the written bytes with the protocol's own description: null and empty, headers,
// and times before the first record's.
func TestRecordBatch(t *testing.T) {
	at := time.UnixMilli(1700000000000)
	records := []*record.Record{
		{Accepted: at},
		{Accepted: at.Add(-time.Hour), Key: []byte{}, Value: []byte{}},
		{Accepted: at.Add(300 * time.Millisecond), Key: []byte("k"), Value: bytes.Repeat([]byte("v"), 70000),
			Headers: []record.Header{{Name: "", Value: nil}, {Name: "a", Value: []byte{}}, {Name: "b", Value: []byte("c")}}},
	}
	var b recordBatch
	for _, r := range records {
		if !b.add(r, math.MaxInt) {
			t.Fatal("no room")
		}
	}
	b.sequenced, b.identity, b.sequence = true, identity{5, 6, true}, 7
	b.pack(nil)
	batch, got := decoded(t, b.wire)
	if batch.Magic != 2 || batch.FirstTimestamp != at.UnixMilli() || batch.MaxTimestamp != at.UnixMilli()+300 || batch.ProducerID != 5 ||
		batch.ProducerEpoch != 6 || batch.FirstSequence != 7 || int(batch.Length) != len(b.wire)-12 || batch.PartitionLeaderEpoch != -1 {
		t.Errorf("header %+v", batch)
	}
	for i, r := range records {
		g := got[i]
		if !same(g.Key, r.Key) || !same(g.Value, r.Value) || len(g.Headers) != len(r.Headers) || int(g.OffsetDelta) != i ||
			batch.FirstTimestamp+g.TimestampDelta64 != r.Accepted.UnixMilli() {
			t.Errorf("record %d: %+v", i, g)
		}
		for j, h := range r.Headers {
			if g.Headers[j].Key != h.Name || !same(g.Headers[j].Value, h.Value) {
				t.Errorf("record %d: header %+v", i, g.Headers[j])
			}
		}
	}
	full := len(b.encoded)
	if b.add(&record.Record{Accepted: at}, full) || len(b.encoded) != full || len(b.records) != 3 {
		t.Error("a record went over the limit")
	}
	b.reset()
	if !b.add(records[2], 1) {
		t.Error("the first record does not go alone")
	}
	b.pack(nil)
	if batch, got := decoded(t, b.wire); batch.ProducerID != -1 || batch.FirstSequence != -1 || len(got) != 1 || got[0].OffsetDelta != 0 {
		t.Errorf("used again: %+v", batch)
	}
}

// TestCutSends cuts a batch of several Sends at each place: each record calls its own done.
func TestCutSends(t *testing.T) {
	for at := 1; at < 9; at++ {
		b := playing(t, false)
		part := b.topic(0).partitions[0]
		told := map[*record.Record]int{}
		var sent []*record.Record
		for n := range 3 {
			records := kafkatest.Numbered("t", 3*n, 3*n+3)
			sent = append(sent, records...)
			b.Send(records, time.Now().Add(time.Hour), func(r *record.Record, _ error) { told[r] = n + 1 })
		}
		b.look(func() {
			b.cut(part, at, math.MaxInt)
			if queue := part.queue; len(queue) != 2 || len(queue[0].records) != at || len(queue[1].records) != 9-at ||
				part.bytes != len(queue[0].encoded)+len(queue[1].encoded) || b.nodes[0].bytes != part.bytes {
				t.Errorf("cut at %d: %d and %d records", at, len(queue[0].records), len(queue[1].records))
			}
		})
		b.Close()
		for i, r := range sent {
			if told[r] != i/3+1 {
				t.Errorf("cut at %d: record %d was told of to Send %d", at, i, told[r])
			}
		}
	}
}

// TestExpiry verifies the return of expired records.
func TestExpiry(t *testing.T) {
	bothKinds(t, func(t *testing.T, idempotence bool) {
		for _, test := range []struct {
			name              string
			leaves, written   bool
			inDoubt, comeBack bool
		}{
			{name: "not sent", comeBack: true},
			{name: "not written", leaves: true, comeBack: true},
			{name: "written", leaves: true, written: true, comeBack: !idempotence},
			{name: "in doubt", inDoubt: true, comeBack: !idempotence},
		} {
			b := playing(t, idempotence)
			part := b.topic(0).partitions[0]
			o := kafkatest.ExpectOutcomes(t, 2)
			deadline := time.Now().Add(time.Hour) // which the test has come
			b.Send(kafkatest.Numbered("t", 0, 1), deadline, o.Add)
			var f *flight
			if test.leaves {
				f = b.leaves(0, test.written)
			}
			b.look(func() { part.queue[0].doubtful, part.queue[0].closed = test.inDoubt, true })
			b.Send(kafkatest.Numbered("t", 1, 2), time.Time{}, o.Add)
			var ended []outcome
			b.look(func() { ended = b.expire(part, deadline) })
			b.deliver(ended)
			if !test.comeBack {
				o.None()
				continue
			}
			o.Wait()
			if first, second := o.Err[o.Order[0]], o.Err[o.Order[1]]; !errors.Is(first, context.DeadlineExceeded) || second != errHeldBack {
				t.Errorf("%s: %v, then %v", test.name, first, second)
			}
			if f != nil {
				b.answers(f, nil) // no record left: ExpectOutcomes verifies one outcome each
			}
		}
	})
}

// TestNothingSlipsIn verifies the order of a hand-back: a record sent before the done calls comes back too,
// although the partition is free.
func TestNothingSlipsIn(t *testing.T) {
	b := playing(t, false)
	part := b.topic(0).partitions[0]
	o := kafkatest.ExpectOutcomes(t, 2)
	b.send(o, kafkatest.Numbered("t", 0, 1)...)
	var ended []outcome
	b.look(func() { ended = b.handBack(part, 0, kerr.NotLeaderForPartition, errHeldBack) })
	late := kafkatest.Numbered("t", 1, 2)
	b.send(o, late...)
	b.deliver(ended)
	if o.Wait()[late[0]] != errHeldBack {
		t.Errorf("outcome %v", o.Err[late[0]])
	}
	again := kafkatest.ExpectOutcomes(t, 1)
	b.send(again, late...)
	again.None()
	b.look(func() {
		if len(part.queue) != 1 {
			t.Error("the topic stayed closed")
		}
	})
}

// TestRecalledUnwritten recalls an unwritten request: no byte is written, and all other batches go with
// another request.
func TestRecalledUnwritten(t *testing.T) {
	b := playing(t, true)
	topic := b.topic(0, 0)
	late, other := kafkatest.ExpectOutcomes(t, 1), kafkatest.ExpectOutcomes(t, 1)
	b.Send([]*record.Record{{Topic: "t", Key: key(0, 2)}}, time.Now().Add(time.Minute), late.Add)
	b.send(other, &record.Record{Topic: "t", Key: key(1, 2)})
	f := b.leaves(0, false)
	b.later(2 * time.Minute)
	if len(late.Wait()) != 1 || f.state.Load() != recalled {
		t.Error("it was not recalled")
	}
	if err := f.Append(&client.Parts{}, 9, 0); err != errRecalled {
		t.Errorf("it is written: %v", err)
	}
	f.Ended(0, nil, errRecalled)
	other.None()
	b.look(func() {
		if part := topic.partitions[0]; part.following != 0 {
			t.Errorf("the sequence goes on at %d after what was never sent", part.following)
		}
	})
	f = b.leaves(0, true)
	if len(f.cargo) != 1 || f.cargo[0].partition.number != 1 {
		t.Errorf("cargo %+v", f.cargo)
	}
	b.answers(f, nil)
	other.AllSent()
}

// TestAnswersInAnyOrder finds partitions in a response in another order, and with some missing.
func TestAnswersInAnyOrder(t *testing.T) {
	read := answers{of: &kmsg.ProduceResponse{}}
	for _, name := range []string{"c", "a", "b"} {
		one := kmsg.ProduceResponseTopic{Topic: name}
		for _, number := range []int32{2, 0, 1} {
			one.Partitions = append(one.Partitions, kmsg.ProduceResponseTopicPartition{Partition: number, BaseOffset: int64(number) + int64(name[0])})
		}
		read.of.Topics = append(read.of.Topics, one)
	}
	for range 2 {
		for _, name := range []string{"a", "missing", "b", "c"} {
			for _, number := range []int32{0, 1, 3, 2} {
				said := read.about(cargo{partition: &partition{topic: &topic{name: name}, number: number}})
				if known := name != "missing" && number != 3; known != (said != nil) || known && said.BaseOffset != int64(number)+int64(name[0]) {
					t.Errorf("of %s %d: %+v", name, number, said)
				}
			}
		}
	}
}

// TestSequenceNumbers follows a partition's numbers: across the maximum, a refusal, and a loss.
func TestSequenceNumbers(t *testing.T) {
	b := playing(t, true)
	part := b.topic(0).partitions[0]
	step := func(want int32, who int64, verdict *kerr.Error) {
		t.Helper()
		f := b.leaves(0, true)
		if batch := f.cargo[0].batch; batch.sequence != want || batch.identity.id != who {
			t.Errorf("sequence %d of %d, want %d of %d", batch.sequence, batch.identity.id, want, who)
		}
		b.answers(f, verdict)
		b.look(func() { // the pause after a refusal is over
			part.resume = time.Time{}
			b.offer(part)
		})
	}
	o := kafkatest.ExpectOutcomes(t, 9)
	b.send(o, kafkatest.Numbered("t", 0, 3)...)
	step(0, 7, nil)
	b.look(func() { part.following, part.acked = math.MaxInt32, math.MaxInt32 })
	b.send(o, kafkatest.Numbered("t", 3, 5)...)
	step(math.MaxInt32, 7, kerr.NotLeaderForPartition)
	step(math.MaxInt32, 7, nil)
	b.send(o, kafkatest.Numbered("t", 5, 6)...)
	step(1, 7, kerr.InvalidTopicException) // final: its number is free again
	b.send(o, kafkatest.Numbered("t", 6, 7)...)
	step(1, 7, kerr.OutOfOrderSequenceNumber)
	b.look(func() {
		if b.identity.given {
			t.Error("no other producer id is asked for")
		}
		b.identity = identity{id: 8, given: true}
	})
	step(0, 8, kerr.RequestTimedOut)
	step(0, 8, kerr.InvalidTopicException) // final, and possibly at the broker
	b.look(func() {
		if b.identity.given {
			t.Error("the numbers of a batch that may be there are used again")
		}
		b.identity = identity{id: 9, given: true}
	})
	b.send(o, kafkatest.Numbered("t", 7, 9)...)
	step(0, 9, kerr.DuplicateSequenceNumber)
	o.Wait()
	for r, err := range o.Err {
		if refused := string(r.Value) == "5" || string(r.Value) == "6"; refused != (err != nil) {
			t.Errorf("record %s: %v", r.Value, err)
		}
	}
}

// TestPanicOfOne verifies that a panic in a done call affects neither other outcomes nor Close.
func TestPanicOfOne(t *testing.T) {
	b := playing(t, false)
	b.topic(0)
	b.Send(kafkatest.Numbered("t", 0, 1), time.Time{}, func(*record.Record, error) { panic("a test's, on purpose") })
	f := b.leaves(0, true)
	o := kafkatest.ExpectOutcomes(t, 1)
	b.send(o, kafkatest.Numbered("t", 1, 2)...)
	b.answers(f, nil)
	b.Close()
	returned(t, o)
}
