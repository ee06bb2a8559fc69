package engine

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"reskafka/internal/config/configtest"
	"reskafka/internal/frame"
	"reskafka/internal/frame/frametest"
	"reskafka/internal/ingest"
	"reskafka/test/allocs"
)

// TestRecordsArrive verifies that a consumer reads the caller's bytes, with null and empty distinct.
func TestRecordsArrive(t *testing.T) {
	b := newBroker(t, kfake.SeedTopics(1, "calls", "other"))
	r := start(t, newLines())
	r.configure(section("one", b.address()))
	s := r.open("one")

	began := time.Now().Add(-3 * time.Second)
	var frames []frametest.Frame
	for i, key := range [][]byte{nil, {}, []byte("key")} {
		for j, value := range [][]byte{nil, {}, []byte("value")} {
			f := frametest.Frame{Topic: "calls", Key: key, Value: value, AcceptedNS: began.Add(time.Duration(i*3+j) * 7 * time.Millisecond).UnixNano()}
			if j == 0 {
				f.Fields = []frame.Field{frametest.Text("a", "1"), frametest.Text("b", ""), frametest.Text("a", "2"), {Name: []byte("null")}, frametest.Text("", "x")}
			}
			frames = append(frames, f, frametest.Frame{Topic: "other", Value: fmt.Appendf(nil, "%d", i*3+j)})
		}
	}
	s.put(frames...)
	s.settled()
	for i, got := range b.consumed(t, "calls", 9) {
		want := frames[2*i]
		if !same(got.Key, want.Key) || !same(got.Value, want.Value) {
			t.Errorf("record %d: key %#v value %#v, want %#v and %#v", i, got.Key, got.Value, want.Key, want.Value)
		}
		if ms := time.Unix(0, want.AcceptedNS).UnixMilli(); got.Timestamp.UnixMilli() != ms {
			t.Errorf("record %d: timestamp %v, want %v", i, got.Timestamp.UnixMilli(), ms)
		}
		if len(got.Headers) != len(want.Fields) {
			t.Fatalf("record %d: headers %v", i, got.Headers)
		}
		for j, h := range got.Headers {
			if h.Key != string(want.Fields[j].Name) || !same(h.Value, want.Fields[j].Value) {
				t.Errorf("record %d: header %q = %#v, want %q = %#v", i, h.Key, h.Value, want.Fields[j].Name, want.Fields[j].Value)
			}
		}
	}
	for i, got := range b.consumed(t, "other", 9) {
		if string(got.Value) != fmt.Sprint(i) {
			t.Errorf("record %d of the other topic is %q", i, got.Value)
		}
	}
	if c := r.status("one"); c.Totals.Accepted != 18 || c.Totals.Acknowledged != 18 || len(c.Topics) != 2 {
		t.Errorf("account %+v", c)
	}
}

func same(a, b []byte) bool { return bytes.Equal(a, b) && (a == nil) == (b == nil) }

const cdrConf = "[global]\nconnection = one\nkey = linkedid\nloguniqueid = yes\n"

// openCDR opens a source of call records.
func (r *rig) openCDR(text string, number uint64) uint64 {
	r.t.Helper()
	number, connection, err := r.OpenSource("cdr", configtest.Read(text), number)
	if err != nil || connection != "one" {
		r.t.Fatalf("connection %q, error %v: %q", connection, err, r.log.with())
	}
	return number
}

// object reads a record's value as JSON.
func object(t *testing.T, r *kgo.Record) map[string]any {
	t.Helper()
	var o map[string]any
	if err := json.Unmarshal(r.Value, &o); err != nil {
		t.Fatalf("%q: %v", r.Value, err)
	}
	return o
}

