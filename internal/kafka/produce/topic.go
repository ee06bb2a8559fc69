package produce

import (
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/internal/host"
	"reskafka/internal/kafka/client"
	"reskafka/internal/record"
)

// A partition missing in the answers is given up after surplusTime and at least minFewer answers with fewer
// partitions.
const (
	surplusTime = 5 * time.Second
	minFewer    = 3
)

// topic is the producer's state of a topic, with its records. The producer's mtx guards topics, partitions
// and nodes.
type topic struct {
	name        string
	id          [16]byte
	partitions  []*partition
	usable      []int32 // the partitions with a leader, ascending
	partitioner *consistentRandom
	arrivals    []arrival // records in wait for the topic's partitions

	asked   time.Time // when the brokers last told of the topic
	ask     bool      // a request for metadata is due
	askNext time.Time // but not before
	unknown int       // consecutive answers without the topic

	objected   atomic.Bool // a trouble was logged and has not gone
	fewer      int         // consecutive answers with fewer partitions than known
	fewerSince time.Time   // time of the first of these answers
	gone       error       // the brokers have not known the topic for unknownTopicTime, which is still to be logged

	trouble  error // the reason in the brokers' last answer for the wait of its records; nil = no reason
	troubles int   // and how often in a row

	returning int // hand-backs with running reports: no record may enter meanwhile, to keep the order
}

// arrival is a record without a partition.
type arrival struct {
	record   *record.Record
	deadline time.Time // zero = none
}

// partition is the state of one partition. The first batches of the queue are in flight. After a failure no
// further batch leaves until all of them have landed, and then the first goes alone: pipeline.go. No batch
// therefore overtakes another, in any outcome.
type partition struct {
	topic  *topic
	number int32
	leader *node // nil = unknown

	queue    []*recordBatch
	bytes    int       // of the batches that are not in flight
	flying   int       // batches in flight
	aboard   *node     // the broker of the last flight,
	departed time.Time // and the time of its load
	failed   bool      // a batch failed since the last settle
	open     bool      // the last batch was acknowledged,
	openAs   identity  // with this identity
	listed   *node     // the broker with this partition in its ready list
	resume   time.Time
	pausing  bool // the partition is in the producer's list of pausing ones
	refused  int  // how often in a row the first of the queue was

	identity  identity // the identity in use for this partition; zero = none,
	following int32    // the sequence number of the next batch,
	acked     int32    // and the number behind the last acknowledged batch
}

// node is a broker with partitions to lead.
type node struct {
	id         int32
	link       *client.Link // nil = before its first request
	ready      []*partition // with a batch ready to go
	bytes      int          // of their queues
	flights    int
	departed   time.Time     // the time of the last load
	answerTime time.Duration // the usual time between load and answer,
	leastTime  time.Duration // and the least; 0 = no answer yet
	resume     time.Time     // after a failed connection; zero = none
	paused     *client.Conn  // the connection with the pause until resume; nil = none

	failures int // consecutive failures of written requests
	limit    requestLimit

	longest  int // length of the longest answered request, bytes on the wire
	overlong int // length of the shortest request with a record refused for its length; 0 = none
	failed   int // failed requests, except those with a suspected record alone

	alone bool // a flight tests a suspected record, and no other may be under way

	objected atomic.Bool // the log has the obstacle to any request
}

// address is where a broker is.
type address struct {
	host string
	port int32
}

// about is the subject of log lines about a node's obstacle.
func (n *node) about() string { return fmt.Sprintf("sending to broker %d", n.id) }

// wantMetadata requests a topic's metadata, at once unless the last request was recent.
func (p *Producer) wantMetadata(t *topic) {
	t.ask = true
	if !p.learning {
		p.learning = true
		go p.learn()
		return
	}
	select {
	case p.askNow <- struct{}{}:
	default:
	}
}

// learn asks the brokers about topics until nothing is left to ask.
func (p *Producer) learn() {
	failures := 0
	for {
		topics, wait, more := p.toAsk()
		switch {
		case !more:
			return
		case len(topics) == 0:
			p.pause(wait, p.askNow)
		case p.askAbout(topics):
			failures = 0
		default:
			failures++
			p.askAgain(topics, p.backoff(failures))
		}
	}
}

