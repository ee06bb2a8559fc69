package engine

import (
	"errors"
	"maps"
	"slices"
	"strconv"

	"reskafka/internal/console"
	"reskafka/internal/kafka/consume"
	"reskafka/internal/metrics"
)

// Consumers implements console.Env.
func (e *Engine) Consumers() []console.ConsumerStatus {
	members := map[*connection][]console.MemberStatus{}
	e.mtx.Lock()
	subscriptions := maps.Clone(e.subscriptions)
	e.mtx.Unlock()
	for _, id := range slices.Sorted(maps.Keys(subscriptions)) {
		s := subscriptions[id]
		members[s.connection] = append(members[s.connection], s.snapshot(id))
	}
	var all []console.ConsumerStatus
	for _, c := range e.inForce() {
		if s := c.settings.Load(); s != nil && s.GroupID != "" {
			all = append(all, console.ConsumerStatus{
				Name: c.name, GroupID: s.GroupID, Subscribed: len(members[c]) > 0, Members: members[c],
			})
		}
	}
	return all
}

// snapshot describes a subscription.
func (s *subscription) snapshot(id uint64) console.MemberStatus {
	m := console.MemberStatus{
		Topics: s.topics, State: string(consume.Left),
		Numbers: metrics.Of(s.connection.name).In(metrics.Subscription, strconv.FormatUint(id, 10)),
	}
	s.mtx.Lock()
	consumer := s.consumer
	s.mtx.Unlock()
	if consumer == nil {
		return m
	}
	snap := consumer.Snapshot(m.Numbers)
	m.State, m.MemberID, m.Joined = string(snap.State), snap.MemberID, snap.Joined
	m.Brokers = brokerStates(snap.Brokers, m.Numbers)
	m.LastError = snap.Brokers.LastError.Text
	for _, p := range snap.Partitions {
		m.Partitions = append(m.Partitions, console.PartitionStatus(p))
	}
	return m
}

// SkipBatch implements console.Env.
func (e *Engine) SkipBatch(name, topic string, partition int32) (offset int64, err error) {
	c, err := e.connection(name)
	if err != nil {
		return 0, err
	}
	err = errors.New("nobody is subscribed on connection " + c.name)
	for _, s := range e.listSubscriptions() {
		s.mtx.Lock()
		consumer := s.consumer
		s.mtx.Unlock()
		if s.connection != c || consumer == nil {
			continue
		}
		if offset, err = consumer.Skip(topic, partition); err == nil {
			return offset, nil
		}
	}
	return 0, err
}
