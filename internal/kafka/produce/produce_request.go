package produce

import (
	"encoding/binary"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/internal/kafka/client"
)

// produceRequest is a produce request whose batches are written from their own memory.
type produceRequest struct {
	kmsg.ProduceRequest
	batches []placed
}

// placed is a batch with the length of the request before it, without other batches.
type placed struct {
	at    int
	batch []byte
}

// write adds the request to the bytes of a write.
func (r *produceRequest) write(to *client.Parts, format *kmsg.RequestFormatter, correlation int32) {
	head := format.AppendRequest(make([]byte, 0, 256), r, correlation)
	size := len(head) - 4
	for _, b := range r.batches {
		size += len(b.batch)
	}
	binary.BigEndian.PutUint32(head, uint32(size))
	from := 0
	for _, b := range r.batches {
		to.Own = append(to.Own, head[from:b.at]...)
		to.Refer(b.batch)
		from = b.at
	}
	to.Own = append(to.Own, head[from:]...)
}

// AppendTo implements kmsg.Request for the versions from 3 on, without the batches: it notes their places.
func (r *produceRequest) AppendTo(to []byte) []byte {
	flexible := r.IsFlexible()
	nobody := (*string)(nil) // no transaction
	if flexible {
		to = kbin.AppendCompactNullableString(to, nobody)
	} else {
		to = kbin.AppendNullableString(to, nobody)
	}
	to = kbin.AppendInt16(to, r.Acks)
	to = kbin.AppendInt32(to, r.TimeoutMillis)
	to = appendArrayLen(to, flexible, len(r.Topics))
	for i := range r.Topics {
		to = r.appendTopic(to, flexible, &r.Topics[i])
	}
	return appendNoTags(to, flexible)
}

func (r *produceRequest) appendTopic(to []byte, flexible bool, t *kmsg.ProduceRequestTopic) []byte {
	switch {
	case r.Version >= 13:
		to = kbin.AppendUuid(to, t.TopicID)
	case flexible:
		to = kbin.AppendCompactString(to, t.Topic)
	default:
		to = kbin.AppendString(to, t.Topic)
	}
	to = appendArrayLen(to, flexible, len(t.Partitions))
	for i := range t.Partitions {
		part := &t.Partitions[i]
		to = kbin.AppendInt32(to, part.Partition)
		if flexible {
			to = kbin.AppendUvarint(to, uint32(len(part.Records))+1)
		} else {
			to = kbin.AppendInt32(to, int32(len(part.Records)))
		}
		r.batches = append(r.batches, placed{len(to), part.Records})
		to = appendNoTags(to, flexible)
	}
	return appendNoTags(to, flexible)
}

func appendArrayLen(to []byte, flexible bool, n int) []byte {
	if flexible {
		return kbin.AppendCompactArrayLen(to, n)
	}
	return kbin.AppendArrayLen(to, n)
}

func appendNoTags(to []byte, flexible bool) []byte {
	if flexible {
		return append(to, 0)
	}
	return to
}