// askAbout asks the brokers about topics once. ok = false: there was no answer.
func (p *Producer) askAbout(topics []*topic) (ok bool) {
	defer host.Guard(p.log, "learning of topics")
	request := kmsg.NewPtrMetadataRequest()
	request.AllowAutoTopicCreation = true
	for _, t := range topics {
		one := kmsg.NewMetadataRequestTopic()
		one.Topic = &t.name
		request.Topics = append(request.Topics, one)
	}
	asked := p.now()
	answer, err := request.RequestWith(p.ctx, p.client)
	if err != nil {
		p.debug.Logf("metadata", "asking for %d topic(s): %v", len(topics), err)
		p.hooks.ReportUnsent(client.AskingForTopics, err)
		return false
	}
	p.hooks.Recovered(client.AskingForTopics)
	p.hooks.SetCluster(answer)
	p.maybeFar(p.now().Sub(asked))
	p.deliver(p.learned(topics, answer))
	p.tellOfTrouble(topics)
	return true
}

// troubled finds a partition with records in wait for a leader, or refused by the leader.
func (t *topic) troubled() {
	for _, part := range t.partitions {
		switch {
		case len(part.queue) == 0:
		case part.leader == nil:
			t.trouble = client.WithSentence(kerr.LeaderNotAvailable, client.Leaderless, fmt.Sprint(part.number))
			t.troubles++
			return
		case part.refused > 0:
			t.trouble, t.troubles = part.queue[0].refusal, part.refused
			return
		}
	}
	t.trouble, t.troubles = nil, 0
}

// tellOfTrouble logs topics with records in wait because of the brokers' answers.
func (p *Producer) tellOfTrouble(topics []*topic) {
	for _, t := range topics {
		p.mtx.Lock()
		trouble := t.trouble
		if t.troubles < passing && (kerr.IsRetriable(trouble) || len(t.partitions) > 0) || !t.holds() {
			trouble = nil
		}
		if t.gone != nil { // its records are handed back
			trouble, t.gone = t.gone, nil
		}
		p.mtx.Unlock()
		if trouble != nil {
			t.objected.Store(true)
			p.hooks.Report(t.about(), trouble)
		}
	}
}

// about is the subject of log lines about the topic.
func (t *topic) about() string { return client.AboutTopic + t.name }

// toAsk returns the topics due for a metadata request, or the wait until the first. more = false: there are
// none, and learn has ended.
func (p *Producer) toAsk() (topics []*topic, wait time.Duration, more bool) {
	p.mtx.Lock()
	defer p.mtx.Unlock()
	now, next := p.now(), time.Time{}
	for _, t := range p.topics {
		switch {
		case !t.ask:
		case !now.Before(t.askNext):
			topics = append(topics, t)
			t.ask, t.askNext = false, now.Add(client.MetadataMinAge)
		case next.IsZero() || t.askNext.Before(next):
			next = t.askNext
		}
	}
	if p.closed || len(topics) == 0 && next.IsZero() {
		p.learning = false
		return nil, 0, false
	}
	return topics, next.Sub(now), true
}

// askAgain is for topics about which no broker could be asked.
func (p *Producer) askAgain(topics []*topic, wait time.Duration) {
	p.mtx.Lock()
	defer p.mtx.Unlock()
	for _, t := range topics {
		t.ask, t.askNext = true, p.now().Add(wait)
	}
}

// learned takes the brokers' answer about topics.
func (p *Producer) learned(topics []*topic, answer *kmsg.MetadataResponse) (ended []outcome) {
	p.mtx.Lock()
	defer p.mtx.Unlock()
	if p.closed {
		return nil
	}
	p.located(answer)
	now := p.now()
	told := make(map[string]*kmsg.MetadataResponseTopic, len(answer.Topics))
	for i := range answer.Topics {
		if name := answer.Topics[i].Topic; name != nil {
			told[*name] = &answer.Topics[i]
		}
	}
	for _, t := range topics {
		said := told[t.name]
		if said == nil {
			said = &kmsg.MetadataResponseTopic{ErrorCode: kerr.LeaderNotAvailable.Code}
		}
		switch err := client.AnswerOf(said.ErrorCode, nil, client.ToProduce); {
		case client.UnknownTopic(err):
			ended = append(ended, p.notKnown(t, err)...)
		case err == nil && len(said.Partitions) == 0:
			p.debug.Logf("topic", "topic %s has no partitions", t.name)
			ended = append(ended, p.notUsable(t, client.WithSentence(kerr.LeaderNotAvailable, client.NoPartitions))...)
		case err != nil && len(said.Partitions) == 0:
			p.debug.Logf("topic", "topic %s: %v", t.name, err)
			ended = append(ended, p.notUsable(t, err)...)
		default:
			ended = append(ended, p.known(t, said, now)...)
		}
	}
	p.dispatchAll()
	return ended
}

