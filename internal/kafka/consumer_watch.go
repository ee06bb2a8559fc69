package kafka

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/internal/host"
)

// tick is how often the watchdog looks at a batch that takes long. It is what a callback may exceed max_poll_interval_ms
// by, and how old the marks may be that the periodic commit finds.
func (c *Consumer) tick() time.Duration { return min(c.maxPoll/8, time.Second) }

// look is the watchdog. It runs only while the module has a batch.
func (c *Consumer) look() {
	defer host.Guard(c.log, "the watch over callbacks")
	c.mtx.Lock()
	if c.out == nil || c.session == nil {
		c.mtx.Unlock()
		return
	}
	now, n := c.tune.now(), c.settle()
	if n > c.seen {
		c.seen, c.since = n, now
	}
	if now.Sub(c.since) < c.maxPoll {
		c.watch.Reset(c.tick())
		c.mtx.Unlock()
		return
	}
	s, where := c.session, "the thread that delivers has not come back"
	if n < c.out.count {
		topic, partition, record := c.out.at(n)
		where = fmt.Sprintf("the callback for topic %s partition %d offset %d is still running", topic, partition, record.Offset)
	}
	c.session, c.left, c.out, c.pending = nil, s, nil, nil
	c.renew = "the callback has returned"
	c.progress.Hurry(true) // the rest of the batch belongs to others now
	c.mtx.Unlock()
	host.Logf(c.log, host.Warning, "connection %s: %s after max_poll_interval_ms (%d ms): leaving group %s; "+
		"it is joined again when the callback returns", c.name, where, c.maxPoll.Milliseconds(), c.group)
	c.leave(s)
}

// rejoin starts a new session if the last was given up. The caller holds mtx, which is given up for as long as
// leaving takes.
func (c *Consumer) rejoin() {
	s := c.left
	if s == nil {
		return
	}
	c.mtx.Unlock()
	<-s.gone
	c.mtx.Lock()
	why := c.renew
	c.left, c.renew = nil, ""
	if c.closing {
		return
	}
	next, err := c.join()
	if err != nil { // the same options have worked before
		host.Logf(c.log, host.Error, "connection %s: group %s cannot be joined again: %s", c.name, c.group, err)
		return
	}
	c.session = next
	for topic := range c.paused {
		next.client.PauseFetchTopics(topic)
	}
	host.Logf(c.log, host.Notice, "connection %s: %s, joining group %s again", c.name, why, c.group)
}

// watchTopics looks for the topics subscribed to by name until the consumer ends.
func (c *Consumer) watchTopics() {
	defer host.Guard(c.log, "the watch for topics")
	names := slices.DeleteFunc(slices.Clone(c.topics), func(t string) bool { return strings.HasPrefix(t, "^") })
	if len(names) == 0 {
		return
	}
	missing, ids := map[string]bool{}, map[string][16]byte{}
	for {
		c.findTopics(names, missing, ids)
		wait := c.tune.known
		if len(missing) > 0 {
			wait = c.tune.missing
		}
		select {
		case <-c.life.Done():
			return
		case <-time.After(wait):
		}
	}
}

// findTopics asks for the topics and says which are missing. The client itself waits for a missing topic in silence, and
// for a deleted one even when there is another of its name.
func (c *Consumer) findTopics(names []string, missing map[string]bool, ids map[string][16]byte) {
	c.mtx.Lock()
	s := c.session
	c.mtx.Unlock()
	if s == nil {
		return
	}
	req := kmsg.NewPtrMetadataRequest()
	for _, name := range names {
		topic := kmsg.NewMetadataRequestTopic()
		topic.Topic = kmsg.StringPtr(name)
		req.Topics = append(req.Topics, topic)
	}
	ctx, cancel := context.WithCancel(c.life)
	defer cancel()
	resp, err := req.RequestWith(ctx, s.client)
	if err != nil {
		return // the broker cannot be reached, which hooks report
	}
	for _, topic := range resp.Topics {
		if topic.Topic == nil {
			continue
		}
		name := *topic.Topic
		if topic.ErrorCode == 0 {
			c.compare(name, ids[name], topic.TopicID)
			ids[name] = topic.TopicID
		}
		switch err := kerr.ErrorForCode(topic.ErrorCode); {
		case err == nil && missing[name]:
			delete(missing, name)
			s.client.ForceMetadataRefresh() // with patterns among the topics the client would look much later
			host.Logf(c.log, host.Notice, "connection %s: topic %s is there now", c.name, name)
		case err == nil:
		case UnknownTopic(err) && !missing[name]:
			missing[name] = true
			host.Logf(c.log, host.Warning, "connection %s: topic %s, which group %s subscribes to, does not exist; "+
				"it is consumed as soon as it does", c.name, name, c.group)
		case !kerr.IsRetriable(err):
			c.report(name, -1, err)
		}
	}
}

// compare begins a new session when a topic was deleted and created again: its offsets begin anew. Brokers before Kafka
// 2.8 give topics no id.
func (c *Consumer) compare(topic string, before, now [16]byte) {
	var none [16]byte
	if before == now || before == none || now == none {
		return
	}
	c.mtx.Lock()
	defer c.mtx.Unlock()
	if c.session != nil {
		c.renew = fmt.Sprintf("topic %s was deleted and created again", topic)
		c.changed()
	}
}
