package produce

import (
	"cmp"
	"fmt"
	"math"
	"time"

	"reskafka/internal/host"
	"reskafka/internal/kafka/client"
)

// minRequestBytes is the lowest learned limit, bytes.
const minRequestBytes = 32 << 10

// closesApart is the time after which a second close is no sign of a limit: brokers restart now and then. A
// limit shows within seconds, because a long request is repeated at once.
const closesApart = 10 * time.Minute

// Bytes of a produce request beside its batches: upper bounds over all versions of the protocol.
const (
	requestOverhead   = 64 // the header without the client's id, and the request's own fields
	partitionOverhead = 64 // the fields of a partition and of its topic, without the topic's name
)

// requestLimit is the producer's estimate of the longest produce request accepted by a broker. Some services
// close the connection on a longer request without an answer, so the limit is learned: each close after a
// large request halves the next request, and after a second close within closesApart the limit stays for the
// producer's lifetime. The producer's mtx guards all fields.
type requestLimit struct {
	bytes    int       // learned; 0 = request_max_bytes
	taken    int       // length of the longest answered request
	closedAt int       // length of the last request with a close; 0 = none, or a request as long was answered since
	trial    bool      // no request of a quarter of that length was answered since
	passed   int       // length of the longest request answered since
	closedOn time.Time // time of the last such close
	closes   int       // closes after a large request; requests sent before the last close belong to it
}

// max returns the limit of a request with several records.
func (l *requestLimit) max(configured int) int {
	most := cmp.Or(l.bytes, configured)
	if l.trial {
		most = min(most, max(l.closedAt/2, minRequestBytes))
	}
	return most
}

// pipelines reports whether a request of this size may be sent beside another one. Without an answered
// request of about this length the broker may close the connection, and each request in flight could count as
// another close.
func (l *requestLimit) pipelines(bytes, configured int) bool {
	return !l.trial && l.taken >= min(bytes, l.max(configured))/2
}

// answered books an answered request of this size.
func (l *requestLimit) answered(size int) {
	l.taken, l.passed = max(l.taken, size), max(l.passed, size)
	if size >= l.closedAt {
		l.closedAt = 0
	}
	if size >= l.closedAt/4 {
		l.trial = false
	}
}

// closed books a close of the connection on a request of this size, sent when l.closes was before. It reports
// whether the learned limit changed.
func (l *requestLimit) closed(size, before int, now time.Time) (learned bool) {
	if before < l.closes { // another request on the same connection
		if l.trial {
			l.closedAt = max(l.closedAt, size)
		}
		return false
	}
	l.closes++
	alone := l.closedAt == 0 || now.Sub(l.closedOn) >= closesApart
	l.closedOn = now
	if alone {
		l.closedAt, l.trial, l.passed = size, true, 0
		return false
	}
	half := l.closedAt / 2
	if size <= half { // the broker does not even take half
		l.bytes = size / 2
	} else { // half, or less if certain
		l.bytes = min(max(l.passed, half/2), half)
	}
	l.bytes = max(l.bytes, minRequestBytes)
	l.closedAt, l.trial = 0, false
	return true
}

// maxRequestBytes returns the limit of a broker's requests; nil = an unknown broker.
func (p *Producer) maxRequestBytes(n *node) int {
	if n == nil {
		return p.requestBytes
	}
	return n.limit.max(p.requestBytes)
}

// overhead is the partition's part of a request beside its batch.
func (part *partition) overhead() int { return partitionOverhead + len(part.topic.name) }

// maxBatchBytes is the limit of a new batch with several records: a request with this batch alone must stay
// within the broker's limit.
func (p *Producer) maxBatchBytes(part *partition) int {
	return max(min(p.batchBytes, p.maxRequestBytes(part.leader)-p.overhead-part.overhead()), 1)
}

// fit splits the first batch of a partition if it exceeds the broker's limit. A batch in doubt is repeated
// unchanged while the limit is uncertain: with idempotence the broker recognizes only the same batch.
func (p *Producer) fit(n *node, part *partition) {
	b := part.next()
	if part.flying > 0 || !p.exceeds(part, b) || n.limit.trial && p.idempotent && b.doubtful {
		return
	}
	p.cut(part, math.MaxInt, p.maxBatchBytes(part))
}

// exceeds reports whether a batch has to be split for the broker's limit.
func (p *Producer) exceeds(part *partition, b *recordBatch) bool {
	return len(b.records) > 1 && !b.intact && len(b.encoded) > p.maxBatchBytes(part)
}

// cutOff learns from a broker's close on a request. A single record above the limit proves nothing about
// shorter requests.
func (p *Producer) cutOff(f *flight, err error) (told []outcome) {
	if !client.ConnectionLost(err) || f.state.Load() != departed || f.size < client.LargeRequest ||
		f.single() && f.size > p.maxRequestBytes(f.node) {
		return nil
	}
	for _, c := range f.cargo {
		c.batch.intact = false
	}
	if !f.node.limit.closed(f.size, f.closes, p.now()) {
		return nil
	}
	why := client.SentenceOf(client.LimitLearned, fmt.Sprint(cmp.Or(f.wrote.Load(), int64(f.size))), fmt.Sprint(f.node.limit.bytes))
	return []outcome{p.outcomeToSay(func() { p.hooks.Log(host.Warning, p.hooks.AddressOf(f.node.id), why, "") })}
}