func TestEventsArrive(t *testing.T) {
	b := newBroker(t, kfake.SeedTopics(1, "asterisk_cdr", "moved"))
	r := start(t, newLines())
	r.configure(section("one", b.address()))
	s := r.open("one")
	source := r.openCDR(cdrConf, 0)
	accepted := time.Unix(1700000000, 999_999_999) // the second must not be another in the header
	event := frametest.Frame{AcceptedNS: accepted.UnixNano(), Source: source, Fields: []frame.Field{
		frametest.Text("src", "100"), frametest.Text("linkedid", "l.1"), frametest.Text("uniqueid", "u.1"),
		frametest.Time("start", 1600000000, 250000), frametest.Integer("billsec", -7), frametest.Integer("sequence", math.MaxInt64),
		frametest.Variable("mine", "yes"),
	}}
	s.put(event, frametest.Frame{Source: source, Fields: []frame.Field{frametest.Text("dst", "200")}})
	s.settled()
	both := b.consumed(t, "asterisk_cdr", 2)
	if o := object(t, both[1]); o["dst"] != "200" || o["src"] != nil || both[1].Key != nil {
		t.Errorf("the second has something of the first: %v, key %q", o, both[1].Key)
	}
	got := both[0]
	if string(got.Key) != "l.1" || got.Timestamp.UnixMilli() != accepted.UnixMilli() {
		t.Errorf("key %q, timestamp %v", got.Key, got.Timestamp)
	}
	o := object(t, got)
	for name, want := range map[string]any{"src": "100", "linkedid": "l.1", "uniqueid": "u.1", "billsec": -7.0, "sequence": float64(math.MaxInt64), "mine": "yes", "EntityID": theSystem.EntityID} {
		if o[name] != want {
			t.Errorf("%s = %v, want %v", name, o[name], want)
		}
	}
	if at, _ := o["start"].(string); !strings.Contains(at, ".250") {
		t.Errorf("start = %v", o["start"])
	}
	headers := map[string]string{}
	for _, h := range got.Headers {
		headers[h.Key] = string(h.Value)
	}
	if headers["timestamp"] != "1700000000" || headers["hostname"] != theSystem.Hostname {
		t.Errorf("headers %v", headers)
	}

	// A valid reload replaces the source; a faulty reload changes nothing.
	if _, _, err := r.OpenSource("cdr", configtest.Read("[global]\ntopic = nowhere\n"), source); err != ErrInvalid {
		t.Errorf("a file without connection: %v", err)
	}
	r.log.want(t, 1, "error: ", "connection")
	if again := r.openCDR(cdrConf+"topic = moved\n", source); again != source {
		t.Errorf("the source changed its number to %d", again)
	}
	s.put(event)
	s.settled()
	b.consumed(t, "moved", 1)
	for kind, number := range map[string]uint64{"nonsense": 0, "cdr": 7<<32 | 2} {
		if _, _, err := r.OpenSource(kind, configtest.Read(cdrConf), number); err != ErrNotFound {
			t.Errorf("source %q number %d: %v", kind, number, err)
		}
	}
	r.log.want(t, 1, "error: there is no event source of kind 'nonsense'")
	r.log.want(t, 1, "error: there is no event source number 2")
}

// TestOpenSource_NumberOfAnEarlierEngine_Kept verifies that frames of an earlier engine are readable: the
// module opens sources by their old numbers, in any order.
func TestOpenSource_NumberOfAnEarlierEngine_Kept(t *testing.T) {
	b := newBroker(t, kfake.SeedTopics(1, "first", "third"))
	r := start(t, newLines())
	r.configure(section("one", b.address()))
	third := r.openCDR(cdrConf+"topic = third\n", 1<<32|3)
	first := r.openCDR(cdrConf+"topic = first\n", 1<<32|1)
	if third != 1<<32|3 || first != 1<<32|1 {
		t.Errorf("the numbers are %#x and %#x", third, first)
	}
	if next := r.openCDR(cdrConf, 0); next != 1<<32|4 {
		t.Errorf("the next number is %#x", next)
	}
	s := r.open("one")
	for _, source := range []uint64{third, first, 1<<32 | 2} {
		s.put(frametest.Frame{Source: source, Fields: []frame.Field{frametest.Text("src", "100")}})
	}
	s.settled()
	b.consumed(t, "first", 1)
	b.consumed(t, "third", 1)
	r.log.want(t, 1, "error: connection 'one': 1 record(s) of event source 2 dropped")
	for _, number := range []uint64{1 << 32, 1<<32 | (maxNumber + 1), 2<<32 | 1} {
		if _, _, err := r.OpenSource("cdr", configtest.Read(cdrConf), number); err != ErrNotFound {
			t.Errorf("number %#x: %v", number, err)
		}
	}
}

// TestFieldsOfWrongLength verifies that a number or a time of the wrong length is sent as text.
func TestFieldsOfWrongLength(t *testing.T) {
	b := newBroker(t, kfake.SeedTopics(1, "asterisk_cdr"))
	r := start(t, newLines())
	r.configure(section("one", b.address()))
	s := r.open("one")
	wrong := func(f frame.Field, value []byte) frame.Field {
		f.Value = value
		return f
	}
	s.put(frametest.Frame{Source: r.openCDR(cdrConf, 0), Fields: []frame.Field{
		wrong(frametest.Integer("billsec", 1), []byte("abc")), wrong(frametest.Integer("duration", 1), nil),
		wrong(frametest.Time("start", 1, 1), []byte("12345678")), wrong(frametest.Time("end", 1, 1), []byte{}),
		{Name: []byte("src"), Kind: 4711, Value: []byte("odd")}, {Name: []byte("dst"), Kind: 4711},
		wrong(frametest.Variable("v", ""), nil), {},
	}})
	s.settled()
	o := object(t, b.consumed(t, "asterisk_cdr", 1)[0])
	if o["billsec"] != "abc" || o["start"] != "12345678" || o["end"] != "" || o["src"] != "odd" {
		t.Errorf("read %v", o)
	}
}

