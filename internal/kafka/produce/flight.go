package produce

import (
	"errors"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/internal/kafka/client"
)

// flight is one produce request, with one batch of each of some partitions.
type flight struct {
	producer *Producer
	node     *node

	cargo []cargo
	probe cargo // the suspected record behind an answer; the flight has no records then
	size  int   // limit of the request's size before the compression of its batches

	began  time.Time    // the time of load
	closes int          // the broker's closes at the start of the flight
	packed sync.Once    // by pack
	wrote  atomic.Int64 // how long the request is
	state  atomic.Int32
}

type cargo struct {
	partition *partition
	topicID   [16]byte // at the load
	batch     *recordBatch
}

// How far a flight has come.
const (
	boarding = iota // nothing is written
	departed        // some of it may be written
	recalled        // nothing was or will be written
)

// dispatch sends the ready batches for a broker. Caller must hold mtx.
func (p *Producer) dispatch(n *node) {
	if p.closed || !p.identified() || !n.resume.IsZero() && !p.rested(n) {
		return
	}
	for len(n.ready) > 0 && (n.flights == 0 || p.pipelines(n)) {
		n.flights++
		p.queue(n, p.load(n))
	}
}

// pipelines reports whether a further request to a broker is allowed beside others, and sets the alarm for
// the time to ask again.
func (p *Producer) pipelines(n *node) bool {
	if n.flights >= maxFlights || n.alone || n.ready[0].suspected() || !n.limit.pipelines(n.bytes, p.requestBytes) {
		return false
	}
	if n.bytes >= fullRequest && (n.flights < maxFullFlights || n.far()) {
		return true
	}
	later := n.departed.Add(p.spacing(n, maxFlights))
	if p.now().Before(later) {
		p.alarm(later)
		return false
	}
	return true
}

func (p *Producer) dispatchAll() {
	for _, n := range p.nodes {
		p.dispatch(n)
	}
}

// rested reports whether the broker's pause after a failure is over, and sets the alarm for its end.
func (p *Producer) rested(n *node) bool {
	if p.now().Before(n.resume) && (n.paused == nil || !p.resumed(n)) {
		if n.paused == nil {
			p.alarm(n.resume)
		}
		return false
	}
	n.resume, n.paused = time.Time{}, nil
	return true
}

// load makes a request of the ready batches for a broker. A batch longer than the limit goes alone, and so
// does a suspected record, after a probe.
func (p *Producer) load(n *node) *flight {
	f := &flight{producer: p, node: n, size: p.overhead, closes: n.limit.closes, began: p.now()}
	n.departed = f.began
	taken, limit := 0, p.maxRequestBytes(n)
	for _, part := range n.ready {
		p.fit(n, part)
		size := len(part.next().encoded) + part.overhead()
		tests := part.suspected()
		if taken > 0 && (tests || f.size+size > limit) {
			break
		}
		if tests && f.test(part) {
			return f
		}
		f.size += size
		taken++
		n.bytes -= part.bytes
		part.listed = nil
		f.cargo = append(f.cargo, cargo{part, part.topic.id, p.board(part, f)})
		if tests {
			break
		}
	}
	rest := copy(n.ready, n.ready[taken:])
	clear(n.ready[rest:])
	n.ready = n.ready[:rest]
	for _, c := range f.cargo {
		p.offer(c.partition)
	}
	return f
}

// landed books the outcome of a flight. The next flight starts before any report.
func (p *Producer) landed(f *flight, answer *kmsg.ProduceResponse, err error) (ended []outcome) {
	p.mtx.Lock()
	defer p.mtx.Unlock()
	f.node.flights--
	f.node.alone = false
	if p.closed {
		return nil // Close has handled the records
	}
	var read *answers
	if err == nil {
		read = &answers{of: answer}
		f.node.answeredAfter(p.now().Sub(f.began))
		p.distant.Store(f.node.far())
		if f.node.far() {
			p.wantNumbers()
		}
		f.node.failures = 0
		f.node.limit.answered(f.size)
		p.throttled(f.node)
		ended = p.passed(f)
	} else if err != errRecalled {
		p.unreachable(f, err)
		ended = p.cutOff(f, err)
		p.suspect(f, err)
	}
	for _, c := range f.cargo {
		ended = append(ended, p.land(f, c, read, err)...)
		if part := c.partition; part.failed && part.flying == 0 {
			ended = append(ended, p.settle(part)...)
		}
	}
	p.dispatchAll() // and not this broker alone: a partition may have got another leader meanwhile
	p.maybeRecalled()
	return ended
}

