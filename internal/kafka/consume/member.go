package consume

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"reskafka/internal/host"
)

// Membership is an additional interface of a Progress that outlives this process. Brokers reserve the
// partitions of a killed member for session_timeout_ms, and block joins while the group gathers. Therefore
// the next process removes the old member from the group before its own join. Membership is safe for
// concurrent use.
type Membership interface {
	// Predecessor returns the id of the killed member, or "". Only the first call returns the id.
	Predecessor() string

	// Positions returns the offsets behind the messages that were delivered by killed engines, whose commits may be
	// missing. Only the first call returns them.
	Positions() []Position

	// Joined notes the member id of the consumer at the brokers. Joined never blocks.
	Joined(member string)
}

// Position is the offset behind the last delivered message of a partition.
type Position struct {
	Topic     string
	Partition int32
	Next      int64
}

// resume moves the offsets of an assignment behind the messages that killed engines have delivered. It returns the moved offsets,
// which are not committed.
func (c *Consumer) resume(offsets map[string]map[int32]kgo.Offset) map[string]map[int32]kgo.EpochOffset {
	membership, ok := c.progress.(Membership)
	if !ok {
		return nil
	}
	moved := map[string]map[int32]kgo.EpochOffset{}
	for _, p := range membership.Positions() {
		if at, ok := offsets[p.Topic][p.Partition]; ok && p.Next > at.EpochOffset().Offset {
			offsets[p.Topic][p.Partition] = kgo.NewOffset().At(p.Next)
			if moved[p.Topic] == nil {
				moved[p.Topic] = map[int32]kgo.EpochOffset{}
			}
			moved[p.Topic][p.Partition] = kgo.EpochOffset{Epoch: -1, Offset: p.Next}
		}
	}
	return moved
}

// predecessorLimit bounds the removal of the predecessor, which includes the search for the group's
// coordinator. A join needs the coordinator too.
const predecessorLimit = 5 * time.Second

// entering runs in the client's goroutine before each JoinGroup of a session.
func (c *Consumer) entering(s *session) {
	membership, ok := c.progress.(Membership)
	if !ok {
		return
	}
	defer host.Guard(c.log, "joining a consumer group")
	c.mtx.Lock() // the session is complete by then
	client := s.client
	c.mtx.Unlock()
	if predecessor := membership.Predecessor(); predecessor != "" {
		ctx, cancel := context.WithTimeout(s.life, predecessorLimit)
		defer cancel()
		signOffMember(ctx, client, c.group, predecessor)
	}
	if id, _ := client.GroupMetadata(); id != "" {
		membership.Joined(id)
	}
}

// entered notes the member id after the join: brokers before Kafka 2.2 return no id earlier.
func (c *Consumer) entered(s *session) {
	if membership, ok := c.progress.(Membership); ok {
		c.mtx.Lock()
		client := s.client
		c.mtx.Unlock()
		if id, _ := client.GroupMetadata(); id != "" {
			membership.Joined(id)
		}
	}
}
