package consume

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/test/kafkatest"
)

// successor is the module of a consumer with a killed predecessor.
type successor struct {
	*module
	mtx         sync.Mutex
	predecessor string
	positions   []Position
	joined      string
}

func (s *successor) Predecessor() string {
	s.mtx.Lock()
	defer s.mtx.Unlock()
	predecessor := s.predecessor
	s.predecessor = ""
	return predecessor
}

func (s *successor) Positions() []Position {
	s.mtx.Lock()
	defer s.mtx.Unlock()
	positions := s.positions
	s.positions = nil
	return positions
}

func (s *successor) Joined(member string) {
	s.mtx.Lock()
	defer s.mtx.Unlock()
	s.joined = member
}

// abandoned returns the id of a member with all partitions and without activity, like a killed member.
func abandoned(t *testing.T, cluster *kfake.Cluster) (member string) {
	t.Helper()
	client := kafkatest.Writer(t, cluster)
	join := kmsg.NewPtrJoinGroupRequest()
	join.Group, join.SessionTimeoutMillis, join.RebalanceTimeoutMillis = "g", 60000, 300000
	join.ProtocolType = "consumer"
	protocol := kmsg.NewJoinGroupRequestProtocol()
	protocol.Name, protocol.Metadata = "range", kgo.RangeBalancer().JoinGroupMetadata([]string{"t"}, nil, 0)
	join.Protocols = append(join.Protocols, protocol)
	var generation int32
	for range 2 { // the first answer has the id
		answer, err := join.RequestWith(context.Background(), client)
		if err != nil {
			t.Fatal(err)
		}
		join.MemberID, generation = answer.MemberID, answer.Generation
	}
	sync := kmsg.NewPtrSyncGroupRequest()
	sync.Group, sync.MemberID, sync.Generation = "g", join.MemberID, generation
	if _, err := sync.RequestWith(context.Background(), client); err != nil {
		t.Fatal(err)
	}
	return join.MemberID
}

// TestPredecessor_Killed_IsTakenOut guards the group of a killed engine: its member kept the partitions for
// session_timeout_ms, and the next engine's member waited for max_poll_interval_ms.
func TestPredecessor_Killed_IsTakenOut(t *testing.T) {
	cluster := kafkatest.Broker(t, kfake.SeedTopics(2, "t"))
	s := &successor{predecessor: abandoned(t, cluster)}
	if n := members(cluster); n != 1 {
		t.Fatalf("%d members, want the abandoned one", n)
	}
	s.module = newModule(t)
	s.start(consuming(cluster.ListenAddrs()...), kafkatest.NewLines(), []string{"t"}, s)
	s.run(nil)
	if a := within(t, s.assigned, "an assignment"); len(a["t"]) != 2 {
		t.Errorf("assigned: %v", a)
	}
	if n := members(cluster); n != 1 {
		t.Errorf("%d members, want ours", n)
	}
	s.mtx.Lock()
	joined := s.joined
	s.mtx.Unlock()
	if id, _ := s.session.client.GroupMetadata(); joined == "" || joined != id {
		t.Errorf("the module knows member %q, the brokers %q", joined, id)
	}
}

// TestPositions_OffsetsNotCommitted_NotDeliveredAgain guards the messages between the last commit of a killed engine and its death:
// each of them was delivered again.
func TestPositions_OffsetsNotCommitted_NotDeliveredAgain(t *testing.T) {
	cluster := kafkatest.Broker(t, kfake.SeedTopics(2, "t"))
	client := kafkatest.Writer(t, cluster)
	write(t, client, "t", 2, 0, 10)
	s := &successor{positions: []Position{{"t", 0, 7}, {"other", 0, 7}, {"t", 1, 9}}}
	s.module = newModule(t)
	s.start(consuming(cluster.ListenAddrs()...), kafkatest.NewLines(), []string{"t"}, s)
	s.run(nil)
	for _, m := range s.waitFor(3 + 1) {
		if want := map[int32]int64{0: 7, 1: 9}[m.Partition]; m.Offset < want {
			t.Errorf("partition %d: offset %d comes again", m.Partition, m.Offset)
		}
	}
	for deadline := time.Now().Add(kafkatest.Patience); ; time.Sleep(5 * time.Millisecond) {
		offsets, err := kadm.NewClient(client).FetchOffsets(t.Context(), "g")
		if at, ok := offsets.Lookup("t", 0); err == nil && ok && at.At >= 7 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("committed: %v, %v", offsets, err)
		}
	}
}

// TestEndMember_GroupEmpty_CommitsAndLeaves guards a subscription that ended without an engine: its last offsets were
// committed by nobody, and its member stayed in the group for session_timeout_ms.
func TestEndMember_GroupEmpty_CommitsAndLeaves(t *testing.T) {
	cluster := kafkatest.Broker(t, kfake.SeedTopics(2, "t"))
	admin := kadm.NewClient(kafkatest.Writer(t, cluster))
	settings := consuming(cluster.ListenAddrs()...)
	end := func(member string, positions ...Position) int {
		t.Helper()
		n, err := EndMember(t.Context(), settings, member, positions, nil)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if n := end(abandoned(t, cluster), Position{"t", 0, 7}, Position{"t", 1, 9}); n != 2 || members(cluster) != 0 {
		t.Errorf("%d offsets committed, %d members", n, members(cluster))
	}
	if n := end("", Position{"t", 0, 6}, Position{"t", 1, 10}); n != 1 { // never back
		t.Errorf("%d offsets committed, want 1", n)
	}
	settings.AutoCommit = false
	if n := end("", Position{"t", 0, 20}); n != 0 {
		t.Errorf("%d offsets committed without auto-commit", n)
	}
	offsets, err := admin.FetchOffsets(t.Context(), "g")
	for partition, want := range map[int32]int64{0: 7, 1: 10} {
		if at, ok := offsets.Lookup("t", partition); err != nil || !ok || at.At != want {
			t.Errorf("partition %d: %v, %v, want %d", partition, at, err, want)
		}
	}
	write(t, kafkatest.Writer(t, cluster), "t", 2, 0, 12)
	m := newModule(t)
	m.start(consuming(cluster.ListenAddrs()...), kafkatest.NewLines(), []string{"t"}, m)
	m.run(nil)
	for _, message := range m.waitFor(5 + 2) { // the next subscription
		if want := map[int32]int64{0: 7, 1: 10}[message.Partition]; message.Offset < want {
			t.Errorf("partition %d: offset %d comes again", message.Partition, message.Offset)
		}
	}
}

// TestEndMember_OtherMembers_CommitsNothing guards offsets of present members.
func TestEndMember_OtherMembers_CommitsNothing(t *testing.T) {
	cluster := kafkatest.Broker(t, kfake.SeedTopics(1, "t"))
	abandoned(t, cluster)
	if n, err := EndMember(t.Context(), consuming(cluster.ListenAddrs()...), "other", []Position{{"t", 0, 7}}, nil); n != 0 || err == nil {
		t.Errorf("%d offsets committed, %v", n, err)
	}
}
