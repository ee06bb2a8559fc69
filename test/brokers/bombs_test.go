package brokers

import (
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/test/wire"
)

// TestDamage_Bombs_StayWithinMemory runs an engine like TestDamage, against a broker with inflated answers:
// every fourth answer has the maximum number of elements for its size, or claims more. In the long form every
// answer to a fetch has about the largest length for the client library, so their buffers follow each other.
// maxDamagedMemory bounds the cost, including one such buffer. The broker is in another process.
func TestDamage_Bombs_StayWithinMemory(t *testing.T) {
	t.Parallel()
	duration, sizes := 2*time.Second, []int{1 << 10, 250 << 10, 4 << 20}
	if long() {
		duration, sizes = time.Minute, []int{1 << 10, 250 << 10, 15 << 20, 95 << 20}
	}
	var mtx, making sync.Mutex
	random := rand.New(rand.NewPCG(1, 1))
	damage(t, []wire.Fault{{Answer: func(c *wire.Conn, to wire.Header, answer []byte) []byte {
		mtx.Lock()
		pass, size := random.IntN(4) > 0, sizes[random.IntN(len(sizes))]
		mtx.Unlock()
		if long() && to.Key == kmsg.Fetch {
			pass, size = false, sizes[len(sizes)-1]
		}
		if pass || !making.TryLock() { // one at a time: building a bomb takes as much memory as decoding it
			return answer
		}
		defer making.Unlock()
		bomb := bombOf(to, size)
		if bomb == nil {
			return answer
		}
		body := func(wire.Header, []byte) []byte { return wire.Encode(bomb) }
		return wire.Rewrite(to.Key, body).Answer(c, to, answer)
	}}}, duration)
}

// bombOf returns an answer of about size bytes that takes many times the memory; nil = no such answer to the
// request. For elements of twenty times their bytes, 15 MiB are the limit.
func bombOf(to wire.Header, size int) kmsg.Response {
	response := kmsg.ResponseForKey(int16(to.Key))
	response.SetVersion(to.Version)
	small := min(size, 15<<20)
	switch r := response.(type) {
	case *kmsg.ApiVersionsResponse:
		r.ApiKeys = make([]kmsg.ApiVersionsResponseApiKey, size/7)
	case *kmsg.MetadataResponse:
		topic := kmsg.NewMetadataResponseTopic()
		topic.Topic = kmsg.StringPtr("all")
		topic.Partitions = make([]kmsg.MetadataResponseTopicPartition, size/20)
		for i := range topic.Partitions {
			topic.Partitions[i].Partition = int32(i)
		}
		r.Topics = append(r.Topics, topic)
	case *kmsg.ProduceResponse:
		topic := kmsg.NewProduceResponseTopic()
		topic.Partitions = make([]kmsg.ProduceResponseTopicPartition, size/34)
		r.Topics = append(r.Topics, topic)
	case *kmsg.FetchResponse:
		topic, partition := kmsg.NewFetchResponseTopic(), kmsg.NewFetchResponseTopicPartition()
		batch := kmsg.RecordBatch{Magic: 2, Length: int32(size + 49), NumRecords: math.MaxInt32, LastOffsetDelta: math.MaxInt32 - 1,
			Attributes: 4, Records: make([]byte, size)}
		partition.RecordBatches = batch.AppendTo(nil)
		topic.Partitions = append(topic.Partitions, partition)
		r.Topics = append(r.Topics, topic)
	case *kmsg.FindCoordinatorResponse:
		r.Coordinators = make([]kmsg.FindCoordinatorResponseCoordinator, small/15)
	case *kmsg.JoinGroupResponse:
		r.Members = make([]kmsg.JoinGroupResponseMember, small/4)
	case *kmsg.OffsetFetchResponse:
		r.Groups = make([]kmsg.OffsetFetchResponseGroup, small/5)
	case *kmsg.CreateTopicsResponse:
		r.Topics = make([]kmsg.CreateTopicsResponseTopic, small/29)
	default:
		return nil
	}
	return response
}
