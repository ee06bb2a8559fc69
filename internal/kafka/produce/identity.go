package produce

import (
	"errors"
	"math"

	"github.com/twmb/franz-go/pkg/kerr"

	"reskafka/internal/host"
	"reskafka/internal/kafka/client"
)

// passing is the number of consecutive temporary answers, during the election of a leader for example, before
// the first log line: some seconds.
const passing = 10

// noProducerID is the subject of log lines about a refused identity.
const noProducerID = "getting a producer id"

// identity is the producer's identity at the brokers: brokers recognize a repeated batch by the identity, the
// partition and the sequence number. The zero value is no identity. Without idempotence: numbers.go.
type identity struct {
	id    int64
	epoch int16
	given bool
}

// identified reports whether the producer may send, and requests an identity if necessary.
func (p *Producer) identified() bool {
	if !p.idempotent || p.identity.given {
		return true
	}
	if !p.identifying {
		p.identifying = true
		go p.identify()
	}
	return false
}

// identify requests an identity until the brokers give one.
func (p *Producer) identify() {
	defer host.Guard(p.log, "asking for a producer id")
	for failures := 1; ; failures++ {
		next, succeeds, err := p.successor()
		if err == nil && !succeeds {
			next, err = p.issued(failures)
		}
		if err == nil {
			p.hooks.Recovered(noProducerID)
			p.mtx.Lock()
			p.identity, p.identifying = next, false
			p.offerAgain()
			p.debug.Logf("eos", "producer id %d, epoch %d", next.id, next.epoch)
			p.dispatchAll()
			p.mtx.Unlock()
			p.flush()
			if !succeeds {
				p.keep(next)
			}
			return
		}
		if p.ctx.Err() != nil {
			return
		}
		p.hooks.ReportUnsent(noProducerID, err)
		p.debug.Logf("eos", "asking for a producer id: %v", err)
		p.pause(p.retryPause(failures), nil)
	}
}

// dropIdentity ends the use of the identity: the order of its numbers has a gap.
func (p *Producer) dropIdentity() {
	p.identity = identity{}
	if !p.idempotent { // otherwise no batch leaves without a new identity
		p.offerAgain()
	}
}

// offerAgain offers the partitions with batches in flight again: no batch of another identity may follow them.
func (p *Producer) offerAgain() {
	for _, t := range p.topics {
		for _, part := range t.partitions {
			if part.listed != nil && part.flying > 0 {
				part.unlist()
				p.offer(part)
			}
		}
	}
}

// unidentified notes the reason on all waiting records, and logs repeated refusals of an identity.
func (p *Producer) unidentified(err error, failures int) {
	if errors.Is(err, kerr.ClusterAuthorizationFailed) {
		err = client.WithSentence(err, client.NoRightToWrite)
	}
	if !kerr.IsRetriable(err) || failures >= passing {
		p.hooks.Report(noProducerID, err)
	}
	p.mtx.Lock()
	defer p.mtx.Unlock()
	for _, t := range p.topics {
		for _, part := range t.partitions {
			for _, b := range part.queue {
				b.refusal = err
			}
		}
	}
}

// number sets a batch's sequence numbers. A batch possibly at a broker keeps its numbers, because the broker
// recognizes the batch by them. Any other batch has the numbers behind the batch before.
func (p *Producer) number(part *partition, b *recordBatch) {
	if !p.identity.given && !(b.sequenced && b.doubtful) {
		b.unnumber()
		return
	}
	if !b.sequenced || !b.doubtful {
		if part.identity != p.identity {
			part.identity, part.following, part.acked = p.identity, 0, 0
		}
		if !b.sequenced || b.identity != part.identity || b.sequence != part.following {
			b.identity, b.sequence, b.sequenced, b.wire = part.identity, part.following, true, nil
		}
	}
	if b.identity == part.identity {
		part.continueAt(following(b.sequence, len(b.records)))
	}
}

// continueAt sets the sequence number of the next batch, behind all acknowledged batches: a batch may be
// acknowledged before an earlier one, after the end of the earlier one's connection.
func (part *partition) continueAt(number int32) {
	if behind := (part.acked - number) & math.MaxInt32; behind < 1<<30 {
		number = part.acked
	}
	part.following = number
}

// following returns the sequence number `records` steps after number.
func following(number int32, records int) int32 {
	return int32((int64(number) + int64(records)) & math.MaxInt32)
}

// forgo ends the use of the sequence numbers of successive batches. If no broker can have a batch, the next
// batch takes over the numbers; otherwise only a new identity excludes another batch under the same numbers.
func (p *Producer) forgo(part *partition, batches ...*recordBatch) {
	for _, b := range batches {
		if b.sequenced && (b.doubtful || b.written()) {
			p.dropIdentity()
			return
		}
	}
	if b := batches[0]; b.sequenced && part.identity == b.identity {
		part.continueAt(b.sequence)
	}
}

// written reports whether the batch's request may be written.
func (b *recordBatch) written() bool { return b.flight != nil && b.flight.state.Load() == departed }

// lostSequence reports whether a broker has lost the producer's state or a part: after a loss of records, or
// of the state itself.
func lostSequence(err error) bool {
	for _, lost := range []error{kerr.OutOfOrderSequenceNumber, kerr.UnknownProducerID, kerr.InvalidProducerEpoch, kerr.InvalidProducerIDMapping} {
		if errors.Is(err, lost) {
			return true
		}
	}
	return false
}
