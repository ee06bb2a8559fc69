package engine

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"reskafka/internal/config"
	"reskafka/internal/host"
	"reskafka/internal/kafka"
	"reskafka/internal/outbox"
)

// connection is a name of kafka.conf, for as long as the engine runs: handles outside name it, and the client behind
// it comes and goes with the configuration. A connection that a reload removed keeps delivering what it has accepted
// and takes nothing more, until a later reload brings it back.
type connection struct {
	engine *Engine
	id     uint64
	name   string

	settings atomic.Pointer[config.Connection] // nil = not in the configuration in force
	gate     atomic.Pointer[Gate]              // one of its own until a stage brings one

	mtx     sync.Mutex // guards what follows and the making of the outbox; never held over a call that waits
	outbox  *outbox.Outbox
	status  *kafka.Status
	refused map[string]uint64 // calls to produce that were refused, by reason
	broken  uint64            // frames that could not be read or encoded
}

// How long a reload lets the old client of a changed connection finish what it has under way.
const swapPatience = 5 * time.Second

// How much longer than the largest message a frame may be: its topic, and the lengths that go with its parts. The
// exact limit is the weight, which writers check first.
const frameAllowance = 64 << 10

// open makes the client and the outbox if there are none yet. The mutex is held.
func (c *connection) open() error {
	if c.outbox != nil {
		return nil
	}
	settings := c.settings.Load()
	if settings == nil {
		return ErrNotFound
	}
	status := &kafka.Status{}
	producer, err := kafka.NewProducer(settings, c.engine.log, status)
	if err != nil {
		return err
	}
	c.status = status
	c.outbox = outbox.New(outboxSettings(settings, producer), producer, c, c)
	return nil
}

// box is the connection's outbox, or nil. Once there is one it stays the same.
func (c *connection) box() *outbox.Outbox {
	c.mtx.Lock()
	defer c.mtx.Unlock()
	return c.outbox
}

// bind makes gate the connection's gate and opens it.
func (c *connection) bind(gate *Gate) error {
	c.mtx.Lock()
	defer c.mtx.Unlock()
	if err := c.open(); err != nil {
		return err
	}
	c.gate.Store(gate)
	c.setGate(c.settings.Load())
	return nil
}

// setGate tells the stage its limits. The mutex is held.
func (c *connection) setGate(settings *config.Connection) {
	gate := c.gate.Load()
	if settings == nil {
		gate.Open.Store(0)
		return
	}
	gate.MaxFrames.Store(int64(settings.QueueMaxMessages))
	gate.MaxCharge.Store(int64(settings.QueueMaxKbytes) * 1024)
	gate.MaxWeight.Store(int64(settings.MessageMaxBytes))
	gate.MaxLength.Store(int64(settings.MessageMaxBytes) + frameAllowance)
	gate.LingerNS.Store(int64(settings.Linger))
	gate.Open.Store(1)
}

// Release implements outbox.Gate.
func (c *connection) Release(records, charge int64) {
	c.gate.Load().Release(records, charge)
}

// Dropped implements outbox.Observer.
func (c *connection) Dropped(topic, reason string, records int, err error) {
	suppressed, ok := c.engine.dropped.AllowN(c.name+"\x00"+topic+"\x00"+reason, records)
	if !ok {
		return
	}
	cause := ""
	if err != nil {
		cause = ": " + err.Error()
	}
	host.Logf(c.engine.log, host.Error, "connection '%s': %d record(s) for topic '%s' dropped, %s%s", c.name, records+suppressed, topic, reason, cause)
}

// stop delivers for as long as it may, then closes. It returns when the client is gone.
func (c *connection) stop(over <-chan struct{}) {
	c.gate.Load().Open.Store(0)
	if box := c.box(); box != nil {
		box.Drain(over)
		box.Close()
	}
}

// outboxSettings are the options that the outbox obeys.
func outboxSettings(c *config.Connection, p *kafka.Producer) outbox.Settings {
	records, bytes := p.Window()
	return outbox.Settings{
		Timeout:       c.MessageTimeout,
		WindowRecords: records,
		WindowBytes:   bytes,
		Backoff:       c.ReconnectBackoff,
		BackoffMax:    c.ReconnectBackoffMax,
	}
}

// change is what a reload does to one connection: everything that can fail has been done.
type change struct {
	connection *connection
	settings   *config.Connection // nil = removed
	producer   *kafka.Producer    // nil = the client stays, or there never was one
	status     *kafka.Status
}

// prepare makes the clients that a configuration needs in place of others. On an error nothing has changed.
func prepare(known []*connection, wanted map[string]*config.Connection, log host.Logger) ([]change, error) {
	var changes []change
	var failed []error
	for _, c := range known {
		ch := change{connection: c, settings: wanted[c.name]}
		if old := c.settings.Load(); ch.settings != nil && (old == nil || len(old.Changed(ch.settings)) > 0) {
			if c.box() != nil {
				var err error
				ch.status = &kafka.Status{}
				if ch.producer, err = kafka.NewProducer(ch.settings, log, ch.status); err != nil {
					failed = append(failed, fmt.Errorf("[%s]: %w", c.name, err))
				}
			}
		}
		changes = append(changes, ch)
	}
	if failed == nil {
		return changes, nil
	}
	for _, ch := range changes {
		if ch.producer != nil {
			ch.producer.Close()
		}
	}
	return nil, errors.Join(failed...)
}

// apply puts the change in force.
func (ch change) apply() {
	c := ch.connection
	c.mtx.Lock()
	defer c.mtx.Unlock()
	c.settings.Store(ch.settings)
	if c.outbox == nil {
		return
	}
	if ch.producer != nil {
		c.status = ch.status
		c.outbox.Swap(ch.producer, outboxSettings(ch.settings, ch.producer), swapPatience)
	}
	c.setGate(ch.settings)
}
