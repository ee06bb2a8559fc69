package produce

import (
	"errors"
	"math"

	"github.com/twmb/franz-go/pkg/kerr"

	"reskafka/internal/host"
	"reskafka/internal/kafka/client"
)

// passing is how often in a row brokers may answer with what passes by itself, such as a leader that is being elected, before
// it is worth a line: some seconds.
const passing = 10

// noProducerID is what is said when the brokers refuse an identity.
const noProducerID = "getting a producer id"

// identity is whom brokers take records to be from, with idempotence: they know a batch that they have by it, the partition and
// the sequence number. The zero value is nobody.
type identity struct {
	id    int64
	epoch int16
	given bool
}

// identified says whether the producer may send, and sees to it that it can.
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

// identify asks for an identity until there is one.
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

// unidentified notes on all that waits why it does, and tells the administrator: the brokers have refused an identity so many
// times in a row.
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

// number gives a batch its sequence numbers, if it has none. One that is sent again keeps them: by them the broker knows it.
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

// following is the sequence number so many records behind another one.
func following(number int32, records int) int32 {
	return int32((int64(number) + int64(records)) & math.MaxInt32)
}

// forgo is for a batch that is not going to be sent with its sequence numbers any more. If no broker can have it, the next one
// takes them; else only another identity is certain to meet no other batch under its numbers.
func (p *Producer) forgo(part *partition, b *recordBatch) {
	switch {
	case !b.sequenced:
	case b.doubtful || part.flight != nil && part.flight.state.Load() == departed:
		p.identity = identity{}
	case part.identity == b.identity:
		part.next = b.sequence
	}
}

// lostSequence says whether a broker does not know the producer, or not as far as it has come: after a loss of records, or of
// what it remembers.
func lostSequence(err error) bool {
	for _, lost := range []error{kerr.OutOfOrderSequenceNumber, kerr.UnknownProducerID, kerr.InvalidProducerEpoch, kerr.InvalidProducerIDMapping} {
		if errors.Is(err, lost) {
			return true
		}
	}
	return false
}
