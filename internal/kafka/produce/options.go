package produce

import (
	"math"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/twmb/franz-go/pkg/kgo"

	"reskafka/internal/config"
	"reskafka/internal/kafka/client"
)

// Limits of a producing client.
const (
	unknownTopicTime   = 30 * time.Second       // librdkafka's topic.metadata.propagation.max.ms
	maxBatchRecords    = 1000000                // librdkafka's largest batch.num.messages
	batchOverheadBytes = 128                    // allowance for a batch of one record beyond librdkafka's 36 bytes
	recordSlack        = 1 << 20                // allowance for a request of one record beyond message_max_bytes
	metadataMaxAge     = 5 * time.Minute        // librdkafka's topic.metadata.refresh.interval.ms: partitions may have been added
	retryBackoff       = 100 * time.Millisecond // librdkafka's retry.backoff.ms,
	retryBackoffMax    = time.Second            // and retry.backoff.max.ms
	windowRecords      = 20000                  // some batches of calls' records
	windowBytes        = 16 << 20
	minProduceVersion  = 3 // the first with the format of our batches, Kafka 0.11
)

// producerOptions returns the options of a producing client. The producer makes its own batches and requests,
// so the options are few.
func producerOptions(c *config.Connection) []kgo.Opt {
	return []kgo.Opt{
		// A request has at most request_max_bytes, or one record.
		kgo.BrokerMaxWriteBytes(int32(client.Clamp(max(c.MessageMaxBytes, c.RequestMaxBytes)+recordSlack, client.DefaultWriteBytes, client.MaxWireBytes))),
		kgo.ProduceRequestTimeout(client.RequestTimeout(c)), // for acks = 0
		kgo.DisableIdempotentWrite(),                        // the numbering is ours too, and else acks is bound to be all
		kgo.RequiredAcks(acks(c.Acks)),
	}
}

// batchMost is the limit of a batch with several records, bytes: batch_size, and message_max_bytes.
func batchMost(c *config.Connection) int {
	return client.Clamp(min(c.BatchSize, c.MessageMaxBytes+batchOverheadBytes), 1, client.MaxWireBytes)
}

// retryLimit is how often a broker may refuse a record for now. limited is false for any number.
func retryLimit(c *config.Connection) (n int, limited bool) {
	n = max(c.Retries, 0)
	return n, n < math.MaxInt32
}

// unknownTopicRetries is how many times unknownTopicTime holds client.MetadataMinAge.
const unknownTopicRetries = int(unknownTopicTime / client.MetadataMinAge)

func acks(n int) kgo.Acks {
	switch n {
	case 0:
		return kgo.NoAck()
	case 1:
		return kgo.LeaderAck()
	default:
		return kgo.AllISRAcks()
	}
}

// codec converts librdkafka's compression_level to the scales of kgo's libraries. -1 is the codec's default,
// except for zstd: there -1 is the fastest level. For call records this level compresses about as well as
// libzstd's default, with two thirds of the work of the level of the same name.
func codec(c *config.Connection) (kgo.CompressionCodecType, kgo.CompressionCodec) {
	level := c.CompressionLevel
	switch c.CompressionCodec {
	case "gzip":
		switch {
		case level == 0:
			// Level 0 stores without compression. A batch no smaller after compression is sent uncompressed,
			// so both are the same.
			return kgo.CodecNone, kgo.NoCompression()
		case level < 0:
			return kgo.CodecGzip, kgo.GzipCompression()
		}
		return kgo.CodecGzip, kgo.GzipCompression().WithLevel(min(level, 9))
	case "snappy":
		return kgo.CodecSnappy, kgo.SnappyCompression() // knows no levels
	case "lz4":
		if level < 3 {
			return kgo.CodecLz4, kgo.Lz4Compression() // the fast mode, as below librdkafka's 3
		}
		return kgo.CodecLz4, kgo.Lz4Compression().WithLevel(1 << (8 + min(level, 9))) // lz4.Level1 is 1<<9
	case "zstd":
		if level < 0 {
			level = 1
		}
		return kgo.CodecZstd, kgo.ZstdCompression().WithLevel(int(zstd.EncoderLevelFromZstd(level)))
	default:
		return kgo.CodecNone, kgo.NoCompression()
	}
}
