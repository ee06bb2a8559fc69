package serve

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"reskafka/internal/boundary"
	"reskafka/internal/ingest"
	"reskafka/internal/serve/servetest"
)

// backlog is the number of records in front of each subscription; they fill more than one area.
const backlog = 5000

// fillTopic produces records of 300 to 800 bytes in few batches, with null keys, empty keys and headers among them.
func fillTopic(t *testing.T, address, topic string) []*kgo.Record {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(address), kgo.DefaultProduceTopic(topic), kgo.DisableClientMetrics())
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	var records []*kgo.Record
	for i := range backlog {
		r := &kgo.Record{Value: fmt.Appendf(nil, "%d %s", i, bytes.Repeat([]byte{byte(i)}, 300+i%500))}
		if i%3 > 0 {
			r.Key = bytes.Repeat([]byte("k"), i%3-1)
		}
		for j := range i % 4 {
			r.Headers = append(r.Headers, kgo.RecordHeader{Key: fmt.Sprint("name", j), Value: fmt.Append(nil, i)})
		}
		records = append(records, r)
	}
	ctx, cancel := context.WithTimeout(t.Context(), servetest.Patience)
	defer cancel()
	if err := cl.ProduceSync(ctx, records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	return records
}

// TestNext_Backlog_UsesAreas guards messages in shared memory: each arrives complete and once, and an area serves one
// subscription until its next request or its end.
func TestNext_Backlog_UsesAreas(t *testing.T) {
	b := broker(t, "t")
	want := fillTopic(t, b.ListenAddrs()[0], "t")
	s := greeted(t)
	var sections []string
	for id := range uint64(ingest.Areas + 1) {
		sections = append(sections, section(fmt.Sprint("c", id+1), b.ListenAddrs()[0], fmt.Sprint("group_id = g", id)))
	}
	s.configure(sections...)
	used := map[uint32]uint64{}
	for id := uint64(1); id <= ingest.Areas; id++ {
		if area := s.firstOf(id).Area; area == 0 || used[area] != 0 {
			t.Errorf("subscription %d gets area %d, used are %v", id, area, used)
		} else {
			used[area] = id
		}
	}
	last := s.firstOf(ingest.Areas + 1)
	if last.Area != 0 || len(last.Messages) == 0 {
		t.Errorf("without a free area: area %d, %d messages", last.Area, len(last.Messages))
	}
	s.Ask(boundary.SubscriptionFreeKind, &boundary.SubscriptionFreeRequest{ID: 1}, nil)
	got := last.Messages
	for range 2 { // the area of subscription 1, then the same after the release by the request
		for range last.Messages {
			s.memory.Returned(ingest.Areas + 1)
		}
		last = s.next(ingest.Areas + 1)
		if used[last.Area] != 1 && len(got) < backlog {
			t.Errorf("after %d messages: area %d, used are %v", len(got), last.Area, used)
		}
		got = append(got, last.Messages...)
	}
	for range last.Messages {
		s.memory.Returned(ingest.Areas + 1)
	}
	if len(got) < backlog {
		got = append(got, s.receive(ingest.Areas+1, backlog-len(got))...)
	}
	for i, r := range got {
		if err := differ(r, want[i], int64(i)); err != nil {
			t.Fatal(err)
		}
	}
	if len(got) != backlog {
		t.Errorf("%d messages, want %d", len(got), backlog)
	}
}

// firstOf subscribes connection c<id> to topic t, and returns the first answer with messages.
func (s *site) firstOf(id uint64) boundary.NextAnswer {
	s.t.Helper()
	if got := s.subscribe(fmt.Sprint("c", id), id); got != boundary.ResultOK {
		s.t.Fatalf("subscribe as %d: %d", id, got)
	}
	return s.next(id)
}

// next requests messages and reads their area.
func (s *site) next(id uint64) (a boundary.NextAnswer) {
	s.t.Helper()
	s.Ask(boundary.NextKind, &boundary.NextRequest{ID: id, Most: 64 << 20}, &a)
	s.memory.Messages(&a)
	return a
}

// differ returns an error unless the message is the record.
func differ(m boundary.Received, r *kgo.Record, offset int64) error {
	var headers []boundary.Header
	for _, h := range r.Headers {
		headers = append(headers, boundary.Header{Name: h.Key, Value: h.Value})
	}
	same := func(a, b boundary.Header) bool { return a.Name == b.Name && bytes.Equal(a.Value, b.Value) }
	if m.Topic != "t" || m.Offset != offset || m.TimestampMS != r.Timestamp.UnixMilli() || !bytes.Equal(m.Key, r.Key) ||
		(m.Key == nil) != (r.Key == nil) || !bytes.Equal(m.Value, r.Value) || !slices.EqualFunc(m.Headers, headers, same) {
		return fmt.Errorf("message %d is %.200q, want %.200q", offset, fmt.Sprint(m), fmt.Sprint(r))
	}
	return nil
}

// TestMessages_Size_IsEnough guards the limit of an area: size is at least the encoded length.
func TestMessages_Size_IsEnough(t *testing.T) {
	b := broker(t, "t")
	fillTopic(t, b.ListenAddrs()[0], "t")
	s := greeted(t)
	s.configure(section("c1", b.ListenAddrs()[0], "group_id = g"))
	if got := s.subscribe("c1", 1); got != boundary.ResultOK {
		t.Fatal(got)
	}
	batch, ok := s.server.engine.Next(1)
	if !ok {
		t.Fatal("no batch")
	}
	m := messages{batch}
	if encoded := len(m.encode(nil)); m.size() < answerFixed+encoded || m.size() > answerFixed+encoded+encoded/8 {
		t.Errorf("size is %d for %d encoded bytes", m.size(), encoded)
	}
}
