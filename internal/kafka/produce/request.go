package produce

import (
	"errors"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/internal/host"
	"reskafka/internal/kafka/client"
)

// queue queues a request on the connection to its broker. flush writes the queue.
func (p *Producer) queue(n *node, f *flight) {
	if n.link == nil {
		n.link = p.links.To(n.id)
		if at, known := p.addresses[n.id]; known {
			n.link.Move(at.host, at.port, true)
		}
	}
	n.link.Queue(f)
	if !slices.Contains(p.unflushed, n.link) {
		p.unflushed = append(p.unflushed, n.link)
		p.flushes.Store(true)
	}
	if p.compression != nil && f.size > client.InlineBytes {
		go func() { // beside other requests
			defer host.Guard(p.log, "compressing records")
			f.pack()
		}()
	}
}

// flush writes the queued requests. Called without mtx, after each dispatch.
func (p *Producer) flush() {
	if !p.flushes.Load() {
		return
	}
	p.mtx.Lock()
	links := p.unflushed
	p.unflushed = nil
	p.flushes.Store(false)
	p.mtx.Unlock()
	for _, l := range links {
		l.Flush()
	}
}

// located stores the brokers' addresses from the cluster's list.
func (p *Producer) located(answer *kmsg.MetadataResponse) {
	if len(answer.Brokers) == 0 {
		return
	}
	p.links.SetCluster(answer.ClusterID)
	p.addresses = make(map[int32]address, len(answer.Brokers))
	for i := range answer.Brokers {
		b := &answer.Brokers[i]
		p.addresses[b.NodeID] = address{b.Host, b.Port}
	}
	for id, n := range p.nodes {
		if n.link != nil {
			at, listed := p.addresses[id]
			n.link.Move(at.host, at.port, listed)
		}
	}
}

// disconnected sends the requests in wait for a pause: the pause has ended with its connection.
func (p *Producer) disconnected() {
	defer host.Guard(p.log, "the end of a connection")
	p.mtx.Lock()
	p.dispatchAll()
	p.mtx.Unlock()
	p.flush()
}

// Size implements client.Request.
func (f *flight) Size() int { return f.size }

// errRecalled ends a flight recalled before its writing.
var errRecalled = errors.New("the request was recalled")

// Append implements client.Request. From here on a broker may have the records.
func (f *flight) Append(to *client.Parts, version int16, correlation int32) (err error) {
	p := f.producer
	defer func() {
		if r := recover(); r != nil {
			host.LogPanic(p.log, "writing a request", r)
			err = errDefect
			f.Unwritten()
		}
	}()
	if !f.state.CompareAndSwap(boarding, departed) {
		return errRecalled
	}
	f.pack()
	request := &produceRequest{}
	request.Version, request.Acks, request.TimeoutMillis = version, p.acks, int32(p.requestTimeout.Milliseconds())
	request.Topics = f.topics()
	from := to.Len()
	request.write(to, p.links.Format(), correlation)
	f.wrote.Store(int64(to.Len() - from))
	return nil
}

// topics returns the topics of the request with their batches.
func (f *flight) topics() (topics []kmsg.ProduceRequestTopic) {
	var at map[*topic]int
	i := 0
	for n, c := range f.cargo {
		t := c.partition.topic
		if n == 0 || t != f.cargo[n-1].partition.topic {
			var known bool
			if i, known = at[t]; !known {
				i = len(topics)
				one := kmsg.NewProduceRequestTopic()
				one.Topic, one.TopicID = t.name, c.topicID
				topics = append(topics, one)
				if at == nil {
					at = map[*topic]int{}
				}
				at[t] = i
			}
		}
		one := kmsg.NewProduceRequestTopicPartition()
		one.Partition, one.Records = c.partition.number, c.batch.wire
		topics[i].Partitions = append(topics[i].Partitions, one)
	}
	return topics
}

// pack compresses the batches, once. Several goroutines may call pack: all wait for the first.
func (f *flight) pack() {
	f.packed.Do(func() {
		records := 0
		for _, c := range f.cargo {
			c.batch.pack(f.producer.compression)
			records += len(c.batch.records)
		}
		if f.producer.debug.Enabled("msg") {
			f.producer.debug.Logf("msg", "%d record(s) for %d partition(s) go to broker %d", records, len(f.cargo), f.node.id)
		}
	})
}

// Unwritten implements client.Request: no broker has the records.
func (f *flight) Unwritten() { f.state.CompareAndSwap(departed, boarding) }

// Ended implements client.Request.
func (f *flight) Ended(version int16, body []byte, err error) {
	p, n := f.producer, f.node
	defer host.Guard(p.log, "carrying records")
	var answer *kmsg.ProduceResponse
	if err == nil {
		answer = kmsg.NewPtrProduceResponse()
		answer.Version = version
		if p.acks != 0 {
			err = answer.ReadFrom(body)
		}
	}
	switch {
	case err == nil && n.objected.Load() && n.objected.Swap(false):
		p.hooks.Recovered(n.about())
	case err != nil && err != errRecalled && p.hooks.ReportUnsent(n.about(), err):
		n.objected.Store(true)
	}
	f.packed.Do(func() {}) // no goroutine packs it after this
	p.deliver(p.landed(f, answer, err))
}
