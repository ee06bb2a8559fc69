package produce

import (
	"errors"
	"hash/crc32"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/internal/kafka/client"
)

// Limits of unanswered requests.
const (
	// maxOutstanding is the limit of a partition's unanswered batches with idempotence: brokers recognize a
	// repetition of the last five batches only.
	maxOutstanding = 5
	// maxFlights is the limit of unanswered requests per broker.
	maxFlights = 32
	// maxFullFlights is the limit of unanswered requests per near broker in quick succession. librdkafka with
	// idempotence has the same limit. More would make the batches for a near broker smaller.
	maxFullFlights = 5
	// fullRequest is the number of bytes needed for a request right behind an unanswered one.
	fullRequest = 256 << 10
	// minSpacing is the shortest time between a request and a further one with fewer bytes.
	minSpacing = 5 * time.Millisecond
)

// Limits of the comparison of keys.
const (
	maxKeysCompared = 512 // unanswered records, and so many waiting ones
	keyBits         = 1 << 15
)

// maxBatches returns the limit of a partition's unanswered batches.
func (p *Producer) maxBatches() int {
	if p.idempotent {
		return maxOutstanding
	}
	return maxFlights
}

// next returns the first batch of a partition that is not in a request, or nil.
func (part *partition) next() *recordBatch {
	if part.flying < len(part.queue) {
		return part.queue[part.flying]
	}
	return nil
}

// follows reports whether the next batch of a partition may leave beside the partition's unanswered batches:
//
//   - after a failure one batch goes alone, and so does the first batch of an identity: a broker without any
//     batch of an identity accepts every sequence number;
//   - batches in flight have one identity and go to one broker, so a broker refuses each batch behind a
//     refused one;
//   - without an identity a broker accepts a batch behind a refused one. The batches must have no key in
//     common then. Records without a key have no order after a failure. A far broker is asked for an identity:
//     numbers.go.
//
// later is the time from which a batch with free room may leave; zero = now.
func (p *Producer) follows(part *partition) (ok bool, later time.Time) {
	b := part.next()
	switch {
	case p.acks == 0, part.failed, part.aboard != part.leader, part.flying >= p.maxBatches():
		return false, time.Time{}
	case !part.open, part.openAs != p.identity:
		return false, time.Time{}
	case part.queue[part.flying-1].identity != p.identity, b.sequenced && b.identity != p.identity:
		return false, time.Time{}
	case b.suspect != nil, p.exceeds(part, b): // the first of a queue is split
		return false, time.Time{}
	}
	if part.flying+1 == len(part.queue) && len(b.records) < p.batchRecords {
		if later = part.departed.Add(p.spacing(part.leader, p.maxBatches())); p.now().Before(later) {
			return false, later
		}
	}
	if !p.identity.given {
		if !p.disjoint(part, b) {
			return false, time.Time{}
		}
		b.closed = true // another key may be in flight
	}
	return true, time.Time{}
}

// spacing returns the time between two requests to a broker with free room, of at most `limit` unanswered
// ones: linger_ms, or more on a slow connection. Otherwise the requests of a few milliseconds would use up
// the limit, and later records would wait for an answer.
func (p *Producer) spacing(n *node, limit int) time.Duration {
	return max(p.linger, minSpacing, n.answerTime/time.Duration(limit))
}

// disjoint reports whether a batch has no key in common with the partition's unanswered batches. Two keys
// with the same hash count as equal, and so do the keys of long batches.
func (p *Producer) disjoint(part *partition, b *recordBatch) bool {
	if !b.keyed {
		return true
	}
	records := 0
	for _, other := range part.queue[:part.flying] {
		if other.keyed {
			records += len(other.records)
		}
	}
	if records > maxKeysCompared || len(b.records) > maxKeysCompared {
		return false
	}
	clear(p.keys[:])
	for _, other := range part.queue[:part.flying] {
		for _, r := range other.records {
			if len(r.Key) > 0 {
				bit := crc32.ChecksumIEEE(r.Key) % keyBits
				p.keys[bit/64] |= 1 << (bit % 64)
			}
		}
	}
	for _, r := range b.records {
		if len(r.Key) > 0 {
			if bit := crc32.ChecksumIEEE(r.Key) % keyBits; p.keys[bit/64]&(1<<(bit%64)) != 0 {
				return false
			}
		}
	}
	return true
}