// TestFramesThatCannotBeRead verifies that an unreadable frame is counted, logged and freed without effect on
// adjacent frames.
func TestFramesThatCannotBeRead(t *testing.T) {
	b := newBroker(t, kfake.SeedTopics(1, "t"))
	r := start(t, newLines())
	r.configure(section("one", b.address()))
	s := r.open("one")
	good := func(value string) frametest.Frame {
		return frametest.Frame{Topic: "t", Value: []byte(value), Charge: 5}
	}
	short := frametest.Append(nil, frametest.Frame{Topic: "t", Charge: 70, Fields: []frame.Field{frametest.Text("name", "value")}})
	binary.NativeEndian.PutUint32(short[frame.HeaderSize+frame.HeadSize+1+frame.FieldValueLength:], 4000)

	slab := frametest.Append(nil, good("before"))
	slab = append(slab, short...)
	slab = frametest.Append(slab, frametest.Frame{Source: 99, Charge: 30})
	slab = frametest.Append(slab, frametest.Frame{Source: math.MaxUint64, Charge: 30})
	slab = frametest.Append(slab, good("after"))
	s.take(slab, 5, 2*5+70+2*30)
	s.settled()
	var values []string
	for _, got := range b.consumed(t, "t", 2) {
		values = append(values, string(got.Value))
	}
	if !slices.Equal(values, []string{"before", "after"}) {
		t.Errorf("read %q", values)
	}
	if c := r.status("one").Totals; c.Accepted != 5 || c.Acknowledged != 2 || dropped(c, "not encodable") != 3 {
		t.Errorf("account %+v", c)
	}
	r.log.want(t, 1, "error: connection 'one': 1 record(s) for topic 't' dropped, not encodable: ")
	r.log.want(t, 1, "error: connection 'one': 1 record(s) of event source 99 dropped, not encodable: ")
}

// A damaged module must not create queues for random names.
func TestTake_TopicThatCannotBe_DroppedAlone(t *testing.T) {
	b := newBroker(t, kfake.SeedTopics(1, "t"))
	r := start(t, newLines())
	r.configure(section("one", b.address()))
	s := r.open("one")
	for _, topic := range []string{"", "two words", "\x00\xff", strings.Repeat("x", 250)} {
		s.put(frametest.Frame{Topic: topic, Value: []byte("bad")}, frametest.Frame{Topic: "t", Value: []byte("good")})
	}
	s.settled()
	b.consumed(t, "t", 4)
	if c := r.status("one"); len(c.Topics) != 1 || dropped(c.Totals, "not encodable") != 4 {
		t.Errorf("account %+v", c)
	}
	r.log.want(t, 1, "error: connection 'one': 1 record(s) that cannot be read dropped, not encodable: its topic is no name that Kafka allows")
}

// TestNoise passes impossible slabs to the engine: the only effect is a line in the log.
func TestNoise(t *testing.T) {
	r := start(t, newLines())
	r.configure(section("one", refusedAddress(t)), section("never opened", refusedAddress(t)))
	s := r.open("one")
	source := r.openCDR(cdrConf, 0)
	for _, id := range []uint64{0, r.byName["never opened"].id, 3, math.MaxUint64} {
		r.Take(id, ingest.Range{Frames: frametest.Append(nil, frametest.Frame{Topic: "t"})})
	}
	r.log.want(t, 1, "error: ", "connection number 0, which is not open")

	whole := frametest.Append(nil, frametest.Frame{Topic: "t", Key: []byte("k"), Value: []byte("v"), Fields: []frame.Field{frametest.Text("h", "v")}})
	whole = frametest.Append(whole, frametest.Frame{Source: source, Fields: []frame.Field{frametest.Integer("billsec", 1), frametest.Time("end", 1, 1)}})
	whole = frametest.Append(whole, frametest.Frame{Topic: "t", Value: []byte("last")})
	r.Take(s.id, ingest.Range{Frames: nil})
	r.Take(s.id, ingest.Range{Frames: []byte{}})
	r.log.want(t, 0, "reading what was staged")
	r.Take(s.id, ingest.Range{Frames: bytes.Clone(whole)[:len(whole)-8]})
	r.log.want(t, 1, "error: connection 'one': reading what was staged: ")
	dice := rand.New(rand.NewPCG(1, 2))
	for range 5000 {
		slab := bytes.Clone(whole)
		for range 1 + dice.IntN(4) {
			slab[dice.IntN(len(slab))] = byte(dice.Uint32())
		}
		r.Take(s.id, ingest.Range{Frames: slab[:len(slab)-dice.IntN(2)*dice.IntN(len(slab))]})
	}
	if c := r.status("one"); c.Totals.Accepted < 5000 {
		t.Errorf("only %d frames were read", c.Totals.Accepted)
	}
}

