package consume

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"reskafka/internal/host"
	"reskafka/internal/kafka/client"
)

// The client reports nothing about its own retries: refusals taken for temporary, answers without progress,
// open transactions. Therefore a partition without progress is compared with the broker's log from time to
// time, and probed if the log has more records.

const (
	progressLook   = 10 * time.Second // between two looks at all partitions
	progressStill  = 45 * time.Second // without a record, before a partition is compared: within a minute, with the look
	suspectBatches = 64               // read without a record reaching the consumer
	suspectStill   = time.Second
	fewPolls       = 3 // polls that drain the client's buffer of a partition
	maxRenewal     = time.Hour
)

// batchReads counts the batches of each partition read by the client since the last polled record. It is safe
// for concurrent use.
type batchReads struct {
	suspicious chan struct{} // capacity 1: a count is high

	mtx   sync.Mutex
	count map[topicPartition]int
}

func newBatchReads() *batchReads {
	return &batchReads{suspicious: make(chan struct{}, 1), count: map[topicPartition]int{}}
}

func (b *batchReads) add(where topicPartition) {
	b.mtx.Lock()
	defer b.mtx.Unlock()
	b.count[where]++
	if b.count[where]%suspectBatches == 0 {
		select {
		case b.suspicious <- struct{}{}:
		default:
		}
	}
}

func (b *batchReads) forget(where topicPartition) {
	b.mtx.Lock()
	defer b.mtx.Unlock()
	delete(b.count, where)
}

func (b *batchReads) high(where topicPartition) bool {
	b.mtx.Lock()
	defer b.mtx.Unlock()
	return b.count[where] >= suspectBatches
}

// OnFetchBatchRead implements kgo.HookFetchBatchRead.
func (h consumerHooks) OnFetchBatchRead(_ kgo.BrokerMetadata, topic string, partition int32, _ kgo.FetchBatchMetrics) {
	h.reads.add(topicPartition{topic, partition})
}

// watchProgress checks partitions without progress, until the end of the consumer.
func (c *Consumer) watchProgress() {
	defer host.Guard(c.log, "the watch for progress")
	for {
		select {
		case <-c.life.Done():
			return
		case <-c.reads.suspicious:
		case <-time.After(c.tune.progress):
		}
		c.compareStill()
		select { // however many batches are suspicious
		case <-c.life.Done():
			return
		case <-time.After(min(c.tune.progress, suspectStill)):
		}
	}
}

// still returns the partitions to compare with the broker's log. Partitions in busy wait for the module:
// unpolled records are in the client's buffer. The client fetches no more meanwhile, and does not learn the
// growing lag.
func (c *Consumer) still() (s *session, list []topicPartition, busy map[topicPartition]bool) {
	c.mtx.Lock()
	defer c.mtx.Unlock()
	s, now := c.session, c.tune.now()
	if s == nil || c.allPaused {
		return nil, nil, nil
	}
	buffered := s.client.BufferedFetchRecords() > 0
	busy = map[topicPartition]bool{}
	for where, p := range s.places {
		quiet := now.Sub(p.moved)
		_, stale := s.stale[where.topic]
		switch {
		case p.fault != nil, p.step != nil, stale, c.paused[where.topic]:
		case buffered && p.polls < fewPolls && (quiet < c.tune.still || now.Sub(p.looked) < c.tune.still):
		case buffered && p.polls < fewPolls:
			busy[where] = true
			p.looked = now
			list = append(list, where)
		case quiet >= c.tune.still && now.Sub(p.looked) >= c.tune.still,
			quiet >= suspectStill && now.Sub(p.looked) >= c.tune.progress && c.reads.high(where):
			p.looked = now
			list = append(list, where)
		}
	}
	return s, list, busy
}

// compareStill asks the brokers for the ends of partitions without progress. Partitions of silent brokers are
// left out.
func (c *Consumer) compareStill() {
	s, list, busy := c.still()
	c.misassigned(s, list)
	stable := c.logEnds(s, list, true)
	list = slices.DeleteFunc(list, func(where topicPartition) bool {
		_, known := stable[where]
		return !known
	})
	ends := c.logEnds(s, list, false)
	for _, where := range list {
		if end, known := ends[where]; known {
			c.compareOne(s, where, stable[where], end, busy[where])
		}
	}
}

