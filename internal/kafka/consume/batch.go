package consume

import (
	"iter"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"reskafka/internal/record"
)

// Message is a received record. For Key, Value and a header's Value, nil is Kafka's null and differs from
// empty. The bytes are shared with other messages of the same fetch and must not be modified.
type Message struct {
	Topic     string
	Partition int32
	Offset    int64
	Key       []byte
	Value     []byte
	Headers   []record.Header
	Timestamp time.Time
}

// UnixMilli returns the message's time in milliseconds since 1970, or -1 without a time, as in format 0 from
// before Kafka 0.10.
func (m *Message) UnixMilli() int64 {
	if m.Timestamp.IsZero() {
		return -1
	}
	return m.Timestamp.UnixMilli()
}

// Batch is a sequence of messages in the order of delivery, at least one. A batch refers to the client's
// records without a copy. Batch is safe for concurrent reads.
type Batch struct {
	runs    []run
	count   int
	headers int
	bytes   int
}

// run is a sequence of records of one partition.
type run struct {
	topic     string
	partition int32
	records   []*kgo.Record
}

// Len is the number of messages.
func (b *Batch) Len() int { return b.count }

// Size returns totals over all messages: headers, bytes in topic names (counted once for a run of messages
// with the same string), and bytes in keys, values and headers.
func (b *Batch) Size() (headers, topics, bytes int) {
	for i := range b.runs {
		topics += len(b.runs[i].topic)
	}
	return b.headers, topics, b.bytes
}

// Runs returns the number of runs: consecutive messages of one topic and partition.
func (b *Batch) Runs() int { return len(b.runs) }

// All returns an iterator over the messages. The second value reports whether the message begins a run. The
// Message and its Headers slice are valid until the next iteration; the bytes stay valid.
func (b *Batch) All() iter.Seq2[*Message, bool] {
	return func(yield func(*Message, bool) bool) {
		var m Message
		var headers []record.Header
		for i := range b.runs {
			r := &b.runs[i]
			m.Topic, m.Partition = r.topic, r.partition
			for j, read := range r.records {
				m.Offset, m.Key, m.Value, m.Timestamp = read.Offset, read.Key, read.Value, read.Timestamp
				headers = headers[:0]
				for _, h := range read.Headers {
					headers = append(headers, record.Header{Name: h.Key, Value: h.Value})
				}
				m.Headers = headers
				if !yield(&m, j == 0) {
					return
				}
			}
		}
	}
}

// headerBytes is the cost of a header beside its bytes. The smallest header of Kafka has 2 bytes.
const headerBytes = 10

// add appends records of r up to most messages in the batch, and returns the number of appended records.
func (b *Batch) add(r run, most int) int {
	n := 0
	for ; n < len(r.records) && b.count < most; n++ {
		record := r.records[n]
		size := len(record.Key) + len(record.Value)
		for _, h := range record.Headers {
			size += len(h.Key) + len(h.Value)
		}
		if b.count > 0 && b.bytes+size+headerBytes*(b.headers+len(record.Headers)) > maxBatchBytes {
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

// after returns the messages from index n on.
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

// ends returns, for each partition with messages from index n up to m, the offset where its next reader
// begins.
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

// at returns topic, partition and record of message n.
func (b *Batch) at(n int) (topic string, partition int32, record *kgo.Record) {
	r := b.after(n)[0]
	return r.topic, r.partition, r.records[0]
}
