package produce

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"reskafka/internal/config"
	"reskafka/internal/record"
	"reskafka/test/kafkatest"
)

// history is a random sequence of sends, faults and answers, without a network and with a clock of its own.
type history struct {
	b        *bench
	kind     historyKind
	random   *rand.Rand
	sent     []*record.Record // in order
	outcomes map[*record.Record]error
	refusals map[*kerr.Error]int
	most     int // batches of a partition in flight
	followed int // loads beside an unanswered batch of the partition
	issued   int64
	calm     int // 100 and more: no fault in the rest of the steps
	seen     *seen
}

// historyKind is a kind of order of batches in flight.
type historyKind string

const (
	keysApart   historyKind = "keys apart"            // without idempotence and numbers
	numbersOnly historyKind = "numbers for the order" // without idempotence
	idempotent  historyKind = "idempotence"
)

// keys returns the number of different keys: without numbers few batches of few keys may fly together.
func (h *history) keys() int {
	if h.kind == keysApart {
		return 60
	}
	return 6
}

// send sends some records, a few of which get a verdict.
func (h *history) send(deadline time.Duration) {
	var some []record.Record
	for range 1 + h.random.IntN(6) {
		key := h.random.IntN(h.keys())
		mark := "v"
		if h.random.IntN(40) == 0 {
			mark = string([]byte{markLarge, markInvalid, markHalves, markTime}[h.random.IntN(4)])
		}
		r := record.Record{Topic: "t", Key: fmt.Append(nil, key), Value: fmt.Appendf(nil, "%s %d %d", mark, key, len(h.sent)+len(some)), Accepted: time.Now()}
		if h.random.IntN(10) == 0 {
			r.Key, r.Value = nil, fmt.Appendf(nil, "%s - %d", mark, len(h.sent)+len(some))
		}
		some = append(some, r)
	}
	records := kafkatest.Records(some...)
	h.sent = append(h.sent, records...)
	h.b.Send(records, h.b.now().Add(deadline), func(r *record.Record, err error) {
		if other, twice := h.outcomes[r]; twice {
			h.b.t.Errorf("%s has the outcomes %v and %v", r.Value, other, err)
		}
		h.outcomes[r] = err
		h.debugf("outcome of %s: %v", r.Value, err)
	})
	h.observe()
}

// load loads a request for a broker, if the producer's rules allow one.
func (m *imagined) load(id int32) bool {
	defer m.observe()
	p := m.b.Producer
	p.mtx.Lock()
	defer p.mtx.Unlock()
	n := p.nodes[id]
	if !p.identity.given && (p.idempotent || m.kind == numbersOnly && m.random.IntN(4) == 0) {
		m.issued++
		p.identity = identity{m.issued, 0, true}
		p.offerAgain()
	}
	if len(n.ready) == 0 || n.flights > 0 && !p.pipelines(n) {
		return false
	}
	n.flights++
	f := p.load(n)
	for _, c := range f.cargo {
		if m.most = max(m.most, c.partition.flying); c.partition.flying > 1 {
			m.followed++
		}
	}
	m.wires[id].queued = append(m.wires[id].queued, f)
	return true
}

// pass lets time pass, without the producer's own timer.
func (h *history) pass(by time.Duration) {
	h.b.later(by)
	h.b.look(func() { h.b.wakeAt = time.Unix(1, 0); h.b.timer.Stop() })
	h.observe()
}

