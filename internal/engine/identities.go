package engine

import "reskafka/internal/kafka/produce"

// identities stores the identity of a connection's producer in the gate; the gate outlives the engine.
// Implements produce.Identities.
type identities struct {
	connection *connection
	first      bool // the producer is the first of this engine, and may continue a dead producer's identity
}

// Last implements produce.Identities.
func (i *identities) Last() (produce.Identity, bool) {
	gate := i.connection.stored.Load()
	if gate == nil || !i.first {
		return produce.Identity{}, false
	}
	id, epoch, cluster, ok := gate.Producer()
	return produce.Identity{ID: id, Epoch: epoch, Cluster: cluster}, ok
}

// Keep implements produce.Identities.
func (i *identities) Keep(identity produce.Identity) {
	if gate := i.connection.stored.Load(); gate != nil {
		gate.SetProducer(identity.ID, identity.Epoch, identity.Cluster)
	}
}
