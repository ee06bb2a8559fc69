package spool

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"reskafka/internal/record"
)

// model is the required behaviour of a spool, in memory.
type model struct {
	t    *testing.T
	rand *rand.Rand
	dir  string
	s    *Spool
	fs   *failingFS
	logs map[string]*modelLog
	dead []record.DeadLetter
	n    int
}

type modelLog struct {
	records []*record.Record // from position 1 on
	first   uint64
}

func (l *modelLog) next() uint64 { return uint64(len(l.records)) + 1 }

var modelTopics = []string{"a", "b", "c/d"}

func (m *model) open() {
	m.fs = &failingFS{err: errDead, reads: true}
	s, err := Open(m.dir, Options{Connection: connection, FS: m.fs.over, SegmentBytes: 6 << 10})
	if err != nil {
		m.t.Fatal(err)
	}
	m.s = s
}

func (m *model) topic() (string, *modelLog) {
	name := modelTopics[m.rand.IntN(len(modelTopics))]
	return name, m.logs[name]
}

// settled adopts the starts of the spool's logs after the death of its process: the last settlements may be
// forgotten, and nothing else.
func (m *model) settled() {
	begin := map[string]Log{}
	for _, l := range m.s.Logs() {
		begin[l.Topic] = l
	}
	for name, l := range m.logs {
		got, there := begin[name]
		switch {
		case !there && l.first != l.next():
			m.t.Errorf("%s is empty, want %d to %d", name, l.first, l.next())
		case there && (got.First > l.first || got.Next != l.next()):
			m.t.Errorf("%s has %d to %d, want %d to %d", name, got.First, got.Next, l.first, l.next())
		case there:
			l.first = got.First
		}
	}
}

func (m *model) step() string {
	name, l := m.topic()
	switch k := m.rand.IntN(20); {
	case k < 7:
		var records []*record.Record
		for range 1 + m.rand.IntN(25) {
			m.n++
			records = append(records, numbered(name, m.n))
		}
		if first := appendAll(m.t, m.s, records...); first != l.next() {
			m.t.Errorf("%s goes on at %d, want %d", name, first, l.next())
		}
		l.records = append(l.records, records...)
		return fmt.Sprintf("append %d to %s", len(records), name)
	case k < 12:
		from := l.first + m.rand.Uint64N(l.next()-l.first+1)
		limit := 1 + m.rand.IntN(60)
		records, positions, next, err := m.s.Read(name, from, limit, m.rand.IntN(20_000))
		if err != nil || next != from+uint64(len(records)) || len(records) > limit || len(records) == 0 && from < l.next() {
			m.t.Errorf("reading %s from %d: %d records, next %d, %v", name, from, len(records), next, err)
		}
		for i, r := range records {
			if positions[i] != from+uint64(i) || !sameRecord(r, l.records[positions[i]-1]) {
				m.t.Errorf("reading %s from %d gives another record at %d", name, from, positions[i])
			}
		}
		return fmt.Sprintf("read %d of %s from %d", len(records), name, from)
	case k < 15:
		l.first += m.rand.Uint64N(l.next() - l.first + 1)
		if err := m.s.Settle(name, l.first); err != nil {
			m.t.Error(err)
		}
		return fmt.Sprintf("settle %s up to %d", name, l.first)
	case k == 15:
		topic, before, ok := m.s.DropOldest()
		if ok {
			m.logs[topic].first = max(m.logs[topic].first, before)
		}
		return fmt.Sprintf("drop %s up to %d, %v", topic, before, ok)
	case k < 18:
		return m.letters()
	default:
		return m.reopen(k == 18)
	}
}

func (m *model) letters() string {
	if m.rand.IntN(2) == 0 {
		m.n++
		letter := record.DeadLetter{Record: numbered("dead", m.n), Reason: "expired", At: time.Unix(int64(m.n), 0)}
		if _, err := m.s.Bury([]record.DeadLetter{letter}); err != nil {
			m.t.Error(err)
		}
		m.dead = append(m.dead, letter)
		return "bury"
	}
	n := 1 + m.rand.IntN(3)
	letters, _, forget, err := m.s.Exhume(n)
	if err != nil || len(letters) != min(n, len(m.dead)) {
		m.t.Fatalf("exhumed %d of %d, asked for %d, %v", len(letters), len(m.dead), n, err)
	}
	for i, l := range letters {
		if !sameRecord(l.Record, m.dead[i].Record) || !l.At.Equal(m.dead[i].At) {
			m.t.Error("exhumed another letter")
		}
	}
	if err := forget(); err != nil {
		m.t.Error(err)
	}
	m.dead = m.dead[len(letters):]
	return "exhume"
}

// reopen opens the spool again after a close or after the death of its process.
func (m *model) reopen(closed bool) string {
	if closed {
		if err := m.s.Close(); err != nil {
			m.t.Error(err)
		}
		before := map[string]uint64{}
		for name, l := range m.logs {
			before[name] = l.first
		}
		m.open()
		m.settled()
		for name, l := range m.logs {
			if l.first != before[name] {
				m.t.Errorf("%s was settled up to %d, Close did not write it", name, before[name])
			}
		}
		return "close and open"
	}
	m.fs.mtx.Lock()
	m.fs.at, m.fs.until = 0, 1<<30
	m.fs.mtx.Unlock()
	_ = m.s.Close()
	m.open()
	m.settled()
	if n := int(m.s.Usage().Dead); n < len(m.dead) {
		m.t.Errorf("%d dead letters, want %d", n, len(m.dead))
	} else { // the last exhumed letters may be there again
		letters, _, forget, _ := m.s.Exhume(n - len(m.dead))
		if err := forget(); err != nil || len(letters) != n-len(m.dead) {
			m.t.Error(err)
		}
	}
	return "die and open"
}

// Random histories, checked against the model. A failure has its seed in its name.
func TestHistories(t *testing.T) {
	seeds := []uint64{1, 2, 3, uint64(time.Now().UnixNano())}
	for _, seed := range seeds {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			m := &model{t: t, rand: rand.New(rand.NewPCG(seed, 0)), dir: newDir(t), logs: map[string]*modelLog{}}
			for _, name := range modelTopics {
				m.logs[name] = &modelLog{first: 1}
			}
			m.open()
			var history []string
			for range 500 {
				history = append(history, m.step())
				if t.Failed() {
					t.Fatalf("history: %q", history[max(0, len(history)-20):])
				}
			}
			if d := m.s.Usage().Damaged; d != 0 {
				t.Errorf("%d records are damaged", d)
			}
			wantUsage(t, m.s, m.dir)
			closeSpool(t, m.s)
			verify(t, m.dir)
		})
	}
}
