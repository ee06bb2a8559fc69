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
	"reskafka/internal/record"
)

// client sends a connection's records through a produce.Producer, created by the first Send. The creation
// takes some 0.4 ms of a processor, mostly inside the library: requests for producers during Asterisk's start
// need not wait for it, and a connection without records needs no producer. client has every method of
// produce.Producer used by an outbox.
type client struct {
	connection *connection
	settings   *config.Connection
	status     *kafka.Status

	producer atomic.Pointer[produce.Producer] // nil = not made yet

	mtx      sync.Mutex // held during the creation
	over     bool       // closed or recalled before
	told     bool       // a failed creation was logged
	answered func(records []*record.Record, err error)
}

var (
	_ outbox.Transport = (*client)(nil)
	_ outbox.Transport = (*produce.Producer)(nil)
)

// newClient returns a client with these settings, or the obstacle to a client. newClient reads the TLS files
// and touches no network.
func (c *connection) newClient(settings *config.Connection) (*client, error) {
	if err := produce.CheckProducer(settings); err != nil {
		return nil, err
	}
	return &client{connection: c, settings: settings, status: &kafka.Status{}}, nil
}

// made returns the producer, or the reason for none.
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
	p.AnswerTo(c.answered)
	p.RememberBy(&identities{connection: c.connection, first: c.connection.produced.CompareAndSwap(false, true)})
	c.producer.Store(p)
	if c.told {
		host.Logf(c.connection.engine.log, host.Notice, "connection '%s': its client can be made again; records go", c.connection.name)
	}
	return p, nil
}

// tell logs, throttled, why the creation fails after a successful check: a TLS file has changed. Caller must
// hold mtx.
func (c *client) tell(err error) {
	c.told = true
	if _, ok := c.connection.engine.spools.Allow(throttleKey(c.connection.name, "client")); ok {
		host.Logf(c.connection.engine.log, host.Error, "%v; records wait", err)
	}
}

// before reports whether there is no producer yet; with over set, none will be created.
func (c *client) before(over bool) bool {
	c.mtx.Lock()
	defer c.mtx.Unlock()
	c.over = c.over || over
	return c.producer.Load() == nil
}

// Send implements outbox.Transport.
func (c *client) Send(records []*record.Record, deadline time.Time) {
	p, err := c.made()
	if err != nil {
		for i := range records { // of several topics
			c.answered(records[i:i+1], err)
		}
		return
	}
	p.Send(records, deadline)
}

// Permanent implements outbox.Transport: a missing client is never permanent.
func (c *client) Permanent(err error) (reason string, permanent bool) {
	if p := c.producer.Load(); p != nil {
		return p.Permanent(err)
	}
	return "", false
}

// AnswerTo implements outbox.Transport.
func (c *client) AnswerTo(answered func(records []*record.Record, err error)) { c.answered = answered }

// Far is produce.Producer's.
func (c *client) Far() bool {
	p := c.producer.Load()
	return p != nil && p.Far()
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
