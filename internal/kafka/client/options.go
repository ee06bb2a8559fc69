package client

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"reskafka/internal/config"
)

// Limits of the client library and of the protocol in reach of our options. The source is kgo.Opt's
// documentation unless named otherwise.
const (
	MaxClientID       = 256       // bytes; kgo refuses more
	MaxWireBytes      = 1 << 30   // kgo's largest batch and largest request
	DefaultWriteBytes = 100 << 20 // Kafka's socket.request.max.bytes, and kgo's default
	MinRequestTimeout = 100 * time.Millisecond
	MaxRequestTimeout = 15 * time.Minute
	maxSetupTimeout   = 30 * time.Second       // librdkafka's socket.connection.setup.timeout.ms
	maxConnectTime    = 10 * time.Second       // of these, for TCP alone: Linux retries after 1, 3, 7, 15 s
	minBackoff        = 10 * time.Millisecond  // with 0 kgo would spin
	MetadataMinAge    = 250 * time.Millisecond // with kgo's 5 s, a returning broker would be seen late
	minIdle           = 100 * time.Millisecond // kgo's
	maxIdle           = 15 * time.Minute       // and its maximum
)

// Options returns the common options of all clients of a connection. An error names the wrong option.
func Options(c *config.Connection, net *Dialer, logger kgo.Logger) ([]kgo.Opt, error) {
	opts := []kgo.Opt{
		kgo.SeedBrokers(c.Brokers...),
		kgo.ClientID(ClientID(c.ClientID)),
		kgo.Dialer(net.Dial),
		kgo.WithHooks(net),
		// The dialer's connections cut a read's deadline down to socket_timeout_ms; a write's is this.
		kgo.RequestTimeoutOverhead(Clamp(c.SocketTimeout, MinRequestTimeout, MaxRequestTimeout)),
		kgo.RetryBackoffFn(Backoff(c.ReconnectBackoff, c.ReconnectBackoffMax, rand.Float64)),
		kgo.ConnIdleTimeout(Clamp(c.ConnectionsMaxIdle, minIdle, maxIdle)),
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

// RequestTimeout returns request_timeout_ms within the limits of the client library.
func RequestTimeout(c *config.Connection) time.Duration {
	return Clamp(c.RequestTimeout, MinRequestTimeout, MaxRequestTimeout)
}

// saslMechanism returns the mechanism of a connection, nil for a protocol without SASL. With several
// mechanisms kgo would fall back; a single mechanism prevents a weaker login than configured.
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

// Backoff returns the wait before the next attempt after a number of failures in a row: base doubled each
// time up to ceiling, with a jitter of -25 to +50 % like librdkafka's, so clients do not return at the same
// moment. random returns numbers in [0,1).
func Backoff(base, ceiling time.Duration, random func() float64) func(failures int) time.Duration {
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

// ClientID returns client_id, cut to the limit of the client library.
func ClientID(id string) string { return id[:min(len(id), MaxClientID)] }

// Clamp returns the number from low to high nearest to v.
func Clamp[T int | time.Duration](v, low, high T) T { return min(max(v, low), high) }
