package consume

import (
	"iter"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"reskafka/internal/outbox"
)

// Message is one record received. Nil and empty are different things for Key, Value and a header's Value: nil is
// Kafka's null. The bytes are shared with other messages of the same fetch and must not be written to.
type Message struct {
	Topic     string
	Partition int32
	Offset    int64
	Key       []byte
	Value     []byte
	Headers   []outbox.Header
	Timestamp time.Time
}

// UnixMilli is the message's time in milliseconds since 1970, -1 for one without: those of format 0, from before Kafka 0.10.
func (m *Message) UnixMilli() int64 {
	if m.Timestamp.IsZero() {
		return -1
	}
	return m.Timestamp.UnixMilli()
}

// Batch is messages in the order in which they are to be delivered, at least one. It is the client's records as they are:
// nothing is copied for it. It may be read from any goroutine.
type Batch struct {
	runs    []run
	count   int
	headers int
	bytes   int
}

// run is records of one partition that follow each other.
type run struct {
	topic     string
	partition int32
	records   []*kgo.Record
}

// Len is the number of messages.
func (b *Batch) Len() int { return b.count }

// Size is what the messages have together: headers, bytes in topics' names (one for each run of messages with one and the
// same string), and bytes in keys, values and headers.
func (b *Batch) Size() (headers, topics, bytes int) {
	for i := range b.runs {
		topics += len(b.runs[i].topic)
	}
	return b.headers, topics, b.bytes
}

// Runs is how often the topic or the partition changes from one message to the next, plus one.
func (b *Batch) Runs() int { return len(b.runs) }

// All gives the messages one after the other, each with whether it begins a run. The Message, and its Headers as a slice,
// are valid until the next one is asked for; what they refer to stays.
func (b *Batch) All() iter.Seq2[*Message, bool] {
	return func(yield func(*Message, bool) bool) {
		var m Message
		var headers []outbox.Header
		for i := range b.runs {
			r := &b.runs[i]
			m.Topic, m.Partition = r.topic, r.partition
			for j, record := range r.records {
				m.Offset, m.Key, m.Value, m.Timestamp = record.Offset, record.Key, record.Value, record.Timestamp
				headers = headers[:0]
				for _, h := range record.Headers {
					headers = append(headers, outbox.Header{Name: h.Key, Value: h.Value})
				}
				m.Headers = headers
				if !yield(&m, j == 0) {
					return
				}
			}
		}
	}
}

// add takes over what fits of a run and gives how many records that is. The batch has most messages at the most.
func (b *Batch) add(r run, most int) int {
	n := 0
	for ; n < len(r.records) && b.count < most; n++ {
		record := r.records[n]
		size := len(record.Key) + len(record.Value)
		for _, h := range record.Headers {
			size += len(h.Key) + len(h.Value)
		}
		if b.count > 0 && b.bytes+size > maxBatchBytes {
			break
		}
		b.count++
		b.bytes += size
		b.headers += len(record.Headers)
	}
	if n > 0 {
		r.records = r.records[:n]
		b.runs = append(b.runs, r)
	}
	return n
}

// after gives the messages from the nth on, counted from 0.
func (b *Batch) after(n int) []run {
	var rest []run
	for _, r := range b.runs {
		if n < len(r.records) {
			r.records = r.records[n:]
			rest = append(rest, r)
			n = 0
			continue
		}
		n -= len(r.records)
	}
	return rest
}

// ends gives for each partition, of the messages from the nth on that are before the mth, where its next reader begins.
func (b *Batch) ends(n, m int) map[string]map[int32]kgo.EpochOffset {
	offsets := map[string]map[int32]kgo.EpochOffset{}
	first := 0 // of the run
	for _, r := range b.runs {
		if last := min(m-first, len(r.records)); last > 0 && first+last > n {
			if offsets[r.topic] == nil {
				offsets[r.topic] = map[int32]kgo.EpochOffset{}
			}
			record := r.records[last-1]
			offsets[r.topic][r.partition] = kgo.EpochOffset{Epoch: record.LeaderEpoch, Offset: record.Offset + 1}
		}
		first += len(r.records)
	}
	return offsets
}

// at gives the topic, the partition and the record of the nth message.
func (b *Batch) at(n int) (topic string, partition int32, record *kgo.Record) {
	r := b.after(n)[0]
	return r.topic, r.partition, r.records[0]
}
