package produce

import (
	"cmp"
	"fmt"
	"math"
	"time"

	"reskafka/internal/host"
	"reskafka/internal/kafka/client"
)

// minRequestBytes is the least limit that is learned, bytes.
const minRequestBytes = 32 << 10

// closesApart is how long after another one the end of a connection is no sign of a limit: brokers are restarted now and then. A
// limit shows within seconds, because a long request is sent again at once.
const closesApart = 10 * time.Minute

// What a produce request has beside its batches, in bytes: upper bounds over all versions of the protocol.
const (
	requestOverhead   = 64 // the header without the client's id, and the request's own fields
	partitionOverhead = 64 // the fields of a partition and of its topic, without the topic's name
)

// requestLimit is what a producer knows of the longest produce request that a broker takes. Some services close the connection on
// a longer one without an answer, so the limit is learned: each close after a large request halves the next request, and after
// a second one within closesApart the limit stays for the producer's lifetime. The producer's mtx guards it.
type requestLimit struct {
	bytes    int       // learned; 0 = request_max_bytes
	taken    int       // length of the longest request that was answered
	closedAt int       // length of the request after which the broker closed the connection; 0 = none, or it has answered one as long since
	trial    bool      // no request of a quarter of that length was answered since
	passed   int       // length of the longest request that was answered since
	closedOn time.Time // when the broker last did that
	closes   int       // connections closed after a large request; requests sent earlier than the last close are part of it
}

// max is the longest request that the broker is sent, if it has more than one record.
func (l *requestLimit) max(configured int) int {
	most := cmp.Or(l.bytes, configured)
	if l.trial {
		most = min(most, max(l.closedAt/2, minRequestBytes))
	}
	return most
}

// pipelines reports whether a request with so many bytes may be sent beside another one. A broker that never answered one of about
// this length may close the connection, and each request under way could make another one that it closes.
func (l *requestLimit) pipelines(bytes, configured int) bool {
	return !l.trial && l.taken >= min(bytes, l.max(configured))/2
}

// answered notes that the broker answered a request of so many bytes.
func (l *requestLimit) answered(size int) {
	l.taken, l.passed = max(l.taken, size), max(l.passed, size)
	if size >= l.closedAt {
		l.closedAt = 0
	}
	if size >= l.closedAt/4 {
		l.trial = false
	}
}

// closed notes that the broker closed the connection now on a request of so many bytes, which was sent when l.closes was before. It
// reports whether the learned limit changed.
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
	} else { // it takes half, or less than that is certain
		l.bytes = min(max(l.passed, half/2), half)
	}
	l.bytes = max(l.bytes, minRequestBytes)
	l.closedAt, l.trial = 0, false
	return true
}

// maxRequestBytes is the longest request that a broker is sent; nil = a broker that is not known yet.
func (p *Producer) maxRequestBytes(n *node) int {
	if n == nil {
		return p.requestBytes
	}
	return n.limit.max(p.requestBytes)
}

// overhead is what the partition adds to a request beside its batch.
func (part *partition) overhead() int { return partitionOverhead + len(part.topic.name) }

// maxBatchBytes is the most bytes that a new batch of the partition has, if it has more than one record: a request with nothing
// else in it must stay within the broker's limit.
func (p *Producer) maxBatchBytes(part *partition) int {
	return max(min(p.batchBytes, p.maxRequestBytes(part.leader)-p.overhead-part.overhead()), 1)
}

// fit splits the first batch of a partition if the broker takes no request with it. A batch in doubt is sent once more as it is
// while the limit is not certain: with idempotence the broker recognizes only the same batch.
func (p *Producer) fit(n *node, part *partition) {
	b, most := part.queue[0], p.maxBatchBytes(part)
	if len(b.records) == 1 || len(b.encoded) <= most || b.intact || n.limit.trial && p.idempotent && b.doubtful {
		return
	}
	p.cut(part, math.MaxInt, most)
}

// cutOff learns from a connection that the broker closed on a request. A record that is longer than the limit by itself proves
// nothing about shorter requests.
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
