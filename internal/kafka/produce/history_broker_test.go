package produce

import (
	"errors"
	"net"
	"os"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// ledger is one partition of an imagined cluster: its log, and the numbers of idempotent producers as in
// Apache Kafka.
type ledger struct {
	log    []string
	states map[int64]*sequences
}

// sequences is a broker's memory of one producer id in a partition.
type sequences struct {
	epoch  int16
	last   int32
	recent []appended // the last five
}

type appended struct {
	first int32
	count int
}

// mark is the first letter of values with a verdict.
const (
	markLarge   = 'L' // too large
	markInvalid = 'I' // an invalid record, named by the answer
	markHalves  = 'H' // an invalid record without a name
	markTime    = 'T' // a refused time, accepted the second time
)

// sentBatch is a batch as it was written.
type sentBatch struct {
	partition int32
	sequenced bool
	identity  identity
	sequence  int32
	values    []string
}

// append appends a batch, or returns the refusal.
func (l *ledger) append(b *sentBatch, retimed map[string]bool) (*kerr.Error, []kmsg.ProduceResponseTopicPartitionErrorRecord) {
	var named []kmsg.ProduceResponseTopicPartitionErrorRecord
	for i, value := range b.values {
		switch value[0] {
		case markLarge:
			return kerr.MessageTooLarge, nil
		case markHalves:
			return kerr.InvalidRecord, nil
		case markInvalid:
			named = append(named, kmsg.ProduceResponseTopicPartitionErrorRecord{RelativeOffset: int32(i)})
		case markTime:
			if !retimed[value] {
				retimed[value] = true
				return kerr.InvalidTimestamp, nil
			}
		}
	}
	if named != nil {
		return kerr.InvalidRecord, named
	}
	if b.sequenced {
		if twice, err := l.number(b); err != nil || twice {
			return err, nil
		}
	}
	l.log = append(l.log, b.values...)
	return nil, nil
}

// number checks the sequence numbers of a batch. A broker without any number of a producer accepts all.
func (l *ledger) number(b *sentBatch) (twice bool, err *kerr.Error) {
	s, one := l.states[b.identity.id], appended{b.sequence, len(b.values)}
	switch {
	case s == nil:
		s = &sequences{epoch: b.identity.epoch}
		l.states[b.identity.id] = s
	case b.identity.epoch < s.epoch:
		return false, kerr.InvalidProducerEpoch
	case b.identity.epoch > s.epoch:
		if b.sequence != 0 {
			return false, kerr.OutOfOrderSequenceNumber
		}
		*s = sequences{epoch: b.identity.epoch}
	case slices.Contains(s.recent, one):
		return true, nil
	case b.sequence != following(s.last, 1):
		return false, kerr.OutOfOrderSequenceNumber
	}
	s.last = following(b.sequence, len(b.values)-1)
	if s.recent = append(s.recent, one); len(s.recent) > 5 {
		s.recent = s.recent[1:]
	}
	return false, nil
}

// imagined is a cluster of brokers without a network. A broker executes the requests of a connection in order.
type imagined struct {
	*history
	partitions []*ledger
	leaders    []int32
	retimed    map[string]bool
	wires      map[int32]*connection
}

// connection has the requests to one broker, from the load to the answer.
type connection struct {
	queued  []*flight       // nothing is written
	written []*transmission // not executed
	waiting []*transmission // executed
	late    []*transmission // the connection ended before the execution
}

// transmission is a written request.
type transmission struct {
	*flight
	batches []sentBatch
	answer  *kmsg.ProduceResponse
}

func newImagined(h *history, leaders []int32) *imagined {
	m := &imagined{history: h, leaders: slices.Clone(leaders), retimed: map[string]bool{}, wires: map[int32]*connection{}}
	for _, id := range leaders {
		m.partitions = append(m.partitions, &ledger{states: map[int64]*sequences{}})
		m.wires[id] = &connection{}
	}
	return m
}

// write writes the first unwritten request of a broker, unless it was recalled.
func (m *imagined) write(id int32) {
	defer m.observe()
	w := m.wires[id]
	f := w.queued[0]
	w.queued = w.queued[1:]
	if !f.state.CompareAndSwap(boarding, departed) {
		m.b.deliver(m.b.landed(f, nil, errRecalled))
		return
	}
	f.wrote.Store(int64(f.size))
	out := &transmission{flight: f}
	for _, c := range f.cargo {
		one := sentBatch{partition: c.partition.number, sequenced: c.batch.sequenced, identity: c.batch.identity, sequence: c.batch.sequence}
		for _, r := range c.batch.records {
			one.values = append(one.values, string(r.Value))
		}
		out.batches = append(out.batches, one)
	}
	w.written = append(w.written, out)
	m.debugf("write to %d: %+v", id, out.batches)
}

// execute lets a broker execute a request. mood is the refusal of all its batches; nil = none.
func (m *imagined) execute(id int32, out *transmission, mood *kerr.Error) {
	out.answer = &kmsg.ProduceResponse{}
	for i := range out.batches {
		b := &out.batches[i]
		one := kmsg.NewProduceResponseTopicPartition()
		one.Partition = b.partition
		err := mood
		switch {
		case m.leaders[b.partition] != id:
			err = kerr.NotLeaderForPartition
		case mood == nil, errors.Is(mood, kerr.RequestTimedOut):
			refusal, named := m.partitions[b.partition].append(b, m.retimed)
			if one.ErrorRecords = named; refusal != nil {
				err = refusal
			}
		}
		m.debugf("broker %d executes %+v: %v", id, *b, err)
		if err != nil {
			one.ErrorCode = err.Code
			m.refusals[err]++
		}
		out.answer.Topics = append(out.answer.Topics, kmsg.ProduceResponseTopic{Topic: "t", Partitions: []kmsg.ProduceResponseTopicPartition{one}})
	}
}

// executeNext executes the first written request of a broker.
func (m *history) debugf(format string, args ...any) {
	if os.Getenv("RES_KAFKA_SEED") != "" {
		m.b.t.Logf(format, args...)
	}
}

func (m *imagined) executeNext(id int32, mood *kerr.Error) {
	w := m.wires[id]
	m.execute(id, w.written[0], mood)
	w.waiting, w.written = append(w.waiting, w.written[0]), w.written[1:]
}

// reply delivers the first answer of a broker.
func (m *imagined) reply(id int32) {
	w := m.wires[id]
	out := w.waiting[0]
	w.waiting = w.waiting[1:]
	m.debugf("reply of %d: %+v", id, out.answer)
	m.b.deliver(m.b.landed(out.flight, out.answer, nil))
	m.observe()
}

// cut ends a connection. The broker executes some of the written requests before, and with late some of them
// afterwards. The unwritten requests go to the next connection, or end.
func (m *imagined) cut(id int32, late bool) {
	w := m.wires[id]
	for range m.random.IntN(len(w.written) + 1) {
		m.executeNext(id, nil)
	}
	if late {
		w.late = append(w.late, w.written...)
	}
	var lost []*flight
	for _, out := range append(w.waiting, w.written...) {
		lost = append(lost, out.flight)
	}
	if m.random.IntN(2) == 0 {
		lost, w.queued = append(lost, w.queued...), nil
	}
	w.waiting, w.written = nil, nil
	m.debugf("cut of %d: %d lost", id, len(lost))
	for _, f := range lost {
		m.b.deliver(m.b.landed(f, nil, net.ErrClosed))
		m.observe()
	}
}
