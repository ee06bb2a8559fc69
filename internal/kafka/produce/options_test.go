package produce

import (
	"bytes"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"reskafka/internal/config"
	"reskafka/test/kafkatest"
)

// TestOptions compares the client's options with those of the connection.
func TestOptions(t *testing.T) {
	type change = func(*config.Connection)
	for _, test := range []struct {
		name   string
		change change
		option any
		want   any
	}{
		{"brokers", func(c *config.Connection) { c.Brokers = []string{"a:1", "[::1]:2"} }, kgo.SeedBrokers, []string{"a:1", "[::1]:2"}},
		{"client_id", func(c *config.Connection) { c.ClientID = "" }, kgo.ClientID, ""},
		{"request_timeout_ms", func(c *config.Connection) { c.RequestTimeout = 1500 * time.Millisecond }, kgo.ProduceRequestTimeout, 1500 * time.Millisecond},
		{"request_timeout_ms too short for kgo", func(c *config.Connection) { c.RequestTimeout = 1 }, kgo.ProduceRequestTimeout, 100 * time.Millisecond},
		{"socket_timeout_ms", func(c *config.Connection) { c.SocketTimeout = 7 * time.Second }, kgo.RequestTimeoutOverhead, 7 * time.Second},
		{"message_max_bytes at its largest", func(c *config.Connection) { c.MessageMaxBytes = 1e9 }, kgo.BrokerMaxWriteBytes, int32(1e9 + recordSlack)},
		{"message_max_bytes as usual", func(*config.Connection) {}, kgo.BrokerMaxWriteBytes, int32(100 << 20)},
		{"acks", func(c *config.Connection) { c.Acks = 0 }, kgo.RequiredAcks, kgo.NoAck()},
		{"enable_idempotence is not the library's", func(c *config.Connection) { c.Idempotence = true }, kgo.DisableIdempotentWrite, true},
		{"connections_max_idle_ms", func(c *config.Connection) { c.ConnectionsMaxIdle = 50 * time.Second }, kgo.ConnIdleTimeout, 50 * time.Second},
	} {
		c := kafkatest.Connection("127.0.0.1:1")
		test.change(c)
		got := open(t, c, nil, nil).client.OptValue(test.option)
		if !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: %T %v, want %T %v", test.name, got, got, test.want, test.want)
		}
	}
}

// TestCompressionLevels verifies librdkafka's scale of levels: the libraries of kgo have other numbers, and
// silently use the default for a wrong one.
func TestCompressionLevels(t *testing.T) {
	var text bytes.Buffer
	for i := range 4000 {
		fmt.Fprintf(&text, `{"uniqueid":"1700000%03d.%d","src":"+4930%06d","dst":"%x"}`, i%977, i, i*7919%1000000, int64(i*i)*2654435761)
	}
	size := func(name string, level int) int {
		c := kafkatest.Connection()
		c.CompressionCodec, c.CompressionLevel = name, level
		compressor, err := newCompression(c)
		if err != nil {
			t.Fatal(err)
		}
		if compressor == nil {
			return text.Len()
		}
		return len(compressor.append(nil, text.Bytes()))
	}
	for _, test := range []struct {
		codec            string
		weak, same, best int
	}{
		{"gzip", 1, 5, 9}, {"lz4", 2, 0, 12}, {"zstd", 1, 1, 12},
	} {
		weak, standard, best := size(test.codec, test.weak), size(test.codec, -1), size(test.codec, test.best)
		if best >= weak || best > standard || weak >= text.Len() {
			t.Errorf("%s: %d bytes at level %d, %d at -1, %d at %d, of %d",
				test.codec, weak, test.weak, standard, best, test.best, text.Len())
		}
		if same := size(test.codec, test.same); same != standard {
			t.Errorf("%s: %d bytes at level %d, %d at -1", test.codec, same, test.same, standard)
		}
	}
	if got := size("gzip", 0); got != text.Len() {
		t.Errorf("gzip 0 compresses to %d", got)
	}
	if size("gzip", 12) != size("gzip", 9) || size("lz4", 9) != size("lz4", 12) || size("lz4", 3) >= size("lz4", 2) {
		t.Error("levels at the ends of the scale differ")
	}
	if got := size("snappy", 5); got >= text.Len() || got != size("snappy", -1) {
		t.Errorf("snappy compresses to %d", got)
	}
}