// unreachable notes a failed request to a broker. Affected partitions may have another broker by now. A
// reachable broker with repeated failures gets longer pauses; for unreachable brokers the dialer does the
// same.
func (p *Producer) unreachable(f *flight, err error) {
	n := f.node
	if n.resume.IsZero() && !client.EndedIdle(err) {
		if f.state.Load() == departed {
			n.failures++
		}
		n.resume = p.now().Add(p.retryPause(max(n.failures, 1)))
		p.alarm(n.resume)
	}
	p.debug.Logf("broker", "broker %d: %v", n.id, err)
}

// answers finds a partition in a response, usually in the order of the request.
type answers struct {
	of              *kmsg.ProduceResponse
	topic, position int
}

// about is nil if the response says nothing of the partition.
func (a *answers) about(c cargo) *kmsg.ProduceResponseTopicPartition {
	part := c.partition
	for range 2 { // from the last position, then from the beginning
		for ; a.topic < len(a.of.Topics); a.topic++ {
			t := &a.of.Topics[a.topic]
			if t.Topic == part.topic.name || t.Topic == "" && t.TopicID == c.topicID {
				for ; a.position < len(t.Partitions); a.position++ {
					if t.Partitions[a.position].Partition == part.number {
						return &t.Partitions[a.position]
					}
				}
			}
			a.position = 0
		}
		a.topic = 0
	}
	return nil
}

// answered books a broker's refusal of the first batch of a partition. said is nil if the answer says nothing
// about the partition.
func (p *Producer) answered(part *partition, said *kmsg.ProduceResponseTopicPartition, err error) []outcome {
	b := part.queue[0]
	_, final := p.Permanent(err)
	switch {
	case said == nil:
	case b.whole != nil && errors.Is(err, kerr.OutOfOrderSequenceNumber):
		p.rejoin(part)
		return nil
	case p.questionable(b, err):
		p.debug.Logf("msg", "topic %s, partition %d: %v; once more without numbers", part.topic.name, part.number, err)
		p.withoutNumbers(part)
		return p.again(part)
	case b.sequenced && lostSequence(err):
		p.debug.Logf("eos", "topic %s, partition %d: %v; it goes by a new producer id", part.topic.name, part.number, err)
		if p.identity == b.identity { // otherwise there is a new identity already
			p.dropIdentity()
		}
		b.unnumber()
	case client.IsVerdict(err, client.OnTime):
		return p.refusedTime(part, said, err)
	case client.IsVerdict(err, client.OnTopic) && p.kept(part) == 0:
		return p.refusedTopic(part.topic, err)
	case client.IsVerdict(err, client.OnTopic): // a broker may have the batch
		return append(p.refused(part, err), p.objection(part.topic, err))
	case ofBatch(err):
		return p.refusedRecord(part, said, err)
	case final:
		return p.refuse(part, err)
	}
	return p.refused(part, err)
}

// refused repeats a partition's first batch after a pause, unless the records' retries are used up.
func (p *Producer) refused(part *partition, err error) (ended []outcome) {
	b := part.queue[0]
	part.refused++
	part.resume = p.now().Add(p.retryPause(part.refused))
	b.refusal = err
	if p.debug.Enabled("msg") {
		p.debug.Logf("msg", "topic %s, partition %d: %d record(s) are sent again: %v", part.topic.name, part.number, len(b.records), err)
	}
	p.countRetry(part)
	ended = p.spend(part, err)
	return append(ended, p.onceMore(part)...)
}

// again has the first batch of a partition sent once more, which no broker has answered.
func (p *Producer) again(part *partition) []outcome {
	p.countRetry(part)
	return p.onceMore(part)
}

func (p *Producer) countRetry(part *partition) {
	p.status.AddRetried(len(part.queue[0].records))
	p.wantMetadata(part.topic) // the leader may be another by now
}

// onceMore offers a partition's batches, unless another client takes over.
func (p *Producer) onceMore(part *partition) (ended []outcome) {
	if p.recalled {
		ended = p.handBack(part, p.kept(part), ErrClosed, ErrClosed)
	}
	p.offer(part)
	return ended
}

// spend counts a refusal of the first batch's records against `retries`, and ends records without retries.
func (p *Producer) spend(part *partition, err error) (ended []outcome) {
	if !p.limited || client.UnknownTopic(err) || lostSequence(err) || errors.Is(err, client.ErrNoAnswer) || client.IsVerdict(err, client.OnTopic) {
		return nil // which say nothing about the records
	}
	b := part.queue[0]
	spent := 0 // from the first on: the oldest records have the most refusals
	for i, r := range b.records {
		if r.Refusals++; int(r.Refusals) > p.retries && i == spent {
			spent++
		}
	}
	if spent == 0 {
		return nil
	}
	if rest := len(b.records) - spent; rest > 0 {
		p.cut(part, spent, math.MaxInt)
	}
	return p.refuse(part, &retriesSpent{err})
}
