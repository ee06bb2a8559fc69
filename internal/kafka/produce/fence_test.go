package produce

import (
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/test/kafkatest"
)

// storage is an Identities in memory.
type storage struct {
	mtx  sync.Mutex
	last Identity
	kept []Identity
}

func (s *storage) Last() (Identity, bool) { return s.last, s.last != Identity{} }

func (s *storage) Keep(i Identity) {
	s.mtx.Lock()
	defer s.mtx.Unlock()
	s.kept = append(s.kept, i)
}

func (s *storage) all() []Identity {
	s.mtx.Lock()
	defer s.mtx.Unlock()
	return append([]Identity{}, s.kept...)
}

// identitiesSeen lists the producer ids and epochs of the batches at a cluster, and the number stored by
// then.
type identitiesSeen struct {
	storage *storage
	mtx     sync.Mutex
	batches []Identity
	kept    []int
}

func (s *identitiesSeen) watch(cluster *kfake.Cluster) {
	cluster.ControlKey(int16(kmsg.Produce), func(request kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		for _, topic := range request.(*kmsg.ProduceRequest).Topics {
			for _, partition := range topic.Partitions {
				var batch kmsg.RecordBatch
				_ = batch.ReadFrom(partition.Records)
				s.mtx.Lock()
				s.batches = append(s.batches, Identity{ID: batch.ProducerID, Epoch: batch.ProducerEpoch})
				s.kept = append(s.kept, len(s.storage.all()))
				s.mtx.Unlock()
			}
		}
		return nil, nil, false
	})
}

// deliver produces one record with an idempotent producer and the store s, and returns the identity in the
// batch and the number of stored identities at the arrival.
func (s *storage) deliver(t *testing.T, cluster *kfake.Cluster) (sent Identity, kept int) {
	t.Helper()
	seen := &identitiesSeen{storage: s}
	seen.watch(cluster)
	c := kafkatest.Connection(cluster.ListenAddrs()...)
	c.Idempotence = true
	p := open(t, c, nil, nil)
	p.RememberBy(s)
	kafkatest.SendAll(t, p, kafkatest.Numbered("t", 0, 1)...)
	for deadline := time.Now().Add(kafkatest.Patience); len(s.all()) == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("no identity was stored")
		}
	}
	p.Close()
	seen.mtx.Lock()
	defer seen.mtx.Unlock()
	return seen.batches[0], seen.kept[0]
}

// TestProducer_Successor_NextEpoch verifies that brokers can refuse a dead engine's late requests: the next
// engine has the same producer id and a higher epoch, stored before the first batch, because no two processes
// may use one epoch.
func TestProducer_Successor_NextEpoch(t *testing.T) {
	cluster := kafkatest.Broker(t, kfake.SeedTopics(1, "t"))
	var first storage
	issued, _ := first.deliver(t, cluster)
	known := first.all()
	if len(known) != 1 || known[0].ID != issued.ID || known[0].Epoch != issued.Epoch || known[0].Cluster == 0 {
		t.Fatalf("stored %+v of %+v", known, issued)
	}
	next := &storage{last: known[0]}
	sent, kept := next.deliver(t, cluster)
	if sent.ID != issued.ID || sent.Epoch != issued.Epoch+1 || kept != 1 {
		t.Errorf("sent %+v with %d stored, want the next epoch of %+v", sent, kept, issued)
	}
	if now := next.all(); len(now) != 1 || now[0] != (Identity{issued.ID, issued.Epoch + 1, known[0].Cluster}) {
		t.Errorf("stored %+v", now)
	}
	for name, last := range map[string]Identity{
		"of another cluster":   {issued.ID, issued.Epoch, known[0].Cluster + 1},
		"without a cluster":    {issued.ID, issued.Epoch, 0},
		"at its last epoch":    {issued.ID, maxEpoch, known[0].Cluster},
		"with a damaged epoch": {issued.ID, -1, known[0].Cluster},
		"with a damaged id":    {-issued.ID - 1, issued.Epoch, known[0].Cluster},
	} {
		other := &storage{last: last}
		if sent, _ := other.deliver(t, cluster); sent.ID == last.ID || sent.ID < 0 {
			t.Errorf("%s: sent %+v, want a new id", name, sent)
		}
	}
}
