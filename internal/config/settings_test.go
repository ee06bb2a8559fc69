package config_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"reskafka/internal/config"
	"reskafka/internal/config/configtest"
)

// parse returns the only connection of a text without problems.
func parse(t *testing.T, text string) *config.Connection {
	t.Helper()
	cfg, problems := config.ParseKafka(configtest.Read(text))
	if cfg == nil || len(cfg.Connections) != 1 {
		t.Fatalf("got %v with %v", cfg, problems)
	}
	return cfg.Connections[0]
}

func TestSettings(t *testing.T) {
	c := parse(t, `[my-kafka]
type = connection
brokers = kafka1:9092 , kafka2,
debug = broker, security
enable_idempotence = yes
security_protocol = sasl_ssl
sasl_mechanisms = PLAIN
sasl_username = asterisk
sasl_password = hunter2-5f3a
`)
	var b strings.Builder
	for _, s := range c.Settings() {
		fmt.Fprintf(&b, "%-18s %s\n", s.Label+":", s.Value)
	}
	want, err := os.ReadFile("testdata/settings.golden")
	if *update {
		want, err = []byte(b.String()), os.WriteFile("testdata/settings.golden", []byte(b.String()), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Errorf("got:\n%swant:\n%s", b.String(), want)
	}
	if got := c.BrokersText(); got != "kafka1:9092,kafka2" {
		t.Errorf("brokers %q", got)
	}
	if got := (&config.Connection{Brokers: []string{"a:1", "b:2"}}).BrokersText(); got != "a:1,b:2" {
		t.Errorf("brokers of a connection made by hand: %q", got)
	}
}

// TestChangedFiles checks that a file renewed under its old name counts as changed, and a file rewritten with
// the same content does not.
func TestChangedFiles(t *testing.T) {
	first, second, dir := configtest.Keys(t), configtest.Keys(t), t.TempDir()
	put := func(from string, names ...string) {
		for _, name := range names {
			text, err := os.ReadFile(filepath.Join(from, name))
			if err == nil {
				err = os.WriteFile(filepath.Join(dir, name), text, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	text := strings.ReplaceAll("[a]\ntype = connection\nsecurity_protocol = ssl\nssl_ca_location = @/ca.pem\n"+
		"ssl_certificate_location = @/client.pem\nssl_key_location = @/client.key\n", "@", dir)
	put(first, "ca.pem", "client.pem", "client.key")
	before := parse(t, text)
	for _, test := range []struct {
		from  string
		files []string
		want  string
	}{
		{first, []string{"ca.pem", "client.pem", "client.key"}, ""},
		{second, []string{"ca.pem"}, "ssl_ca_location "},
		{second, []string{"client.pem", "client.key"}, "ssl_ca_location ssl_certificate_location ssl_key_location "},
	} {
		put(test.from, test.files...)
		var got string
		for _, o := range before.Changed(parse(t, text)) {
			got += o.Name + " "
		}
		if got != test.want {
			t.Errorf("%v of %s: changed %q, want %q", test.files, test.from, got, test.want)
		}
	}
}

func TestChanged(t *testing.T) {
	const text = "[a]\ntype = connection\nbrokers = kafka1\nlinger_ms = 7\n"
	before := parse(t, text)
	for _, same := range []string{
		"\n\n" + text,
		"[a]\ntype = connection\nbrokers = kafka1:9092\nlinger_ms = 7\nclient_id = asterisk\n",
	} {
		if changed := before.Changed(parse(t, same)); len(changed) > 0 {
			t.Errorf("%q changes %s", same, changed[0].Name)
		}
	}
	changed := before.Changed(parse(t, "[a]\ntype = connection\nbrokers = kafka2\nlinger_ms = 7\nretries = 3\n"))
	if len(changed) != 2 || changed[0].Name != "brokers" || changed[1].Name != "retries" {
		t.Errorf("changed: %v", changed)
	}
}
