package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"reskafka/internal/config"
	"reskafka/internal/console"
	kafka "reskafka/internal/kafka/client"
	"reskafka/internal/kafka/produce"
	"reskafka/internal/metrics"
	"reskafka/internal/outbox"
	"reskafka/internal/record"
)

// The engine implements the commands' environment.
var _ console.Env = (*Engine)(nil)

// Enabled implements console.Env.
func (e *Engine) Enabled() bool {
	e.mtx.Lock()
	defer e.mtx.Unlock()
	return e.config == nil || e.config.Enabled
}

// Now implements console.Env.
func (e *Engine) Now() time.Time { return time.Now() }

// inForce lists the connections of the configuration in force, in order.
func (e *Engine) inForce() []*connection {
	e.mtx.Lock()
	defer e.mtx.Unlock()
	if e.config == nil || !e.config.Enabled {
		return nil
	}
	var list []*connection
	for _, c := range e.config.Connections {
		list = append(list, e.byName[config.NameKey(c.Name)])
	}
	return list
}

// Connections implements console.Env.
func (e *Engine) Connections() []console.ConnectionStatus {
	var all []console.ConnectionStatus
	for _, c := range e.inForce() {
		if s, ok := c.snapshot(); ok {
			all = append(all, s)
		}
	}
	return all
}

// Connection implements console.Env.
func (e *Engine) Connection(name string) (console.ConnectionStatus, bool) {
	c, err := e.connection(name)
	if err != nil {
		return console.ConnectionStatus{}, false
	}
	return c.snapshot()
}

// LeftOut implements console.Env.
func (e *Engine) LeftOut(name string) (string, bool) {
	e.mtx.Lock()
	defer e.mtx.Unlock()
	if e.config == nil || !e.config.Enabled {
		return "", false
	}
	return e.config.Why(name)
}

// brokerStates describes a client's brokers, and adds the number of connected brokers to v.
func brokerStates(snap kafka.Snapshot, v *metrics.Values) []console.BrokerState {
	var states []console.BrokerState
	for _, b := range snap.Brokers {
		states = append(states, console.BrokerState{
			Address: b.Address, Connected: b.Connected, Connecting: b.Connecting, Idle: b.Idle, Unneeded: b.Unneeded,
			Since: b.Since, LastError: b.LastError.Text, Throttled: b.Throttled,
		})
	}
	snap.Collect(v)
	return states
}

// snapshot describes a connection. ok is false for a connection outside the configuration in force.
func (c *connection) snapshot() (s console.ConnectionStatus, ok bool) {
	settings := c.settings.Load()
	if settings == nil {
		return s, false
	}
	shown := *settings
	shown.SpoolDir = c.engine.spoolRoot(settings)
	s = console.ConnectionStatus{
		Name: c.name, Brokers: settings.BrokersText(), Settings: shown.Settings(), Numbers: metrics.Of(c.name),
	}
	c.mtx.Lock()
	box, status := c.outbox, c.status
	c.counts.Collect(s.Numbers)
	c.mtx.Unlock()
	if box == nil {
		return s, true
	}
	brokers := status.Snapshot()
	s.States, s.LastError = brokerStates(brokers, s.Numbers), brokers.LastError.Text
	s.Troubles = map[string]string{}
	for topic, trouble := range brokers.Topics {
		s.Troubles[topic] = trouble.Text
		s.Numbers.In(metrics.Topic, topic).AddTime(metrics.TopicBlockedSince, trouble.At)
	}
	c.collectRecords(box, s.Numbers)
	return s, true
}

// collectRecords adds the accounts of the topics to v, and the records still in the stage, without a topic
// yet.
func (c *connection) collectRecords(box *outbox.Outbox, v *metrics.Values) {
	// A record that leaves the stage between the two reads counts as staged: for a moment it counts twice,
	// never zero times.
	gate := c.gate.Load()
	handed := max(gate.Handed.Load(), gate.Follows.Load())
	c.engine.arrivals()
	box.Collect(v)
	if staged := uint64(max(gate.Admitted.Load()-handed, 0)); staged > 0 {
		v.Add(metrics.RecordsAccepted, staged)
		v.Add(metrics.RecordsWaiting, staged)
	}
}

// Arrivals sets a function for waits: after its return, all records that had left the stage were passed to
// Take. The engine calls wait from any goroutine. Arrivals must be called first.
func (e *Engine) Arrivals(wait func()) { e.arrivals = wait }

// TestSend implements console.Env: a record is sent through the connection's outbox, outside all accounts.
// The record expires after request_timeout_ms and is then no longer delivered. TestSend blocks until the
// expiry at most, or until ctx is done.
func (e *Engine) TestSend(ctx context.Context, name, topic, message string, key *string) error {
	box, settings, status, err := e.opened(name)
	if err != nil {
		return err
	}
	if err := sendable(settings, topic, message, key); err != nil {
		return err
	}
	answer := make(chan error, 1)
	test := record.Record{
		Topic: topic, Value: []byte(message), Accepted: time.Now(), Lifetime: settings.RequestTimeout, Probe: true, Charge: notStaged,
		Report: func(_ *record.Record, err error) { answer <- err },
	}
	if key != nil {
		test.Key = []byte(*key)
	}
	box.Accept([]record.Record{test})

	timeout := time.NewTimer(settings.RequestTimeout)
	defer timeout.Stop()
	select {
	case err := <-answer:
		// The record's expiry and the timer below are the same outcome, in either order.
		if !errors.Is(err, record.DroppedError(record.ReasonExpired)) {
			return err
		}
	case <-timeout.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	return fmt.Errorf("no broker acknowledged it within %d ms%s", settings.RequestTimeout.Milliseconds(), excuse(settings, status.Snapshot(), topic))
}

// excuse describes the probable obstacle to an acknowledgement: a recent failure of a broker, or a guess.
func excuse(settings *config.Connection, brokers kafka.Snapshot, topic string) string {
	last := brokers.LastError
	if last.Text != "" && time.Since(last.At) < settings.RequestTimeout+settings.ReconnectBackoffMax {
		if last.Broker == "" {
			return "; " + last.Text
		}
		return fmt.Sprintf("; broker %s: %s", last.Broker, last.Text)
	}
	if pending := brokers.Pending(); pending != "" {
		return "; " + pending
	}
	for _, b := range brokers.Brokers {
		if b.Connected {
			return fmt.Sprintf("; the brokers can be reached (is there a topic '%s', or may they create it?)", topic)
		}
	}
	return ""
}

// opened returns a connection's outbox, created if necessary, with its settings and status.
func (e *Engine) opened(name string) (*outbox.Outbox, *config.Connection, *kafka.Status, error) {
	e.configuring.Lock()
	defer e.configuring.Unlock()
	c, err := e.connection(name)
	if err == nil {
		err = c.open()
	}
	if err != nil {
		return nil, nil, nil, err
	}
	c.mtx.Lock()
	defer c.mtx.Unlock()
	return c.outbox, c.settings.Load(), c.status, nil
}

// sendable applies the rules of produce to a test message.
func sendable(settings *config.Connection, topic, message string, key *string) error {
	weight := produce.RecordOverhead + len(message)
	if key != nil {
		weight += len(*key)
	}
	if fault := config.TopicFault(topic); topic == "" {
		return errors.New(refusals[BadTopic].text)
	} else if fault != "" {
		return fmt.Errorf("the topic's name %s", fault)
	}
	if weight > settings.MessageMaxBytes {
		return fmt.Errorf("%d bytes are more than message_max_bytes (%d)", weight, settings.MessageMaxBytes)
	}
	return nil
}
