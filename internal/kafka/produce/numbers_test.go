package produce

import (
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/internal/config"
	"reskafka/test/kafkatest"
)

// far sets the least time to an answer of a partition's broker, and gives the producer an unused identity.
func (b *bench) far(part *partition) {
	b.look(func() {
		part.leader.leastTime = farAnswer
		b.distant.Store(true)
		b.spare = identity{id: 9, given: true}
		b.wantNumbers()
	})
}

// TestNumbers_FarBroker_BatchesOfAKeyFollow verifies that batches with a key in common are in flight together to a far
// broker, behind the acknowledged first batch of the identity, and more of them than with idempotence.
func TestNumbers_FarBroker_BatchesOfAKeyFollow(t *testing.T) {
	b, part := opened(t, false)
	b.far(part)
	b.sendKeys("k")
	first := b.leaves(0, true)
	b.sendKeys("k")
	if b.ready(part) {
		t.Error("a batch leaves beside the first of an identity")
	}
	b.answers(first, nil)
	for want := int32(1); want < maxOutstanding+3; want++ {
		if want > 1 {
			b.sendKeys("k")
		}
		if !b.ready(part) {
			t.Fatalf("%d batches in flight, and no other may leave", want-1)
		}
		sent := b.leaves(0, true).cargo[0].batch
		if !sent.sequenced || sent.identity.id != 9 || sent.sequence != want {
			t.Errorf("batch %d has number %d of producer %d", want, sent.sequence, sent.identity.id)
		}
	}
}

// TestNumbers_RefusedBeforeAcknowledged_GoesAgain verifies that an acknowledgement of a later batch proves nothing about a
// batch refused without doubt: a broker without the state of the identity accepts a later batch.
func TestNumbers_RefusedBeforeAcknowledged_GoesAgain(t *testing.T) {
	b, part := opened(t, false)
	b.far(part)
	b.sendKeys("k")
	b.answers(b.leaves(0, true), nil)
	b.sendKeys("k")
	refused := b.leaves(0, true)
	b.sendKeys("k")
	if !b.ready(part) {
		t.Fatal("no batch leaves beside the first")
	}
	later := b.leaves(0, true)
	b.answers(refused, kerr.NotLeaderForPartition)
	b.answers(later, nil)
	b.look(func() {
		if len(part.queue) != 1 || part.queue[0] != refused.cargo[0].batch {
			t.Errorf("%d batches wait, and not the refused one", len(part.queue))
		}
	})
}

// TestNumbers_Refusal_GoesAgainWithoutNumbers verifies that no verdict on a numbered batch counts: the numbers may be
// the cause.
func TestNumbers_Refusal_GoesAgainWithoutNumbers(t *testing.T) {
	for _, verdict := range []*kerr.Error{kerr.InvalidRecord, kerr.MessageTooLarge, kerr.InvalidRequiredAcks, kerr.UnsupportedForMessageFormat,
		kerr.ClusterAuthorizationFailed, kerr.OutOfOrderSequenceNumber} {
		t.Run(verdict.Message, func(t *testing.T) {
			b, part := opened(t, false)
			b.far(part)
			b.sendKeys("k")
			b.answers(b.leaves(0, true), verdict)
			again := b.leaves(0, true).cargo[0].batch
			if again.sequenced {
				t.Errorf("the batch has number %d", again.sequence)
			}
			b.look(func() {
				if b.identity.given || !b.now().Before(b.numbersAfter) {
					t.Error("the identity stays in use, though no batch with it was acknowledged")
				}
			})
		})
	}
}

// asked counts the requests for an identity at a cluster. Each request of any kind takes as long as delay.
func asked(cluster *kfake.Cluster, delay time.Duration, refusal *kerr.Error) func() (identities, numbered int) {
	var mtx sync.Mutex
	var identities, numbered int
	cluster.Control(func(request kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		time.Sleep(delay)
		mtx.Lock()
		defer mtx.Unlock()
		switch r := request.(type) {
		case *kmsg.InitProducerIDRequest:
			identities++
			if refusal != nil {
				answer := r.ResponseKind().(*kmsg.InitProducerIDResponse)
				answer.ErrorCode = refusal.Code
				return answer, nil, true
			}
		case *kmsg.ProduceRequest:
			var batch kmsg.RecordBatch
			_ = batch.ReadFrom(r.Topics[0].Partitions[0].Records)
			if batch.ProducerID >= 0 {
				numbered++
			}
		}
		return nil, nil, false
	})
	return func() (int, int) {
		mtx.Lock()
		defer mtx.Unlock()
		return identities, numbered
	}
}

// TestNumbers_AtABroker verifies the requests at a broker: an identity only for a far one with acks = -1, asked for once
// if the broker refuses, and no record waits for the identity.
func TestNumbers_AtABroker(t *testing.T) {
	for _, test := range []struct {
		name       string
		delay      time.Duration
		acks       int
		refusal    *kerr.Error
		identities int
		numbered   bool
	}{
		{name: "far", delay: farAnswer, acks: -1, identities: 1, numbered: true},
		{name: "acks = 1", delay: farAnswer, acks: 1},
		{name: "refused", delay: farAnswer, acks: -1, refusal: kerr.ClusterAuthorizationFailed, identities: 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			cluster := kafkatest.Broker(t, kfake.SeedTopics(1, "t"))
			count := asked(cluster, test.delay, test.refusal)
			c := kafkatest.Connection(cluster.ListenAddrs()...)
			c.Acks = test.acks
			log := kafkatest.NewLines()
			p := open(t, c, log, nil)
			identities, numbered := 0, 0
			deadline := time.Now().Add(kafkatest.Patience)
			for i := 0; i < 20 || (identities < test.identities || test.numbered && numbered == 0) && time.Now().Before(deadline); i++ {
				kafkatest.SendAll(t, p, kafkatest.Numbered("t", i, i+1)...)
				identities, numbered = count()
			}
			if identities != test.identities || numbered > 0 != test.numbered {
				t.Errorf("%d requests for an identity, %d numbered batches", identities, numbered)
			}
		})
	}
}

// TestNumbers_NearBroker_NoIdentity verifies that an identity changes nothing for a near broker.
func TestNumbers_NearBroker_NoIdentity(t *testing.T) {
	b, part := opened(t, false, func(c *config.Connection) { c.BatchNumMessages = 3 })
	b.look(func() {
		part.leader.leastTime = farAnswer - 1
		b.spare = identity{id: 9, given: true}
		b.wantNumbers()
	})
	b.sendKeys("k")
	if first := b.leaves(0, true); first.cargo[0].batch.sequenced {
		t.Error("the batch has a number")
	}
	b.sendKeys("k")
	if b.ready(part) {
		t.Error("a batch with the same key leaves")
	}
}

// TestPipelines_FullRequests_FollowToFarBroker verifies that full requests fill the link to a far broker at once, and that
// a near broker gets five of them in quick succession.
func TestPipelines_FullRequests_FollowToFarBroker(t *testing.T) {
	b, part := opened(t, true)
	b.sendKeys("k")
	b.look(func() {
		n := part.leader
		n.flights, n.bytes, n.limit.taken, n.departed = maxFullFlights, fullRequest, fullRequest, b.now()
		n.leastTime = farAnswer - 1
		if b.pipelines(n) {
			t.Error("a sixth request leaves for a near broker")
		}
		n.leastTime = farAnswer
		if !b.pipelines(n) {
			t.Error("a sixth request waits, though the broker is far")
		}
	})
}
