package engine

import "time"

// Offer is what a connection of the configuration in force can be used for.
type Offer struct {
	Name               string
	Produces, Consumes bool
	RequestTimeout     time.Duration
}

// Offers lists the connections of the configuration in force, in its order. A disabled configuration has none.
func (e *Engine) Offers() []Offer {
	var all []Offer
	for _, c := range e.inForce() {
		if s := c.settings.Load(); s != nil {
			all = append(all, Offer{c.name, s.NoProducer == "", s.GroupID != "" && s.NoConsumer == "", s.RequestTimeout})
		}
	}
	return all
}
