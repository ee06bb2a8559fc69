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

// identity is the producer's identity at the brokers, with idempotence: brokers recognize a repeated batch by
// the identity, the partition and the sequence number. The zero value is no identity.
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

// number sets a batch's missing sequence numbers. A repeated batch keeps the old numbers, because the broker
// recognizes the batch by them.
func (p *Producer) number(part *partition, b *recordBatch) {
	if b.sequenced {
		return
	}
	if part.identity != p.identity {
		part.identity, part.next = p.identity, 0
	}
	b.identity, b.sequence, b.sequenced, b.wire = part.identity, part.next, true, nil
	part.next = following(part.next, len(b.records))
}

// following returns the sequence number `records` steps after number.
func following(number int32, records int) int32 {
	return int32((int64(number) + int64(records)) & math.MaxInt32)
}

// forgo ends the use of a batch's sequence numbers. If no broker can have the batch, the next batch takes
// over the numbers; otherwise only a new identity excludes another batch under the same numbers.
func (p *Producer) forgo(part *partition, b *recordBatch) {
	switch {
	case !b.sequenced:
	case b.doubtful || part.flight != nil && part.flight.state.Load() == departed:
		p.identity = identity{}
	case part.identity == b.identity:
		part.next = b.sequence
	}
}

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
