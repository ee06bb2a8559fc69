package consume

import (
	"context"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/internal/host"
)

// A member is to be out of its group when its consumer has ended, or its partitions go to nobody until the brokers miss it:
// for session_timeout_ms, and for longer if it was still joining. The client leaves in order while it holds
// partitions. While it joins, it waits for the answer first, which comes when the slowest member of the group has
// joined too, and when it is closed during that it sends no LeaveGroup at all. So a joining member is signed off here, past
// the client's own state, and what the brokers do not settle in time goes on in the background.

// Limits of leaving a group.
const (
	maxDepartures   = 16                     // in the background at a time: each is a client with its connections
	departuresGrace = 100 * time.Millisecond // for their goroutines to end once they are given up
)

// Departures are the members that go on leaving their groups when whoever ended their consumers waits no longer. One
// is shared by all consumers of an engine. Its methods may be called from any goroutine.
type Departures struct {
	life   context.Context // done when what is under way is given up
	giveUp context.CancelFunc
	all    sync.WaitGroup

	mtx   sync.Mutex
	under int
	ended bool
}

// NewDepartures makes one. It has no goroutine of its own.
func NewDepartures() *Departures {
	d := &Departures{}
	d.life, d.giveUp = context.WithCancel(context.Background())
	return d
}

// End gives up what is under way: those members stay in their groups until the brokers miss them. No consumer
// that was made with d is of use afterwards. It takes 100 ms at most.
func (d *Departures) End() { d.EndWithin(departuresGrace) }

// EndWithin is End with another limit for the goroutines of those members to end, which takes them milliseconds.
func (d *Departures) EndWithin(limit time.Duration) {
	d.mtx.Lock()
	d.ended = true
	d.mtx.Unlock()
	d.giveUp()
	over := make(chan struct{})
	go func() {
		d.all.Wait()
		close(over)
	}()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-over:
	case <-timer.C:
	}
}

// start runs one departure. The channel is closed when it is over.
func (d *Departures) start(depart func()) <-chan struct{} {
	over := make(chan struct{})
	d.mtx.Lock()
	defer d.mtx.Unlock()
	d.under++
	run := func() {
		defer close(over)
		depart()
		d.mtx.Lock()
		defer d.mtx.Unlock()
		d.under--
	}
	if d.ended { // End waits already, and there is nothing to wait for: life is done
		go run()
	} else {
		d.all.Go(run)
	}
	return over
}

// crowded says whether so many departures are under way that no other may go on in the background.
func (d *Departures) crowded() bool {
	d.mtx.Lock()
	defer d.mtx.Unlock()
	return d.under > maxDepartures
}

// leave commits what is marked, leaves the group and closes the session's client. After closeWait, or the limit of
// CloseWithin, it leaves that to the background.
func (c *Consumer) leave(s *session) {
	defer close(s.gone)
	over := c.departures.start(func() { c.depart(s) })
	limit := time.NewTimer(c.tune.closeWait)
	defer limit.Stop()
	select {
	case <-over:
		return
	case <-limit.C:
	case <-c.late:
	}
	if c.departures.crowded() {
		s.cancel()
	}
}

// depart is leave without its limit. It has its own: the longest that a member of the group may take to join, after which
// the brokers have given up themselves whatever they waited for.
func (c *Consumer) depart(s *session) {
	ctx, cancel := context.WithTimeout(s.life, max(c.maxPoll, c.sessionTime))
	defer cancel()
	held := s.entrance.shut(s.client)
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		defer host.Guard(c.log, "leaving a consumer group")
		s.client.CloseAllowingRebalance()
	}()
	select {
	case <-closed:
	case <-ctx.Done():
	case <-held:
		c.signOff(ctx, s.client)
	}
	s.cancel()
	<-closed
}

// signOff takes a member out of the group that has begun to join it. The brokers then refuse what else its client has
// sent or sends as this member. Without an answer there is nothing left to try: the client has repeated the request.
func (c *Consumer) signOff(ctx context.Context, client *kgo.Client) {
	if id, _ := client.GroupMetadata(); id != "" { // else no broker knows it
		c.signOffMember(ctx, client, id)
	}
}

// signOffMember takes the member of that id out of the group. A member that is not there is out of it too.
func (c *Consumer) signOffMember(ctx context.Context, client *kgo.Client, id string) {
	member := kmsg.NewLeaveGroupRequestMember()
	member.MemberID = id
	req := kmsg.NewPtrLeaveGroupRequest()
	req.Group, req.MemberID, req.Members = c.group, id, []kmsg.LeaveGroupRequestMember{member}
	_, _ = req.RequestWith(ctx, client)
}

// entrance is a balancer that the client asks, as it does every one, for the member's metadata just before it sends a JoinGroup,
// also when it has been told to leave meanwhile. Then it is held there for good, and what it knows about its membership
// stays as it is.
type entrance struct {
	kgo.GroupBalancer
	over     <-chan struct{} // closed when the client's requests fail at once
	entering func()          // called before each JoinGroup

	mtx     sync.Mutex
	joining bool // a JoinGroup or SyncGroup may be under way
	closed  bool
	held    chan struct{} // closed when no answer has to be waited for to sign the member off
}

func newEntrance(inside kgo.GroupBalancer, over <-chan struct{}, entering func()) *entrance {
	return &entrance{GroupBalancer: inside, over: over, entering: entering, held: make(chan struct{})}
}

// JoinGroupMetadata implements kgo.GroupBalancer.
func (e *entrance) JoinGroupMetadata(topics []string, assigned map[string][]int32, generation int32) []byte {
	if e.enter() {
		<-e.over
	}
	e.entering()
	return e.GroupBalancer.JoinGroupMetadata(topics, assigned, generation)
}

// enter begins a join, and gives true when none may begin.
func (e *entrance) enter() bool {
	e.mtx.Lock()
	defer e.mtx.Unlock()
	e.joining = true
	if e.closed {
		e.release()
	}
	return e.closed
}

// joined ends a join.
func (e *entrance) joined() {
	e.mtx.Lock()
	defer e.mtx.Unlock()
	e.joining = false
}

// shut lets no other join begin. The channel is closed when the member is to be signed off: it is joining and knows its id,
// or was held here. A member gets its id by the answer to its first JoinGroup, which brokers since Kafka 2.2 give at
// once (KIP-394). One that is not joining is for the client to take out, with its last commit first.
func (e *entrance) shut(client *kgo.Client) <-chan struct{} {
	e.mtx.Lock()
	defer e.mtx.Unlock()
	e.closed = true
	if id, _ := client.GroupMetadata(); e.joining && id != "" {
		e.release()
	}
	return e.held
}

// release closes held. The caller holds mtx.
func (e *entrance) release() {
	select {
	case <-e.held:
	default:
		close(e.held)
	}
}
