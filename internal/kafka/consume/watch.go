package consume

import (
	"fmt"
	"time"

	"reskafka/internal/host"
)

// tick is the watchdog's interval for a long batch: the most that a callback may exceed max_poll_interval_ms,
// and the greatest age of the marks at a periodic commit.
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
	c.observeLocked(n)
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
	c.progress.Hurry(true) // the rest of the batch belongs to other members now
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
