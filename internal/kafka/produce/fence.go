package produce

import (
	"hash/fnv"
	"math"

	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/internal/kafka/client"
)

// Identity is a producer id with an epoch and the cluster of origin.
type Identity struct {
	ID      int64
	Epoch   int16
	Cluster uint64 // a hash of the cluster's id; 0 = the cluster has none
}

// Identities stores the identity of a producer beyond the process. The producer calls the methods from
// several goroutines; no method may block.
type Identities interface {
	// Last returns the stored identity of an ended process, false for none.
	Last() (Identity, bool)
	// Keep stores an identity before it returns: no later process may use the same identity.
	Keep(Identity)
}

// maxEpoch is the highest epoch in use. Brokers count epochs in 16 bits and reserve the highest ones.
const maxEpoch = math.MaxInt16 - 2

// RememberBy makes the producer continue the last identity of store with the next epoch, and store new
// identities. Brokers then refuse late requests of the earlier process, in each partition with a batch from
// this producer. Call RememberBy before the first Send. Without idempotence there is no effect.
func (p *Producer) RememberBy(store Identities) {
	p.mtx.Lock()
	defer p.mtx.Unlock()
	if !p.idempotent {
		return
	}
	p.identities = store
	if last, ok := store.Last(); ok && last.Cluster != 0 && last.ID >= 0 && last.Epoch >= 0 && last.Epoch < maxEpoch {
		p.last = last
	}
}

// successor returns the identity after the last identity of an earlier process, or false without an identity
// or for another cluster: the id may belong to another producer there.
func (p *Producer) successor() (identity, bool, error) {
	p.mtx.Lock()
	last := p.last
	p.mtx.Unlock()
	if last.Cluster == 0 {
		return identity{}, false, nil
	}
	cluster, err := p.cluster()
	if err != nil {
		return identity{}, false, err
	}
	p.mtx.Lock()
	p.last = Identity{} // once
	p.mtx.Unlock()
	if cluster != last.Cluster {
		return identity{}, false, nil
	}
	last.Epoch++
	p.identities.Keep(last) // before its first use
	return identity{last.ID, last.Epoch, true}, true, nil
}

// issued asks the brokers for a new identity. failures counts the attempts.
func (p *Producer) issued(failures int) (identity, error) {
	answer, err := kmsg.NewPtrInitProducerIDRequest().RequestWith(p.ctx, p.client)
	if err != nil {
		return identity{}, err
	}
	if err := client.AnswerOf(answer.ErrorCode, nil, client.ToProduce); err != nil {
		p.unidentified(err, failures)
		return identity{}, err
	}
	return identity{answer.ProducerID, answer.ProducerEpoch, true}, nil
}

// keep stores an identity from the brokers. Without the cluster's id nothing is stored.
func (p *Producer) keep(i identity) {
	p.mtx.Lock()
	store := p.identities
	p.mtx.Unlock()
	if store == nil {
		return
	}
	if cluster, err := p.cluster(); err == nil && cluster != 0 {
		store.Keep(Identity{i.id, i.epoch, cluster})
	}
}

// cluster asks the brokers for the id of their cluster and returns a hash, 0 for none.
func (p *Producer) cluster() (uint64, error) {
	request := kmsg.NewPtrMetadataRequest()
	request.Topics = []kmsg.MetadataRequestTopic{} // none; nil would be all
	answer, err := request.RequestWith(p.ctx, p.client)
	if err != nil || answer.ClusterID == nil || *answer.ClusterID == "" {
		return 0, err
	}
	hash := fnv.New64a()
	_, _ = hash.Write([]byte(*answer.ClusterID))
	return max(hash.Sum64(), 1), nil
}
