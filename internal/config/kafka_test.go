package config_test

import (
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"reskafka/internal/config"
	"reskafka/internal/config/configtest"
)

// standard is a connection of which nothing was set: the defaults, spelled out.
func standard(name string, line int) *config.Connection {
	return &config.Connection{
		Name: name, File: "kafka.conf", Line: line,
		Brokers:             []string{"localhost:9092"},
		ClientID:            "asterisk",
		RequestTimeout:      5 * time.Second,
		MessageTimeout:      300 * time.Second,
		SocketTimeout:       10 * time.Second,
		ConnectionsMaxIdle:  180 * time.Second,
		ReconnectBackoff:    100 * time.Millisecond,
		ReconnectBackoffMax: 10 * time.Second,
		SecurityProtocol:    "plaintext",
		HostCheck:           "https",
		MessageMaxBytes:     1000000,
		CompressionCodec:    "none",
		CompressionLevel:    -1,
		Linger:              5 * time.Millisecond,
		BatchNumMessages:    10000,
		BatchSize:           1000000,
		RequestMaxBytes:     1000000,
		QueueMaxMessages:    100000,
		QueueMaxKbytes:      1048576,
		Acks:                -1,
		Retries:             2147483647,
		Durability:          "overflow",
		SpoolMaxMbytes:      1024,
		SpoolSync:           "interval",
		SpoolFull:           "refuse",
		FlushTimeout:        500 * time.Millisecond,
		AutoOffsetReset:     "latest",
		AutoCommit:          true,
		AutoCommitInterval:  5 * time.Second,
		SessionTimeout:      45 * time.Second,
		MaxPollInterval:     300 * time.Second,
	}
}

// like is the standard connection with something changed.
func like(name string, line int, change func(*config.Connection)) *config.Connection {
	c := standard(name, line)
	change(c)
	return c
}

// goodKafka returns the meaning of each file of testdata/kafka/good; dir is the folder of keys.
func goodKafka(dir string) map[string]*config.Kafka {
	enabled := func(connections ...*config.Connection) *config.Kafka {
		return &config.Kafka{Enabled: true, Connections: connections}
	}
	reset := func(name string, line int, to string) *config.Connection {
		return like(name, line, func(c *config.Connection) { c.AutoOffsetReset = to })
	}
	return map[string]*config.Kafka{
		"empty":    enabled(),
		"disabled": {Enabled: false},
		"defaults": enabled(standard("my-kafka", 2)),
		"unset":    enabled(standard("my-kafka", 3)),
		"poll_interval_below_session": enabled(like("billing", 3, func(c *config.Connection) {
			c.SessionTimeout, c.MaxPollInterval = 30*time.Second, 20*time.Second
		})),
		"backoff": enabled(like("my-kafka", 3, func(c *config.Connection) {
			c.ReconnectBackoff, c.ReconnectBackoffMax = 30*time.Second, 30*time.Second
		})),
		"synonyms": enabled(reset("a", 2, "earliest"), reset("b", 5, "latest"), reset("c", 8, "latest"),
			reset("d", 11, "none")),
		"synonyms_spool": enabled(standard("a", 2), like("b", 5, func(c *config.Connection) {
			c.SpoolSync, c.SpoolFull = "none", "drop_oldest"
		})),
		"templates": enabled(
			like("billing", 10, func(c *config.Connection) {
				c.Brokers = []string{"kafka1:9092", "kafka2:9092"}
				c.Linger, c.ClientID, c.Acks = 50*time.Millisecond, "billing", 1
			}),
			like("events", 13, func(c *config.Connection) {
				c.Brokers = []string{"kafka1:9092", "kafka2:9092"}
				c.Linger = time.Millisecond
			})),
		"security": enabled(like("secure", 3, func(c *config.Connection) {
			c.Brokers = []string{"kafka1:9093"}
			c.SecurityProtocol, c.SASLMechanism = "sasl_ssl", "SCRAM-SHA-512"
			c.SASLUsername, c.SASLPassword = "asterisk", "hunter2;5f3a"
			c.CAFile = filepath.Join(dir, "authorities")
			c.CertificateFile, c.KeyFile = filepath.Join(dir, "expired.pem"), filepath.Join(dir, "expired.key")
			c.HostCheck = "none"
		})),
		"everything": enabled(&config.Connection{
			Name: "my-kafka", File: "kafka.conf", Line: 5,
			Brokers:             []string{"kafka1:9092", "[2001:db8::7]:9093", "[::1]:9092", "10.0.0.7:9094"},
			ClientID:            "pbx 1",
			RequestTimeout:      6 * time.Second,
			MessageTimeout:      time.Minute,
			SocketTimeout:       20 * time.Second,
			ConnectionsMaxIdle:  50 * time.Second,
			ReconnectBackoff:    10 * time.Millisecond,
			ReconnectBackoffMax: 2 * time.Second,
			SecurityProtocol:    "plaintext",
			HostCheck:           "https",
			MessageMaxBytes:     2000000,
			CompressionCodec:    "zstd",
			CompressionLevel:    12,
			Linger:              0,
			BatchNumMessages:    100,
			BatchSize:           1,
			RequestMaxBytes:     500000,
			QueueMaxMessages:    10,
			QueueMaxKbytes:      1,
			Acks:                1,
			Retries:             0,
			Idempotence:         false,
			Durability:          "disk",
			SpoolDir:            "/srv/spool/kafka",
			SpoolMaxMbytes:      2,
			SpoolSync:           "always",
			SpoolFull:           "drop_oldest",
			SpoolMaxHours:       72,
			FlushTimeout:        0,
			GroupID:             "asterisk-group",
			AutoOffsetReset:     "earliest",
			AutoCommit:          false,
			AutoCommitInterval:  100 * time.Millisecond,
			SessionTimeout:      6 * time.Second,
			MaxPollInterval:     6 * time.Second,
			Debug:               []string{"broker", "security"},
		}),
	}
}