// taken lists the functions in charge of a taken slab. The outbox's Send is not among them: Send creates the
// client on another goroutine at the first record. The client's work to reach the broker is left out too.
var taken = []string{"reskafka/internal/engine.(*Engine).Take", "reskafka/internal/outbox.(*Outbox).decide"}

// forgetful: under the race detector, pools drop a random quarter of their elements.
var forgetful bool

// TestRecordsNeedNoMemoryOfTheirOwn checks the memory for a slab of waiting records: a lot, because the records
// are in memory already. Measured with Go 1.26: 3.0 allocations for a slab and 5 bytes for each record; with
// two headers 3.0 and 6 bytes. Averages of this many slabs differ by less than a tenth.
// Forgetful pools need more memory.
func TestRecordsNeedNoMemoryOfTheirOwn(t *testing.T) {
	const slabs = 400
	r := start(t, newLines())
	r.configure(section("one", refusedAddress(t), inMemory, "queue_buffering_max_messages = 10000000",
		"queue_buffering_max_kbytes = 2097151", "message_timeout_ms = 300000"))
	s := r.open("one")
	text := frametest.Frame{AcceptedNS: 1, Topic: "t", Key: []byte("1700000000.123"), Value: make([]byte, 300)}
	headed := text
	headed.Topic = "h"
	headed.Fields = []frame.Field{frametest.Text("entity_id", "00:11:22:33:44:55"), frametest.Text("a_header", "abcdefghijklmnopqrstuvwxyz")}
	for name, row := range map[string]struct {
		frametest.Frame
		least                                float64 // least cost of a record, bytes
		allocations, bytes                   float64 // of a slab; of a record
		forgottenAllocations, forgottenBytes float64 // the same where pools forget
	}{
		"plain":       {text, 2, 5, 10, 10, 160},
		"two headers": {headed, 2, 5, 12, 20, 620},
	} {
		f, allocations, most := row.Frame, row.allocations, row.bytes
		if forgetful {
			allocations, most = row.forgottenAllocations, row.forgottenBytes
		}
		t.Run(name, func(t *testing.T) {
			slab, frames := slabOf(f)
			take := func() {
				s.HeldFrames.Add(int64(frames))
				s.HeldCharge.Add(int64(frames) * int64(len(f.Value)))
				r.Take(s.id, ingest.Range{Frames: slab, Stays: true})
			}
			for range 20 {
				take()
			}
			objects, bytes := allocs.By(func() {
				for range slabs {
					take()
				}
			}, taken...)
			count, each := float64(objects)/slabs, float64(bytes)/float64(slabs*frames)
			t.Logf("%.1f allocations for a slab of %d records, %.0f bytes for each", count, frames, each)
			if each < row.least {
				t.Error("this cannot be all")
			}
			if count > allocations || each > most {
				t.Errorf("at most %.0f allocations for a slab are allowed, and %.0f bytes for a record", allocations, most)
			}
		})
	}
	if c := r.status("one").Totals; int64(c.Waiting+c.Sending) != s.HeldFrames.Load() {
		t.Errorf("account %+v, want %d waiting", c, s.HeldFrames.Load())
	}
}

// TestCallRecordsNeedNoMemoryForTheirFields checks the additional cost of a slab of waiting call records: a
// message for each record, but not a string for each field's name. Measured with Go 1.26: 1.0; with forgetful
// pools between 3.1 and 3.4.
func TestCallRecordsNeedNoMemoryForTheirFields(t *testing.T) {
	const slabs = 40
	ceiling := 1.5
	if forgetful {
		ceiling = 4
	}
	r := start(t, newLines())
	r.configure(section("one", refusedAddress(t), inMemory, "queue_buffering_max_messages = 10000000",
		"queue_buffering_max_kbytes = 2097151", "message_timeout_ms = 300000"))
	r.openCDR(cdrConf+"durability = memory\n", 0)
	s := r.open("one")
	slab, frames := slabOf(callRecord)
	take := func() {
		s.HeldFrames.Add(int64(frames))
		r.Take(s.id, ingest.Range{Frames: slab})
	}
	take()
	objects, _ := allocs.By(func() {
		for range slabs {
			take()
		}
	}, taken...)
	each := float64(objects) / float64(slabs*frames)
	t.Logf("%.1f allocations for a call record of %d fields", each, len(callRecord.Fields))
	if each < 0.9 {
		t.Error("this cannot be all")
	}
	if each > ceiling {
		t.Errorf("%.1f allocations for a call record, at most %.1f are allowed", each, ceiling)
	}
	if c := r.status("one").Totals; c.Waiting+c.Sending != uint64((slabs+1)*frames) {
		t.Errorf("account %+v, want %d waiting", c, (slabs+1)*frames)
	}
}
