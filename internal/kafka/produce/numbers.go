package produce

import (
	"math"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/internal/host"
	"reskafka/internal/kafka/client"
)

// Sequence numbers without idempotence, for the order alone. A broker refuses each batch behind a missing one of
// the same identity, so batches in flight together may have keys in common. Their number is not limited to the
// five recognized by brokers, because duplicates are allowed. Only a far broker is worth the request for an
// identity, and only acks = -1 allows an identity.

const (
	// farAnswer is the least time to an answer of a far broker, above the times of a local network.
	farAnswer = 10 * time.Millisecond
	// numbersPause is the time without numbers after a refusal. A service that closes the connection on
	// numbered batches causes two closes within closesApart otherwise, and a false limit of requests.
	numbersPause = 3 * closesApart
)

// far reports whether every answer of the broker took as long as one of another site.
func (n *node) far() bool { return n.leastTime >= farAnswer }

// Far reports whether a broker of the last answer is far: a larger window than Window's is needed to fill the
// link. Never blocks.
func (p *Producer) Far() bool { return p.distant.Load() }

// wantNumbers requests an identity for the order of batches to a far broker. Records do not wait for the answer.
func (p *Producer) wantNumbers() {
	if p.idempotent || p.acks != -1 || p.identity.given || p.identifying || p.now().Before(p.numbersAfter) {
		return
	}
	if p.spare.given {
		p.useNumbers()
		return
	}
	p.identifying = true
	go p.askForNumbers()
}

// maybeFar requests an identity after a slow answer of any kind: the first records then need not wait for one. The
// time includes the setup of a connection, so the identity may remain unused.
func (p *Producer) maybeFar(took time.Duration) {
	p.mtx.Lock()
	defer p.mtx.Unlock()
	if took >= farAnswer && !p.closed && !p.spare.given {
		p.wantNumbers()
	}
}

// useNumbers begins with sequence numbers, once a broker is known as far.
func (p *Producer) useNumbers() {
	if p.spare.given && p.distant.Load() {
		p.identity, p.spare = p.spare, identity{}
		p.offerAgain()
	}
}

// askForNumbers requests an identity once. A failure changes nothing for records, so no log line reports it.
func (p *Producer) askForNumbers() {
	defer host.Guard(p.log, "asking for a producer id")
	answer, err := kmsg.NewPtrInitProducerIDRequest().RequestWith(p.ctx, p.client)
	if err == nil {
		err = kerr.ErrorForCode(answer.ErrorCode)
	}
	p.mtx.Lock()
	p.identifying = false
	if err != nil {
		p.numbersAfter = p.now().Add(numbersPause)
		p.debug.Logf("msg", "one batch of a partition at a time: %v", err)
	} else {
		p.spare = identity{answer.ProducerID, answer.ProducerEpoch, true}
		p.useNumbers()
		p.dispatchAll()
	}
	p.mtx.Unlock()
	p.flush()
}

// questionable reports whether the failure of a numbered batch may be due to the numbers. Without idempotence a
// batch goes once more without numbers before a verdict, and after any failure of a first numbered batch.
func (p *Producer) questionable(b *recordBatch, err error) bool {
	if p.idempotent || !b.sequenced {
		return false
	}
	_, final := p.Permanent(err)
	return b.identity != p.trusted && !kerr.IsRetriable(err) || final || ofBatch(err) || lostSequence(err) ||
		client.IsVerdict(err, client.OnTopic) || client.IsVerdict(err, client.OnTime)
}

// withoutNumbers removes the numbers of a partition's batches, all of them: the log may have the first batches, and
// later copies must not come before repeated earlier ones. The identity is not used again.
func (p *Producer) withoutNumbers(part *partition) {
	b := part.queue[0]
	if p.identity == b.identity {
		p.dropIdentity()
	}
	if b.identity != p.trusted {
		p.numbersAfter = p.now().Add(numbersPause)
	}
	for _, b := range part.queue {
		b.unnumber()
	}
}

// stored reports whether a batch in doubt is in the log: a broker accepts a later batch of the identity only
// behind it. A repetition would come behind newer records. With idempotence the broker recognizes a repetition.
// A batch without doubt is in no log: a broker without the state of the identity accepts every sequence number.
func (p *Producer) stored(part *partition, b *recordBatch) bool {
	if p.idempotent || !b.sequenced || !b.doubtful || b.identity != part.identity {
		return false
	}
	return (part.acked-following(b.sequence, len(b.records)))&math.MaxInt32 < 1<<30
}

// unnumber removes the numbers of a batch.
func (b *recordBatch) unnumber() {
	if b.sequenced {
		b.sequenced, b.identity, b.wire, b.whole = false, identity{}, nil, nil
	}
}
