package engine

import (
	"sync"
	"sync/atomic"
	"time"

	"reskafka/internal/config"
	"reskafka/internal/host"
	kafka "reskafka/internal/kafka/client"
	"reskafka/internal/kafka/produce"
	"reskafka/internal/outbox"
)

// client carries a connection's records with a produce.Producer that the first Send makes. To make one takes some 0.4 ms of a
// processor, most of it inside the library, which whoever asks for producers while Asterisk starts need not wait for; and a
// connection that nothing is produced on needs none. It has every method of produce.Producer that an outbox looks for.
type client struct {
	connection *connection
	settings   *config.Connection
	status     *kafka.Status

	producer atomic.Pointer[produce.Producer] // nil = not made yet

	mtx         sync.Mutex // held while it is made
	over        bool       // closed or recalled before
	told        bool       // the log says that it cannot be made
	acknowledge func(records []*outbox.Record)
}

var _ outbox.Transport = (*client)(nil)

// newClient returns a client with those settings, or says what keeps one from being made. It reads the TLS files and touches
// no network.
func (c *connection) newClient(settings *config.Connection) (*client, error) {
	if err := produce.CheckProducer(settings); err != nil {
		return nil, err
	}
	return &client{connection: c, settings: settings, status: &kafka.Status{}}, nil
}

// made gives the producer, or why there is none.
func (c *client) made() (*produce.Producer, error) {
	if p := c.producer.Load(); p != nil {
		return p, nil
	}
	c.mtx.Lock()
	defer c.mtx.Unlock()
	if p := c.producer.Load(); p != nil {
		return p, nil
	}
	if c.over {
		return nil, produce.ErrClosed
	}
	p, err := produce.NewProducer(c.settings, c.connection.engine.log, c.status)
	if err != nil {
		c.tell(err)
		return nil, err
	}
	if c.acknowledge != nil {
		p.AcknowledgeBy(c.acknowledge)
	}
	c.producer.Store(p)
	if c.told {
		host.Logf(c.connection.engine.log, host.Notice, "connection '%s': its client can be made again; records go", c.connection.name)
	}
	return p, nil
}

// tell logs, throttled, why no producer can be made of what was found to be in order before: a TLS file is not what it was. The
// caller holds mtx.
func (c *client) tell(err error) {
	c.told = true
	if _, ok := c.connection.engine.spools.Allow(throttleKey(c.connection.name, "client")); ok {
		host.Logf(c.connection.engine.log, host.Error, "%v; records wait", err)
	}
}

// before says whether there is no producer, and with over that there will be none.
func (c *client) before(over bool) bool {
	c.mtx.Lock()
	defer c.mtx.Unlock()
	c.over = c.over || over
	return c.producer.Load() == nil
}

// Send implements outbox.Transport.
func (c *client) Send(records []*outbox.Record, deadline time.Time, done func(*outbox.Record, error)) {
	p, err := c.made()
	if err != nil {
		for _, r := range records {
			done(r, err)
		}
		return
	}
	p.Send(records, deadline, done)
}

// Permanent implements outbox.Transport: that there is no client never is.
func (c *client) Permanent(err error) (reason string, permanent bool) {
	if p := c.producer.Load(); p != nil {
		return p.Permanent(err)
	}
	return "", false
}

// AcknowledgeBy is produce.Producer's.
func (c *client) AcknowledgeBy(acknowledge func(records []*outbox.Record)) {
	c.mtx.Lock()
	defer c.mtx.Unlock()
	c.acknowledge = acknowledge
	if p := c.producer.Load(); p != nil {
		p.AcknowledgeBy(acknowledge)
	}
}

// Recall is produce.Producer's.
func (c *client) Recall() {
	if !c.before(true) {
		c.producer.Load().Recall()
	}
}

// Close implements outbox.Transport.
func (c *client) Close() {
	if !c.before(true) {
		c.producer.Load().Close()
	}
}

// CloseWithin is produce.Producer's.
func (c *client) CloseWithin(limit time.Duration) {
	if !c.before(true) {
		c.producer.Load().CloseWithin(limit)
	}
}
