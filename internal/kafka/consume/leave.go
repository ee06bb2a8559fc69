package consume

import (
	"context"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/internal/host"
)

// A member must leave its group at the end of its consumer. Otherwise the partitions stay unassigned until
// the brokers miss the member: for session_timeout_ms, and longer after an unfinished join. The client leaves
// in order while it has partitions. During a join the client first waits for the answer, which needs the
// slowest member of the group. A close during that wait sends no LeaveGroup at all. Therefore this code
// removes a joining member itself, past the client's state, and continues unanswered requests in the
// background.

// Limits of leaving a group.
const (
	maxDepartures   = 16                     // parallel departures in the background; each is a client with its connections
	departuresGrace = 100 * time.Millisecond // for goroutines of abandoned departures to end
)

// Departures are members that continue to leave their groups after the end of their consumers. All consumers
// of an engine share one Departures. Methods are safe for concurrent use.
type Departures struct {
	life   context.Context // done when running departures are abandoned
	giveUp context.CancelFunc
	all    sync.WaitGroup

	mtx   sync.Mutex
	under int
	ended bool
}

// NewDepartures returns a Departures without goroutines.
func NewDepartures() *Departures {
	d := &Departures{}
	d.life, d.giveUp = context.WithCancel(context.Background())
	return d
}

// End abandons the running departures: such members stay in their groups until the brokers miss them. No
// consumer with d may be used afterwards. End takes 100 ms at most.
func (d *Departures) End() { d.EndWithin(departuresGrace) }

// EndWithin is End with another limit for the end of the goroutines, which need milliseconds.
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

// start runs a departure, and closes the channel at its end.
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

// crowded reports whether the limit of background departures is reached.
func (d *Departures) crowded() bool {
	d.mtx.Lock()
	defer d.mtx.Unlock()
	return d.under > maxDepartures
}

// leave commits the marked offsets, leaves the group and closes the session's client. After closeWait, or the
// limit of CloseWithin, the leave continues in the background.
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

// depart is leave without closeWait. Its own limit is the longest join of any member; afterwards the brokers
// themselves have given up.
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

// signOff removes a joining member from the group. The brokers then refuse later requests of the client as
// this member. There is no retry without an answer: the client has already repeated the request.
func (c *Consumer) signOff(ctx context.Context, client *kgo.Client) {
	if id, _ := client.GroupMetadata(); id != "" { // otherwise no broker knows the member
		signOffMember(ctx, client, c.group, id)
	}
}

// signOffMember removes the member with this id from the group. An unknown member counts as removed.
func signOffMember(ctx context.Context, client *kgo.Client, group, id string) {
	member := kmsg.NewLeaveGroupRequestMember()
	member.MemberID = id
	req := kmsg.NewPtrLeaveGroupRequest()
	req.Group, req.MemberID, req.Members = group, id, []kmsg.LeaveGroupRequestMember{member}
	_, _ = req.RequestWith(ctx, client)
}

// entrance is a balancer. The client asks every balancer for the member's metadata just before each
// JoinGroup, also during a leave. In a leave, entrance blocks the call permanently, so the client's state of
// the membership stays unchanged.
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

// enter begins a join. It returns true if no join may begin.
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

// shut blocks all further joins. The channel is closed once the member needs a sign-off: the member is
// joining and knows its id, or is blocked here. The first JoinGroup returns the id, at once since Kafka 2.2
// (KIP-394). A member outside a join leaves through the client, after its last commit.
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
