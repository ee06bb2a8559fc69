package consume

import (
	"context"
	"time"

	"reskafka/internal/host"
)

// Membership is what a Progress also implements if it outlives this process. The brokers keep the partitions of a member that
// was killed for session_timeout_ms, and let nobody else in while the group gathers. So the next process takes the member of
// the one before out of the group before it joins. Safe for use by several goroutines.
type Membership interface {
	// Predecessor returns the id of the member that could not leave, "" if there is none. Only the first call returns it.
	Predecessor() string

	// Joined notes under which id the brokers know the consumer from now on. It does not block.
	Joined(member string)
}

// predecessorLimit is how long taking the predecessor out may take: it has to find the group's coordinator, and joining needs that
// as well.
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
		c.signOffMember(ctx, client, predecessor)
	}
	if id, _ := client.GroupMetadata(); id != "" {
		membership.Joined(id)
	}
}

// entered notes the id once the group is joined: brokers before Kafka 2.2 give it with that answer only.
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