// notKnown handles a topic missing at the brokers: after some time its records are handed back.
func (p *Producer) notKnown(t *topic, err error) []outcome {
	t.unknown++
	if t.unknown > p.unknownRetries {
		t.unknown = 0
		if t.holds() {
			t.gone = err
		}
		return p.handBackAll(t, err)
	}
	if t.holds() {
		p.wantMetadata(t)
	}
	return nil
}

// notUsable handles an error in place of a topic's metadata.
func (p *Producer) notUsable(t *topic, err error) []outcome {
	if _, final := p.Permanent(err); final {
		return p.handBackAll(t, err)
	}
	if client.IsVerdict(err, client.OnTopic) {
		return p.refusedTopic(t, err)
	}
	t.trouble = err
	t.troubles++
	if t.holds() {
		p.wantMetadata(t)
	}
	return nil
}

// holds reports whether the topic has records.
func (t *topic) holds() bool {
	return len(t.arrivals) > 0 || slices.ContainsFunc(t.partitions, func(part *partition) bool { return len(part.queue) > 0 })
}

// known takes over a topic's metadata.
func (p *Producer) known(t *topic, said *kmsg.MetadataResponseTopic, now time.Time) (ended []outcome) {
	count := len(said.Partitions) // partition numbers have no gaps
	if same := t.id != [16]byte{} && said.TopicID == t.id; same && count < len(t.partitions) && !t.lost(now) {
		count = len(t.partitions)
		if t.holds() {
			p.wantMetadata(t)
		}
	}
	if len(said.Partitions) >= len(t.partitions) || count < len(t.partitions) {
		t.fewer = 0
	}
	if said.TopicID != [16]byte{} {
		t.id = said.TopicID
	}
	t.asked, t.unknown = now, 0
	missing := client.AnswerTo(client.ToProduce, kerr.UnknownTopicOrPartition)
	for _, gone := range t.partitions[min(count, len(t.partitions)):] { // deleted and created again with fewer
		gone.leader = nil
		gone.unsend(0)
		p.dropIdentity() // a later partition of this number counts from the beginning
		ended = append(ended, p.handBack(gone, 0, missing, missing)...)
	}
	t.partitions = t.partitions[:min(count, len(t.partitions))]
	for number := len(t.partitions); number < count; number++ {
		t.partitions = append(t.partitions, &partition{topic: t, number: int32(number)})
	}
	t.usable = t.usable[:0]
	for i := range said.Partitions {
		if one := &said.Partitions[i]; one.Partition >= 0 && int(one.Partition) < count {
			p.led(t.partitions[one.Partition], one.Leader)
		}
	}
	for _, part := range t.partitions {
		if part.leader != nil {
			t.usable = append(t.usable, part.number)
		} else if len(part.queue) > 0 { // in flight too: the batches behind it have no broker
			p.wantMetadata(t)
		}
	}
	t.troubled()
	p.debug.Logf("topic", "topic %s has %d partition(s), of which %d have a leader", t.name, len(t.partitions), len(t.usable))
	if len(t.usable) == 0 {
		if len(t.arrivals) > 0 {
			p.wantMetadata(t)
		}
		return ended
	}
	arrivals := t.arrivals
	t.arrivals = nil
	for i := range arrivals {
		a := &arrivals[i]
		p.expireBy(a.deadline)
		if !p.place(t, a) {
			ended = append(ended, p.outcomeOfOne(*a, errHeldBack))
		}
	}
	return ended
}

// lost reports whether a topic has fewer partitions than known. A topic never loses partitions, so a broker
// with fewer usually lags behind; but an earlier answer may have listed a partition in error.
func (t *topic) lost(now time.Time) bool {
	if t.fewer == 0 {
		t.fewerSince = now
	}
	t.fewer++
	return t.fewer >= minFewer && now.Sub(t.fewerSince) >= surplusTime
}

// led notes a partition's leader; below 0 there is none.
func (p *Producer) led(part *partition, id int32) {
	var leader *node
	if id >= 0 {
		if leader = p.nodes[id]; leader == nil {
			leader = &node{id: id}
			p.nodes[id] = leader
		}
	}
	if leader == part.leader {
		return
	}
	part.leader = leader
	part.unlist()
	part.resume = time.Time{} // another broker's refusal is no reason to wait
	p.offer(part)
}