func TestGoodKafka(t *testing.T) {
	dir := configtest.Keys(t)
	files, err := filepath.Glob("testdata/kafka/good/*.conf")
	if err != nil {
		t.Fatal(err)
	}
	want := goodKafka(dir)
	if len(files) != len(want) {
		t.Errorf("%d files, %d expectations", len(files), len(want))
	}
	for name, want := range want {
		t.Run(name, func(t *testing.T) {
			got, problems := config.ParseKafka(read(t, "testdata/kafka/good/"+name+".conf", dir))
			for _, p := range problems {
				t.Error(p)
			}
			if got == nil {
				t.Fatal("no configuration")
			}
			if got.Enabled != want.Enabled || len(got.Connections) != len(want.Connections) {
				t.Fatalf("got %+v, want %+v", got, want)
			}
			for i, c := range got.Connections {
				equal(t, c, want.Connections[i])
			}
		})
	}
}

// equal compares the exported parts of two connections; TestSettings compares the text of the brokers.
func equal(t *testing.T, got, want *config.Connection) {
	t.Helper()
	g, w := reflect.ValueOf(*got), reflect.ValueOf(*want)
	for i := range g.NumField() {
		field := g.Type().Field(i)
		if !field.IsExported() {
			continue
		}
		if a, b := g.Field(i).Interface(), w.Field(i).Interface(); !reflect.DeepEqual(a, b) {
			t.Errorf("[%s] %s: got %v, want %v", got.Name, field.Name, a, b)
		}
	}
}

// The defaults are the same for an empty section and for a section with every option at its default.
func TestDefaultsWrittenOut(t *testing.T) {
	text := "[my-kafka]\n"
	for _, o := range connectionOptions(t) {
		value := o.Default
		if o.Name == "type" {
			value = "connection"
		}
		text += o.Name + " = " + value + "\n"
	}
	cfg, problems := config.ParseKafka(configtest.Read(text))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	equal(t, cfg.Connections[0], standard("my-kafka", 2))
}

// A top-level entry has no file; an entry of an included file names the file.
func TestFileOfAnInclude(t *testing.T) {
	_, problems := config.ParseKafka([]config.Entry{
		{Section: "billing"},
		{File: "billing.conf", Line: 7, Section: "billing", Name: "type", Value: "connection"},
		{File: "billing.conf", Line: 8, Section: "billing", Name: "linger_ms", Value: "soon"},
		{Line: 3, Section: "billing", Name: "acks", Value: "some"},
	})
	want := []string{
		"billing.conf:8: [billing] linger_ms = soon is not a whole number of milliseconds; give 0 to 60000 (default 5)",
		"kafka.conf:3: [billing] acks = some is not a whole number; give -1, 0 or 1 (default -1)",
	}
	if got := lines(problems); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func lines(problems []config.Problem) []string {
	var out []string
	for _, p := range problems {
		out = append(out, p.String())
	}
	return out
}

func connectionOptions(t testing.TB) []*config.Info {
	t.Helper()
	for _, s := range config.KafkaFile.Sections {
		if s.Typed {
			return s.Options
		}
	}
	t.Fatal("kafka.conf has no connections")
	return nil
}