// step takes a random step.
func (m *imagined) step(late bool) {
	id := int32(m.random.IntN(len(m.leaders)))
	if m.wires[id] == nil {
		return
	}
	w := m.wires[id]
	switch n := m.random.IntN(m.calm); {
	case n >= 200: // several requests follow each other
		for range m.random.IntN(7) {
			m.send(time.Hour)
			m.pass(minSpacing)
			m.load(id)
		}
	case n >= 100:
		m.pass(minSpacing)
		m.load(id)
	case n < 22:
		m.send([]time.Duration{time.Second, time.Hour}[m.random.IntN(2)])
	case n < 42:
		m.load(id)
	case n < 60 && len(w.queued) > 0:
		m.write(id)
	case n < 74 && len(w.written) > 0:
		var mood *kerr.Error
		if m.random.IntN(m.calm/12) == 0 {
			mood = []*kerr.Error{kerr.NotEnoughReplicas, kerr.RequestTimedOut, kerr.NotLeaderForPartition, kerr.TopicAuthorizationFailed,
				kerr.CorruptMessage}[m.random.IntN(5)]
		}
		m.executeNext(id, mood)
	case n < 90 && len(w.waiting) > 0:
		m.reply(id)
	case n < 92:
		m.cut(id, late)
	case n < 93 && len(w.late) > 0:
		m.execute(id, w.late[0], nil)
		w.late = w.late[1:]
	case n < 94:
		m.leaders[m.random.IntN(len(m.leaders))] = id
		if m.random.IntN(2) == 0 {
			m.learnLeaders()
		}
	case n < 95:
		m.learnLeaders()
	default:
		m.pass(time.Duration(m.random.IntN(30)) * time.Millisecond * []time.Duration{1, 1, 1, 20}[m.random.IntN(4)])
	}
}

func (m *imagined) learnLeaders() {
	m.b.learn(m.b.topics["t"], told([16]byte{1}, m.leaders...))
	m.b.look(func() {
		for _, n := range m.b.nodes {
			n.resume = m.b.now().Add(time.Hour) // no request of the producer itself
		}
	})
	m.observe()
}

// end brings all records to an outcome.
func (m *imagined) end() {
	for range 100000 {
		inside := 0
		m.b.look(func() { inside = m.b.inside })
		if inside == 0 {
			return
		}
		m.learnLeaders()
		for id, w := range m.wires {
			for m.load(id) {
			}
			for len(w.queued) > 0 {
				m.write(id)
			}
			for len(w.written) > 0 {
				m.executeNext(id, nil)
			}
			for len(w.waiting) > 0 {
				m.reply(id)
			}
		}
		m.pass(10 * time.Millisecond)
	}
	m.b.t.Fatal("the records get no outcome")
}

// check compares outcomes and logs.
func (m *imagined) check() {
	copies, at, lastAt := map[string]int{}, map[string]int{}, map[string]int{} // and the places of the first and last copy
	for _, l := range m.partitions {
		for i, value := range l.log {
			if copies[value]++; copies[value] == 1 {
				at[value] = i
			}
			lastAt[value] = i
		}
	}
	last, lastOfLast := map[string]int{}, map[string]int{}
	for _, r := range m.sent {
		err, ended := m.outcomes[r]
		value := string(r.Value)
		_, final := m.b.Permanent(err)
		verdict := strings.ContainsRune("LIH", rune(value[0]))
		switch {
		case !ended:
			m.b.t.Errorf("%s has no outcome", value)
		case err == nil && copies[value] == 0:
			m.b.t.Errorf("%s is acknowledged, and no broker has it", value)
		case m.kind == idempotent && copies[value] > 1:
			m.b.t.Errorf("%s is there %d times", value, copies[value])
		case m.kind == idempotent && err != nil && copies[value] > 0:
			m.b.t.Errorf("%s came back with %v, and a broker has it", value, err)
		case final != verdict && (final || err == nil):
			m.b.t.Errorf("%s ended with %v", value, err)
		case err == nil && r.Key != nil:
			if before, seen := last[string(r.Key)]; seen && at[value] < before {
				m.b.t.Errorf("%s is before an earlier record of its key", value)
			}
			last[string(r.Key)] = at[value]
			if before, seen := lastOfLast[string(r.Key)]; seen && lastAt[value] < before {
				m.b.t.Errorf("the last copy of %s is before that of an earlier record of its key", value)
			}
			lastOfLast[string(r.Key)] = lastAt[value]
		}
	}
}

// fixedRuns is the number of histories with the same seeds in each run.
const fixedRuns = 100