// logEnds returns the ends of partitions with answers from their leaders within commitTime. Hooks report the
// other leaders.
func (c *Consumer) logEnds(s *session, list []topicPartition, committed bool) map[topicPartition]int64 {
	if len(list) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(s.life, c.commitTime)
	defer cancel()
	ends, _ := c.listOffsets(ctx, s.client, list, atLogEnd, committed)
	return ends
}

// compareOne handles the end of one partition. busy is as in still.
func (c *Consumer) compareOne(s *session, where topicPartition, stable, end int64, busy bool) {
	c.mtx.Lock()
	p := s.places[where]
	if c.session != s || p == nil || p.fault != nil {
		c.mtx.Unlock()
		return
	}
	p.stable, p.end = stable, end
	if busy {
		c.mtx.Unlock()
		return
	}
	if !p.begun {
		c.mtx.Unlock()
		c.stuck(s, where, "is not fetched, because its committed offset is not known")
		return
	}
	if p.next == unknownOffset { // consumption begins at the end, which is the end of the last finished transaction
		p.next = stable
	}
	next, warned, quiet := p.next, p.warned, c.tune.now().Sub(p.moved)
	long := quiet >= c.tune.still
	open := next >= stable && stable < end
	if long && open {
		p.warned = true
	}
	c.mtx.Unlock()
	switch {
	case open && long && !warned:
		c.say(host.Notice, where.String(), ": ", client.SentenceOf(client.OpenTransaction, fmt.Sprint(end-stable), fmt.Sprint(stable),
			quiet.Round(time.Second).String()), "")
	case next < stable:
		c.blockedPartition(s, where, long)
	}
}

// blockedPartition handles a partition with more records than the client returns.
func (c *Consumer) blockedPartition(s *session, where topicPartition, long bool) {
	found := c.probe(s, where)
	if found.unanswered { // a slow link may take longer for a large record than a probe waits
		return
	}
	if found.err != nil {
		c.hold(s, where, found.err)
		return
	}
	c.mtx.Lock()
	p := s.places[where]
	var left, next int64
	if p != nil {
		next = max(p.next, 0)
		left = p.stable - next
	}
	tell := long && found.records && p != nil && !p.warned && c.tune.now().Sub(p.moved) >= c.tune.still
	if tell {
		p.warned = true
	}
	c.mtx.Unlock()
	if tell {
		c.say(host.Warning, where.String(), ": ", client.SentenceOf(client.NotFetched, c.tune.still.String(), fmt.Sprint(left), fmt.Sprint(next)),
			"; trying again")
	}
	if found.records {
		c.stuck(s, where, "is not fetched although its leader has more records")
	}
}

// misassigned begins a new session if the group has assigned a partition that is unknown to the brokers.
func (c *Consumer) misassigned(s *session, list []topicPartition) {
	for _, where := range list {
		if leader, _, err := s.client.PartitionLeader(where.topic, where.partition); err == nil && leader < 0 {
			c.stuck(s, where, "is assigned and does not exist")
		}
	}
}

// stuck begins a new session if a partition has made no progress for tune.stuck. The client's state of the
// partition is then wrong: a damaged answer assigned the partition, or its committed offset was refused, and
// the client never fetches it again. A new session stops the whole group for a moment, so each new session
// doubles the time until the next.
func (c *Consumer) stuck(s *session, where topicPartition, why string) {
	c.mtx.Lock()
	defer c.mtx.Unlock()
	p, now := s.places[where], c.tune.now()
	if c.session != s || p == nil || c.renew != "" || now.Sub(p.moved) < c.tune.stuck || now.Before(c.renewable) {
		return
	}
	if now.Sub(c.renewable) > maxRenewal {
		c.renewal = 0
	}
	c.renewal = client.Clamp(2*c.renewal, c.tune.stuck, maxRenewal)
	c.renewable = now.Add(c.renewal)
	c.renew = where.String() + " " + why
	c.changed()
}
