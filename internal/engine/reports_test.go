package engine

import (
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"reskafka/internal/frame"
	"reskafka/internal/frame/frametest"
	"reskafka/internal/record"
)

func (r *rig) openReports() *Reports {
	r.t.Helper()
	reports, err := r.OpenReports(r.numbers.Add(1))
	if err != nil {
		r.t.Fatal(err)
	}
	return reports
}

// reportTo is the field with a report's address.
func reportTo(r *Reports, opaque uint64) frame.Field {
	return frame.Field{Kind: frame.KindReport, Value: binary.NativeEndian.AppendUint64(
		binary.NativeEndian.AppendUint64(nil, r.ID), opaque)}
}

// reported returns records with reports to opaque from to to-1, also the first byte of the value.
func reported(r *Reports, topic string, from, to int) []frametest.Frame {
	var frames []frametest.Frame
	for i := from; i < to; i++ {
		frames = append(frames, frametest.Frame{
			AcceptedNS: time.Now().UnixNano(), Topic: topic, Key: []byte{byte(i)}, Value: []byte{byte(i)},
			Fields: []frame.Field{reportTo(r, uint64(i)), frametest.Text("h", "v")},
		})
	}
	return frames
}

// take takes n reports, in the order of their opaque numbers.
func take(t *testing.T, r *Reports, n int) []Report {
	t.Helper()
	all := make(chan []Report, 1)
	go func() {
		var list []Report
		for len(list) < n {
			next, ok := r.Next(7, false)
			if !ok {
				break
			}
			list = append(list, next...)
		}
		all <- list
	}()
	select {
	case list := <-all:
		if len(list) != n {
			t.Fatalf("%d of %d reports: %v", len(list), n, list)
		}
		slices.SortFunc(list, func(a, b Report) int { return int(a.Opaque) - int(b.Opaque) })
		return list
	case <-time.After(patience):
		t.Fatalf("fewer than %d reports", n)
		return nil
	}
}

// TestReportsOfAcknowledged verifies one report per record in the named queue, with the record's position for
// a consumer. The report's field makes no header.
func TestReportsOfAcknowledged(t *testing.T) {
	b := newBroker(t, kfake.SeedTopics(3, "t"))
	r := start(t, newLines())
	r.configure(section("one", b.address()))
	s := r.open("one")
	first, second := r.openReports(), r.openReports()
	s.put(append(append(reported(first, "t", 0, 50), reported(second, "t", 50, 60)...), numbered("t", "k", 60, 65)...)...)
	got := append(take(t, first, 50), take(t, second, 10)...)
	for _, record := range b.consumed(t, "t", 65) {
		if len(record.Headers) != 0 && (len(record.Headers) != 1 || record.Headers[0].Key != "h") {
			t.Errorf("headers %v", record.Headers)
		}
		if string(record.Key) == "k" {
			continue
		}
		report := got[record.Value[0]]
		want := Report{Opaque: uint64(record.Value[0]), Topic: "t", Partition: record.Partition, Offset: record.Offset}
		if report != want {
			t.Errorf("report %+v, want %+v", report, want)
		}
	}
	first.Close()
	if next, ok := first.Next(1, false); ok {
		t.Errorf("after Close: %v", next)
	}
	s.put(reported(first, "t", 0, 10)...)
	s.put(reported(second, "t", 10, 20)...)
	if list := take(t, second, 10); list[0].Opaque != 10 {
		t.Errorf("a closed queue's reports went elsewhere: %v", list)
	}
	b.consumed(t, "t", 85)
}

// TestReportsWithoutAnswer verifies reports without a position for acks = 0: the broker sends none.
func TestReportsWithoutAnswer(t *testing.T) {
	b := newBroker(t, kfake.SeedTopics(1, "t"))
	r := start(t, newLines())
	r.configure(section("one", b.address(), "acks = 0"))
	s := r.open("one")
	reports := r.openReports()
	s.put(numbered("t", "k", 0, 5)...)
	s.put(reported(reports, "t", 0, 1)...)
	if got := take(t, reports, 1)[0]; got != (Report{Topic: "t", Offset: -1}) {
		t.Errorf("report %+v", got)
	}
}

// TestReportsOfDropped verifies the reports of expired records, of records given up at the stop, and of
// unreadable frames. The latter are available after Stop.
func TestReportsOfDropped(t *testing.T) {
	log := newLines()
	r := start(t, log)
	r.configure(section("one", refusedAddress(t), "message_timeout_ms = 1000", inMemory), section("two", refusedAddress(t), inMemory))
	expiring, stopping := r.open("one"), r.open("two")
	reports := r.openReports()
	expiring.put(reported(reports, "t", 0, 5)...)
	for i, got := range take(t, reports, 5) {
		if want := (Report{uint64(i), "t", -1, -1, record.DroppedError(record.ReasonExpired)}); got != want {
			t.Errorf("report %+v, want %+v", got, want)
		}
	}

	broken := reported(reports, "t", 7, 8)
	broken[0].Fields = append(broken[0].Fields, frame.Field{Kind: frame.KindReport, Value: []byte("short")})
	stopping.put(broken...)
	if got := take(t, reports, 1)[0]; got.Opaque != 7 || got.Err == nil {
		t.Errorf("report %+v", got)
	}
	if n := dropped(r.status("two").Totals, notEncodable); n != 1 {
		t.Errorf("%d not encodable", n)
	}

	stopping.put(reported(reports, "t", 10, 30)...)
	r.Stop(0)
	for i, got := range take(t, reports, 20) {
		if want := (Report{uint64(10 + i), "t", -1, -1, record.DroppedError(record.ReasonStopped)}); got != want {
			t.Errorf("report %+v, want %+v", got, want)
		}
	}
	if next, ok := reports.Next(1, false); ok {
		t.Errorf("after the last: %v", next)
	}
	if _, err := r.OpenReports(99); err != ErrStopped {
		t.Errorf("opening after Stop: %v", err)
	}
	reports.Close()
}

// TestReportsEndAWait verifies that Close and Stop end a waiting Next.
func TestReportsEndAWait(t *testing.T) {
	for name, end := range map[string]func(*rig, *Reports){
		"close": func(_ *rig, reports *Reports) { reports.Close() },
		"stop":  func(r *rig, _ *Reports) { r.Stop(0) },
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, newLines())
			reports := r.openReports()
			ended := make(chan bool, 1)
			go func() {
				_, ok := reports.Next(1, false)
				ended <- ok
			}()
			end(r, reports)
			select {
			case ok := <-ended:
				if ok {
					t.Error("a report out of nothing")
				}
			case <-time.After(patience):
				t.Error("it waits on")
			}
		})
	}
}