// TestHistories_SeveralBatchesInFlight_KeepPromises runs random histories of all faults against imagined
// brokers with Kafka's rules. With idempotence each acknowledged record is there once and each other record
// is not; in all kinds the first copies of a key are in order, and so are the last copies.
func TestHistories_SeveralBatchesInFlight_KeepPromises(t *testing.T) {
	runs := 150
	if os.Getenv("RES_KAFKA_LONG") != "" {
		runs = 3000
	}
	fixed, random := readStates(t), readStates(t)
	of := func(t *testing.T, kind historyKind) {
		refusals, most, followed := map[*kerr.Error]int{}, 0, 0
		outcomes := map[string]int{}
		for run := range runs {
			s, seed := fixed, uint64(run) // the seeds that have every step of the diagrams
			if run >= fixedRuns {
				s, seed = random, rand.Uint64()
			}
			if given := os.Getenv("RES_KAFKA_SEED"); given != "" {
				seed, _ = strconv.ParseUint(given, 10, 64)
			}
			if !t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
				m := aHistory(t, s, kind, seed)
				for e, n := range m.refusals {
					refusals[e] += n
				}
				most, followed = max(most, m.most), followed+m.followed
				for _, err := range m.outcomes {
					outcomes[outcomeName(err)]++
				}
			}) {
				t.FailNow()
			}
		}
		t.Logf("at most %d batches of a partition in flight, %d followed another", most, followed)
		for e, n := range refusals {
			t.Logf("%s: %d", e.Message, n)
		}
		t.Log(outcomes)
		if followed == 0 || kind == idempotent && most != maxOutstanding || kind == numbersOnly && most <= maxOutstanding {
			t.Errorf("at most %d batches in flight, %d followed", most, followed)
		}
	}
	for _, kind := range []historyKind{keysApart, numbersOnly, idempotent} {
		t.Run(string(kind), func(t *testing.T) { of(t, kind) })
	}
	if os.Getenv("RES_KAFKA_SEED") == "" {
		fixed.check(t)
	}
	if os.Getenv("RES_KAFKA_LONG") != "" {
		random.check(t)
	}
}

func outcomeName(err error) string {
	switch {
	case err == nil:
		return "acknowledged"
	case errors.Is(err, context.DeadlineExceeded):
		return "expired"
	case errors.Is(err, ErrClosed), err == errHeldBack:
		return err.Error()
	default:
		if e, ok := errors.AsType[*kerr.Error](err); ok {
			return e.Message
		}
		return err.Error()
	}
}

// aHistory runs one history.
func aHistory(t *testing.T, s states, kind historyKind, seed uint64) *imagined {
	h := &history{kind: kind, random: rand.New(rand.NewPCG(seed, 0)), outcomes: map[*record.Record]error{},
		refusals: map[*kerr.Error]int{}, issued: 7, seen: newSeen(s, seed)}
	h.calm = []int{100, 150, 220}[h.random.IntN(3)]
	h.b = playing(t, kind == idempotent, func(c *config.Connection) { c.BatchNumMessages = []int{3, 10000}[h.random.IntN(2)] })
	leaders := []int32{0, 1, 0}
	m := newImagined(h, leaders)
	h.b.topic(leaders...)
	h.pass(0)
	for range 100 + h.random.IntN(900) {
		m.step(kind == idempotent)
	}
	if h.random.IntN(3) == 0 {
		h.b.Recall()
		h.observe()
	}
	m.end()
	m.check()
	if t.Failed() {
		for i, l := range m.partitions {
			t.Logf("partition %d: %s", i, strings.Join(l.log, ", "))
		}
	}
	h.b.look(func() {
		for _, part := range h.b.topics["t"].partitions {
			if part.flying != 0 || part.bytes != 0 || slices.ContainsFunc(part.queue, func(*recordBatch) bool { return true }) {
				t.Errorf("partition %d: %d in flight, %d bytes", part.number, part.flying, part.bytes)
			}
		}
	})
	return m
}
