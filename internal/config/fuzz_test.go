package config_test

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"reskafka/internal/config"
	"reskafka/internal/config/configtest"
)

// opensFiles reports whether a text could name existing files. A path is the file system's business, not the
// parser's: /dev/zero would never end.
func opensFiles(text string) bool {
	return strings.Contains(text, "location") && !strings.Contains(text, "/nonexistent/")
}

// FuzzParseKafka reads arbitrary text as kafka.conf. Nothing panics. Sections are left out only because of an
// error. Every problem is a line with a place, in the order of the file and without a password. Every value
// of a configuration is within the range of its row.
func FuzzParseKafka(f *testing.F) {
	good, err := filepath.Glob("testdata/kafka/good/*.conf")
	if err != nil || len(good) == 0 {
		f.Fatal("no files to start from", err)
	}
	for _, path := range good {
		text, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	for _, o := range oddKafka(f) {
		f.Add(o.Text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if opensFiles(text) {
			return
		}
		entries := configtest.Read(text)
		cfg, problems := config.ParseKafka(entries)
		checkProblems(t, "kafka.conf", problems)
		for _, p := range problems {
			if strings.Contains(p.String(), password) && secretsOnly(entries) {
				t.Errorf("problem %q shows a password", p)
			}
		}
		checkKafka(t, cfg, problems)
	})
}

// checkKafka checks that errors leave a section out, that nothing else does, and that usable values are in
// range.
func checkKafka(t *testing.T, cfg *config.Kafka, problems []config.Problem) {
	t.Helper()
	cost := len(cfg.LeftOut)
	for _, c := range cfg.Connections {
		checkRanges(t, c)
		if c.NoProducer != "" || c.NoConsumer != "" {
			cost++
		}
	}
	if cost > 0 && !config.HasErrors(problems) {
		t.Errorf("%v is left out, problems %v", cfg.LeftOut, problems)
	}
}

// checkProblems checks that every problem is a line with a place in the file.
func checkProblems(t *testing.T, file string, problems []config.Problem) {
	t.Helper()
	for _, p := range problems {
		line := p.String()
		if !strings.HasPrefix(line, file+":") || strings.ContainsFunc(line, unicode.IsControl) {
			t.Errorf("problem %q", line)
		}
	}
}

// secretsOnly reports whether the password occurs only in options for passwords.
func secretsOnly(entries []config.Entry) bool {
	for _, e := range entries {
		if !strings.EqualFold(e.Name, "sasl_password") && strings.Contains(e.Section+e.Name+e.Value, password) {
			return false
		}
	}
	return true
}

// checkRanges compares the shown settings of a connection with the rows of the table.
func checkRanges(t *testing.T, c *config.Connection) {
	t.Helper()
	shown := map[string]string{}
	for _, s := range c.Settings() {
		shown[s.Label] = s.Value
	}
	for _, o := range connectionOptions(t) {
		value := shown[o.Label]
		var words []string
		for _, w := range o.Words {
			words = append(words, w.Text)
		}
		switch o.Kind {
		case config.Number, config.Milliseconds:
			n, err := strconv.ParseInt(strings.TrimSuffix(value, " ms"), 10, 64)
			if err != nil || n < o.Min || n > o.Max || words != nil && !slices.Contains(words, value) {
				t.Errorf("%s = %s", o.Name, value)
			}
		case config.Enumeration:
			if o.Name != "type" && !slices.Contains(words, value) && value != o.Default {
				t.Errorf("%s = %s", o.Name, value)
			}
		case config.WordList:
			for word := range strings.SplitSeq(value, ",") {
				if word != "" && !slices.Contains(words, word) {
					t.Errorf("%s = %s", o.Name, value)
				}
			}
		case config.BrokerList:
			again := reread(t, value, c.SecurityProtocol)
			if len(c.Brokers) == 0 || !reflect.DeepEqual(again.Brokers, c.Brokers) {
				t.Errorf("%s = %s is %q, read again %q", o.Name, value, c.Brokers, again.Brokers)
			}
		case config.SecretText:
			if value != "" && value != "***" {
				t.Errorf("%s is shown", o.Name)
			}
		case config.Text:
			if o.Max > 0 && int64(len(value)) > o.Max {
				t.Errorf("%s has %d bytes", o.Name, len(value))
			}
		}
	}
	produces := c.NoProducer == "" && (c.Linger >= c.MessageTimeout || c.Idempotence && (c.Acks != -1 || c.Retries == 0))
	consumes := c.NoConsumer == "" && c.GroupID != "" && c.MaxPollInterval < c.SessionTimeout
	if produces || consumes || c.ReconnectBackoffMax < c.ReconnectBackoff {
		t.Errorf("options contradict each other: %+v", c)
	}
}

// reread parses a shown list of brokers as the value of an option.
func reread(t *testing.T, brokers, protocol string) *config.Connection {
	t.Helper()
	entries := []config.Entry{{File: "kafka.conf", Section: "again"}}
	for i, option := range [][2]string{
		{"type", "connection"}, {"brokers", brokers}, {"security_protocol", protocol}, {"sasl_mechanisms", "PLAIN"},
		{"sasl_username", "u"}, {"sasl_password", "p"},
	} {
		entries = append(entries, config.Entry{File: "kafka.conf", Line: i + 1, Section: "again", Name: option[0], Value: option[1]})
	}
	cfg, problems := config.ParseKafka(entries)
	if cfg == nil || len(cfg.Connections) != 1 {
		t.Fatalf("brokers = %q are shown and cannot be read again: %v", brokers, problems)
	}
	return cfg.Connections[0]
}

// FuzzOptionValue sets an option of a connection to any value: an accepted value is within the range of its
// row, and a refused value is a problem on its line.
func FuzzOptionValue(f *testing.F) {
	names := make([]string, 0, 64)
	for i, o := range connectionOptions(f) {
		names = append(names, o.Name)
		f.Add(i, o.Default)
	}
	for i, value := range []string{"0", "-1", "1e9", "99999999999999999999", "[::1]:9092,b:1", "a:0", ",", "YES", "zstd, ", "\x00\xff"} {
		f.Add(i*7, value)
	}
	f.Fuzz(func(t *testing.T, option int, value string) {
		name := names[((option%len(names))+len(names))%len(names)]
		if strings.HasSuffix(name, "_location") && !strings.HasPrefix(value, "/nonexistent/") {
			return // opensFiles says why
		}
		entries := []config.Entry{
			{File: "kafka.conf", Line: 1, Section: "c"},
			{File: "kafka.conf", Line: 2, Section: "c", Name: "type", Value: "connection"},
			{File: "kafka.conf", Line: 3, Section: "c", Name: name, Value: value},
		}
		cfg, problems := config.ParseKafka(entries)
		checkProblems(t, "kafka.conf", problems)
		checkKafka(t, cfg, problems)
	})
}

// FuzzParseCDR reads arbitrary text as cdr_kafka.conf. Nothing panics. There is a configuration if and only
// if no problem is an error. Every problem is a line with a place.
func FuzzParseCDR(f *testing.F) {
	_, table := oddFiles(f)
	for _, o := range table {
		if o.File == config.CDRFile.Name {
			f.Add(o.Text)
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		cfg, problems := config.ParseCDR(configtest.Read(text))
		checkProblems(t, "cdr_kafka.conf", problems)
		if (cfg == nil) != config.HasErrors(problems) {
			t.Fatalf("configuration %+v, problems %v", cfg, problems)
		}
		if cfg != nil && (cfg.Connection == "" || config.TopicFault(cfg.Topic) != "") {
			t.Errorf("connection %q, topic %q", cfg.Connection, cfg.Topic)
		}
	})
}
