package engine

import (
	"time"

	"reskafka/internal/kafka/consume"
)

// Offer is a connection of the present configuration and its uses.
type Offer struct {
	Name           string
	NoProducer     string // why there is no producer; empty = there is a producer
	NoConsumer     string // why there is no consumer; empty = there is a consumer
	RequestTimeout time.Duration
	MessagesMax    int    // most bytes of one batch of messages
	Limits         Limits // of a gate opened now
}

// Offers lists the connections of the configuration in force, in order, and then the connections left out.
// otherwise is the reason why no other name has a producer or a consumer.
func (e *Engine) Offers() (all []Offer, otherwise string) {
	for _, c := range e.inForce() {
		if s := c.settings.Load(); s != nil {
			all = append(all, Offer{c.name, s.NoProducer, noConsumer(s), s.RequestTimeout, consume.BatchMax(s), c.limits(s)})
		}
	}
	e.mtx.Lock()
	defer e.mtx.Unlock()
	if e.config != nil && !e.config.Enabled {
		return nil, disabled
	}
	if e.config != nil {
		for _, l := range e.config.LeftOut {
			why := leftOut + l.Why
			all = append(all, Offer{Name: l.Name, NoProducer: why, NoConsumer: why})
		}
	}
	return all, unknown
}

// Sentences about unusable connections.
const (
	disabled = "Kafka is disabled (enabled = no in section [general] of kafka.conf)"
	unknown  = "kafka.conf has no such section of type = connection"
	leftOut  = "it is left out, "
)