// board books the next batch of a partition into a request.
func (p *Producer) board(part *partition, f *flight) *recordBatch {
	b := part.next()
	b.closed = true
	p.number(part, b)
	part.resize(-len(b.encoded))
	b.flight = f
	part.flying++
	part.aboard, part.departed = f.node, f.began
	return b
}

// disembark books a batch out of its request.
func (part *partition) disembark(b *recordBatch) {
	if b.flight != nil {
		b.flight = nil
		part.flying--
		part.resize(len(b.encoded))
	}
}

// recall reports whether nothing of a request was or will be written.
func (f *flight) recall() bool {
	return f.state.CompareAndSwap(boarding, recalled) || f.state.Load() == recalled
}

// unsend recalls the unwritten requests of a partition's batches, starting at `from`. It returns the first
// index behind the written requests. The other batches of a recalled request go with another request after
// the landing. The connection continues to open: with deadlines of a second, a slower connection would
// otherwise never open.
func (part *partition) unsend(from int) int {
	free := from
	for i := len(part.queue) - 1; i >= from; i-- { // backwards: the connection writes forwards meanwhile
		if f := part.queue[i].flight; f != nil && !f.recall() {
			free = max(free, i+1)
		}
	}
	return free
}

// lastFlying returns the number of a partition's batches up to the last in flight.
func (part *partition) lastFlying() int {
	for n := len(part.queue); n > 0; n-- {
		if part.queue[n-1].flight != nil {
			return n
		}
	}
	return 0
}

// result is the failure of a batch. Each one is booked after the landing of all batches of the partition.
type result struct {
	recalled bool                                // the request was not written
	answered bool                                // by the broker
	said     *kmsg.ProduceResponseTopicPartition // the answer; nil = none about the partition
	err      error                               // of the request, or the broker's
}

// land books the end of one batch's request. read finds the broker's answers; nil = the request failed with
// err.
func (p *Producer) land(f *flight, c cargo, read *answers, err error) []outcome {
	part, b := c.partition, c.batch
	if b.flight != f { // given up meanwhile
		return nil
	}
	part.disembark(b)
	r := result{recalled: f.state.Load() == recalled, err: err}
	switch {
	case r.recalled:
	case read == nil:
		b.doubtful = b.doubtful || f.state.Load() == departed
	case p.acks == 0:
		return []outcome{p.acknowledged(part, b, -1)}
	default:
		r.answered, r.said, r.err = true, read.about(c), client.ErrNoAnswer
		if r.said != nil {
			r.err = client.AnswerOf(r.said.ErrorCode, message(r.said), client.ToProduce)
		}
		switch {
		case r.err == nil:
			return []outcome{p.acknowledged(part, b, r.said.BaseOffset)}
		case b.sequenced && errors.Is(r.err, kerr.DuplicateSequenceNumber): // the broker has the batch, without its offset
			return []outcome{p.acknowledged(part, b, -1)}
		case r.said == nil, errors.Is(r.err, kerr.RequestTimedOut), errors.Is(r.err, kerr.NotEnoughReplicasAfterAppend):
			b.doubtful = true // the leader may have the batch
		}
	}
	b.result, part.failed = &r, true
	part.unlist()
	return nil
}

// settle books the failure of a partition's first batch, once no batch is in flight. All later batches follow
// in order: an answer to them proves nothing, because a broker refuses each batch behind a refused one.
func (p *Producer) settle(part *partition) (ended []outcome) {
	part.failed, part.open = false, false
	if len(part.queue) == 0 {
		return nil
	}
	b := part.queue[0]
	r := b.result
	for _, other := range part.queue {
		if other != b && other.result != nil {
			p.status.AddRetried(len(other.records))
		}
		other.result = nil
	}
	for p.stored(part, b) {
		ended = append(ended, p.acknowledged(part, b, -1))
		if part.unlist(); len(part.queue) == 0 { // acknowledged has listed the next batch
			return ended
		}
		b, r = part.queue[0], nil
	}
	return append(ended, p.book(part, r)...)
}

// book books the failure of a partition's first batch; nil = none.
func (p *Producer) book(part *partition, r *result) []outcome {
	b := part.queue[0]
	if b.sequenced && b.identity == part.identity {
		part.continueAt(b.sequence)
	}
	switch {
	case r == nil || r.recalled:
		return p.onceMore(part)
	case !r.answered:
		if !p.idempotent && b.sequenced && b.identity != p.trusted {
			p.withoutNumbers(part)
		}
		return p.again(part)
	default:
		return p.answered(part, r.said, r.err)
	}
}
