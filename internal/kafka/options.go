package kafka

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"reskafka/internal/config"
)

// Limits of the client library and of the protocol that an option of ours can run into.
const (
	maxClientID        = 256       // bytes; kgo refuses more
	maxWireBytes       = 1 << 30   // kgo's largest batch and largest request
	defaultWriteBytes  = 100 << 20 // Kafka's socket.request.max.bytes, and kgo's default
	minRequestTimeout  = 100 * time.Millisecond
	maxRequestTimeout  = 15 * time.Minute
	maxSetupTimeout    = 30 * time.Second       // librdkafka's socket.connection.setup.timeout.ms
	maxConnectTime     = 10 * time.Second       // of these, for TCP alone: Linux knocks again 1, 3, 7, 15 s after the first time, and less often the longer one waits
	minBackoff         = 10 * time.Millisecond  // with 0 kgo would spin
	metadataMinAge     = 250 * time.Millisecond // kgo's 5 s would be how long it takes to see that a broker is back
	minIdle            = 100 * time.Millisecond // kgo's
	maxIdle            = 15 * time.Minute       // and its most
	unknownTopicTime   = 30 * time.Second       // librdkafka's topic.metadata.propagation.max.ms
	maxBatchRecords    = 1000000                // librdkafka's largest batch.num.messages
	batchOverheadBytes = 128                    // a batch of one record is up to this much larger than librdkafka's 36 bytes say
	recordSlack        = 1 << 20                // a request of one record is less than this larger than message_max_bytes
	metadataMaxAge     = 5 * time.Minute        // librdkafka's topic.metadata.refresh.interval.ms: partitions may have been added
	retryBackoff       = 100 * time.Millisecond // librdkafka's retry.backoff.ms,
	retryBackoffMax    = time.Second            // and retry.backoff.max.ms
	windowRecords      = 20000                  // some batches of calls' records
	windowBytes        = 16 << 20
)

// clientOptions are the options every client of a connection has in common. net dials.
func clientOptions(c *config.Connection, net *dialer, logger kgo.Logger) ([]kgo.Opt, error) {
	opts := []kgo.Opt{
		kgo.SeedBrokers(c.Brokers...),
		kgo.ClientID(clientID(c.ClientID)),
		kgo.Dialer(net.dial),
		kgo.WithHooks(net),
		// The dialer's connections cut a read's deadline down to socket_timeout_ms; a write's is this.
		kgo.RequestTimeoutOverhead(clamp(c.SocketTimeout, minRequestTimeout, maxRequestTimeout)),
		kgo.RetryBackoffFn(exponential(c.ReconnectBackoff, c.ReconnectBackoffMax, rand.Float64)),
		kgo.ConnIdleTimeout(clamp(c.ConnectionsMaxIdle, minIdle, maxIdle)),
		kgo.AlwaysRetryEOF(),
		kgo.DisableClientMetrics(),
		kgo.WithLogger(logger),
	}
	mechanism, err := saslMechanism(c)
	if err != nil {
		return nil, err
	}
	if mechanism != nil {
		opts = append(opts, kgo.SASL(mechanism))
	}
	return opts, nil
}

// producerOptions are the options of a client that produces. The records' batches and requests are ours, so that they are few.
func producerOptions(c *config.Connection) []kgo.Opt {
	return []kgo.Opt{
		// A request has at most request_max_bytes, or one record.
		kgo.BrokerMaxWriteBytes(int32(clamp(max(c.MessageMaxBytes, c.RequestMaxBytes)+recordSlack, defaultWriteBytes, maxWireBytes))),
		kgo.ProduceRequestTimeout(requestTimeout(c)), // for acks = 0
		kgo.DisableIdempotentWrite(),                 // the numbering is ours too, and else acks is bound to be all
		kgo.RequiredAcks(acks(c.Acks)),
	}
}

func requestTimeout(c *config.Connection) time.Duration {
	return clamp(c.RequestTimeout, minRequestTimeout, maxRequestTimeout)
}

// batchMost is the most bytes a batch has, if it holds more than one record: batch_size, and message_max_bytes.
func batchMost(c *config.Connection) int {
	return clamp(min(c.BatchSize, c.MessageMaxBytes+batchOverheadBytes), 1, maxWireBytes)
}

// retryLimit is how often a broker may refuse a record for now. limited is false for any number.
func retryLimit(c *config.Connection) (n int, limited bool) {
	n = max(c.Retries, 0)
	return n, n < math.MaxInt32
}

// unknownTopicRetries is how many times unknownTopicTime holds metadataMinAge.
const unknownTopicRetries = int(unknownTopicTime / metadataMinAge)

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

// codec maps librdkafka's compression_level to the libraries under kgo, whose scales differ. -1 is the codec's default,
// but for zstd: there it is the fastest level, which makes of call records about what libzstd makes of them at its
// default, for two thirds of the work of the level that has the same name.
func codec(c *config.Connection) (kgo.CompressionCodecType, kgo.CompressionCodec) {
	level := c.CompressionLevel
	switch c.CompressionCodec {
	case "gzip":
		switch {
		case level == 0:
			// Level 0 stores without compressing. A batch that compression did not shrink is sent uncompressed, so this
			// is the same.
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

// saslMechanism is the one mechanism of a connection, nil for a protocol without SASL. kgo would fall back from one to
// another; a single one keeps a password from being offered in a weaker way than configured.
func saslMechanism(c *config.Connection) (sasl.Mechanism, error) {
	if !strings.HasPrefix(c.SecurityProtocol, "sasl_") {
		return nil, nil
	}
	if c.SASLUsername == "" || c.SASLPassword == "" {
		return nil, fmt.Errorf("security_protocol = %s needs sasl_username and sasl_password", c.SecurityProtocol)
	}
	user, password := c.SASLUsername, c.SASLPassword.Reveal()
	switch c.SASLMechanism {
	case "PLAIN":
		return plain.Auth{User: user, Pass: password}.AsMechanism(), nil
	case "SCRAM-SHA-256":
		return boundedSCRAM{scram.Auth{User: user, Pass: password}.AsSha256Mechanism()}, nil
	case "SCRAM-SHA-512":
		return boundedSCRAM{scram.Auth{User: user, Pass: password}.AsSha512Mechanism()}, nil
	case "":
		return nil, fmt.Errorf("security_protocol = %s needs sasl_mechanisms", c.SecurityProtocol)
	default:
		return nil, fmt.Errorf("sasl_mechanisms = %s is not one of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512", c.SASLMechanism)
	}
}

// exponential is the wait before the next attempt after so many failures in a row: base doubled each time up to
// ceiling, jittered by -25 to +50 % as librdkafka does so that many clients do not come back at the same moment.
// random gives numbers in [0,1).
func exponential(base, ceiling time.Duration, random func() float64) func(failures int) time.Duration {
	base = max(base, minBackoff)
	ceiling = max(ceiling, base)
	return func(failures int) time.Duration {
		wait := base
		for range failures - 1 {
			if wait *= 2; wait >= ceiling {
				wait = ceiling
				break
			}
		}
		wait = time.Duration(float64(wait) * (0.75 + 0.75*random()))
		return min(wait, ceiling)
	}
}

func clientID(id string) string { return id[:min(len(id), maxClientID)] }

func clamp[T int | time.Duration](v, low, high T) T { return min(max(v, low), high) }
