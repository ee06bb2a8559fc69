package engine

import (
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"reskafka/internal/frame"
	"reskafka/internal/frame/frametest"
	"reskafka/internal/ingest"
)

// slabOf is a slab of a busy stage: 64 KiB of one kind of frame.
func slabOf(f frametest.Frame) (slab []byte, frames int) {
	f.Charge = uint32(len(f.Value))
	for len(slab) < 60<<10 {
		slab = frametest.Append(slab, f)
		frames++
	}
	return slab, frames
}

// callRecord is a frame of modules/cdr_kafka.c.
var callRecord = frametest.Frame{AcceptedNS: 1, Source: 1, Fields: []frame.Field{
	frametest.Text("clid", "\"Alice\" <100>"), frametest.Text("src", "100"), frametest.Text("dst", "200"),
	frametest.Text("dcontext", "default"), frametest.Text("channel", "PJSIP/100-00000001"),
	frametest.Text("dstchannel", "PJSIP/200-00000002"), frametest.Text("lastapp", "Dial"),
	frametest.Text("lastdata", "PJSIP/200,30"), frametest.Time("start", 1700000000, 1), frametest.Time("answer", 1700000003, 1),
	frametest.Time("end", 1700000063, 1), frametest.Integer("duration", 63), frametest.Integer("billsec", 60),
	frametest.Text("disposition", "ANSWERED"), frametest.Text("accountcode", ""), frametest.Text("amaflags", "DOCUMENTATION"),
	frametest.Text("peeraccount", ""), frametest.Text("linkedid", "1700000000.1"), frametest.Integer("sequence", 1),
	frametest.Text("uniqueid", "1700000000.1"), frametest.Text("userfield", ""),
}}

// anyStates are states for repeated frames.
var anyStates [1 << 13]atomic.Uint32

func anyState(at int) *atomic.Uint32 { return &anyStates[at/8%len(anyStates)] }

// BenchmarkTake measures records from Take to their acknowledgement, with the broker in the same process.
func BenchmarkTake(b *testing.B) {
	value := make([]byte, 100)
	for name, f := range map[string]frametest.Frame{
		"records of 300 bytes": {AcceptedNS: 1, Topic: "t", Key: []byte("1700000000.123"), Value: make([]byte, 300)},
		"records":              {AcceptedNS: 1, Topic: "t", Value: value},
		"records with key":     {AcceptedNS: 1, Topic: "t", Key: []byte("1700000000.123"), Value: value},
		"records with two headers": {AcceptedNS: 1, Topic: "t", Value: value,
			Fields: []frame.Field{frametest.Text("entity_id", "00:11:22:33:44:55"), frametest.Text("format", "json")}},
		"call records": callRecord,
	} {
		b.Run(name, func(b *testing.B) {
			broker := newBroker(b, kfake.BlackholeProduce(), kfake.SeedTopics(3, "t", "asterisk_cdr"))
			r := start(b, newLines())
			r.configure(section("one", broker.address(), inMemory))
			r.openCDR(cdrConf, 0)
			s := r.open("one")
			slab, frames := slabOf(f)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			b.ResetTimer()
			for range b.N {
				for s.HeldFrames.Load() > 50_000 { // as for callers at the limit
					time.Sleep(100 * time.Microsecond)
				}
				s.HeldFrames.Add(int64(frames))
				s.HeldCharge.Add(int64(frames) * int64(len(f.Value)))
				r.Take(s.id, ingest.Range{Frames: slab, States: anyState})
			}
			s.settled()
			b.StopTimer()
			runtime.ReadMemStats(&after)
			records := float64(b.N * frames)
			b.ReportMetric(records/b.Elapsed().Seconds(), "records/s")
			b.ReportMetric(float64(after.Mallocs-before.Mallocs)/records, "allocs/record")
			b.ReportMetric(float64(after.TotalAlloc-before.TotalAlloc)/records, "B/record")
		})
	}
}

// BenchmarkWait measures Take alone: nothing is delivered, as there is no broker.
func BenchmarkWait(b *testing.B) {
	r := start(b, newLines())
	r.configure(section("one", refusedAddress(b), inMemory, "queue_buffering_max_messages = 10000000", "queue_buffering_max_kbytes = 2097151", "message_timeout_ms = 300000"))
	s := r.open("one")
	slab, frames := slabOf(frametest.Frame{AcceptedNS: 1, Topic: "t", Key: []byte("1700000000.123"), Value: make([]byte, 300)})
	b.ResetTimer()
	for range b.N {
		r.Take(s.id, ingest.Range{Frames: slab, Stays: true})
	}
	b.StopTimer()
	b.ReportMetric(float64(b.N*frames)/b.Elapsed().Seconds(), "records/s")
}
