package scenario

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"reskafka/internal/config/configtest"
)

// logged is a line of Asterisk's log that the engine wrote about a configuration file: its level and its text.
var logged = regexp.MustCompile(`(WARNING|ERROR)\[\d+\](?:\[C-[0-9a-f]+\])? \S+: (kafka\.conf:(?:\d+:)? \[.*)$`)

// TestFaultyConfigurations reloads every faulty file of the configuration's own tests in a running Asterisk: the log
// says what its golden file says, and the configuration before still produces.
func TestFaultyConfigurations(t *testing.T) {
	const folder = "../../internal/config/testdata/kafka"
	files, err := filepath.Glob(filepath.Join(folder, "*.conf"))
	if err != nil || len(files) < 30 {
		t.Fatalf("%d faulty files, %v", len(files), err)
	}
	keys := configtest.Keys(t)
	w := newWorld(t, options{modules: []string{"res_kafka"}})
	w.expect(`sent successfully`, "kafka test send connection one topic t message before")
	sent := 1
	for _, path := range files {
		name := strings.TrimSuffix(filepath.Base(path), ".conf")
		faulty, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		golden, err := os.ReadFile(strings.TrimSuffix(path, ".conf") + ".golden")
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(golden), "error: ") {
			continue // only warnings: it would be taken
		}
		if err := w.pbx.WriteFile("kafka.conf", strings.ReplaceAll(string(faulty), "@DIR@", keys)); err != nil {
			t.Fatal(err)
		}
		before := len(w.pbx.LogLines())
		w.expect(`reported a reload failure`, "module reload res_kafka.so")
		// Asterisk writes its log from a thread of its own, a moment later.
		got := ""
		for deadline := time.Now().Add(patience); strings.Count(got, "\n") < strings.Count(string(golden), "\n") && time.Now().Before(deadline); {
			got = ""
			for _, line := range w.pbx.LogLines()[before:] {
				if m := logged.FindStringSubmatch(line); m != nil {
					got += strings.ToLower(m[1]) + ": " + strings.ReplaceAll(m[2], keys, "@DIR@") + "\n"
				}
			}
		}
		if got != string(golden) {
			t.Errorf("%s: the log says\n%swant\n%s", name, got, golden)
		}
		sent++
		if printed := w.cli("kafka test send connection one topic t message after-%s", name); !strings.Contains(printed, "sent successfully") {
			t.Errorf("after the faulty %s: %s", name, printed)
		}
	}
	if sent < 31 {
		t.Errorf("only %d files were refused", sent-1)
	}
	w.read("t", sent)
}

func TestReloadInMidTraffic(t *testing.T) { everywhere(t, reloadInMidTraffic) }

func reloadInMidTraffic(t *testing.T, on kind) {
	w := newWorld(t, options{on: on, modules: []string{"res_kafka", "kafka_probe"}, parts: 1})
	topic := w.name("t")
	write := func(text string) {
		if err := w.pbx.WriteFile("kafka.conf", w.filled(text)); err != nil {
			t.Fatal(err)
		}
		w.cli("module reload res_kafka.so")
	}
	w.cli("kafka probe hold one")
	path := w.probeFile([2][]byte{[]byte("k"), []byte("v")})
	w.expect(`accepted 1`, "kafka probe file one %s %s", topic, path)

	write("[one]\ntype = connection\nbrokers = %BROKER%\nlinger_ms = 1\nmessage_max_bytes = 2000\n\n[two]\ntype = connection\nbrokers = %BROKER%\n")
	w.expect(`produce -1`, "kafka probe size one %s 3000", topic)
	w.expect(`accepted 1`, "kafka probe file one %s %s", topic, path)
	w.expect(`accepted 1`, "kafka probe file two %s %s", topic, path)
	w.expect(`two +127`, "kafka show status")
	w.acknowledged("one", 2)

	write("[two]\ntype = connection\nbrokers = %BROKER%\n")
	w.expect(`no producer`, "kafka probe file one %s %s", topic, path)
	w.expect(`^Error: No connection named one`, "kafka show connection one")

	write("[general]\nenabled = no\n\n[one]\ntype = connection\nbrokers = %BROKER%\n")
	w.expect(`(?i)disabled`, "kafka show status")
	w.expect(`no producer`, "kafka probe file two %s %s", topic, path)

	write("[one]\ntype = connection\nbrokers = %BROKER%\n")
	w.expect(`accepted 1`, "kafka probe file one %s %s", topic, path)
	w.acknowledged("one", 3)
	w.cli("kafka probe release")
	w.read(topic, 4)
}

func TestConsole(t *testing.T) {
	w := newWorld(t, options{modules: []string{"res_kafka"}, files: map[string]string{
		"kafka.conf": "[my-kafka]\ntype = connection\nbrokers = %BROKER%\ngroup_id = asterisk-group\n\n[other]\ntype = connection\nbrokers = a:1, b:2\n" +
			"security_protocol = sasl_plaintext\nsasl_mechanisms = PLAIN\nsasl_username = u\nsasl_password = hunter2\n",
	}})
	w.expect(`(?s)^Connections:\nName            Brokers.*\nmy-kafka        127\.0\.0\.1:\d+.*\nother           a:1,b:2`, "kafka show status")
	w.expect(`^Name:              my-kafka\nBrokers:           127\.0\.0\.1:\d+\nClient ID:         asterisk\nMessage max bytes: 1000000\nRequest timeout:   5000 ms\nMessage timeout:   300000 ms\n`,
		"kafka show connection my-kafka")
	if printed := w.expect(`\*\*\*`, "kafka show connection other"); strings.Contains(printed, "hunter2") {
		t.Error("the password is shown")
	}
	w.expect(`^Name            Group ID                  Subscribed\nmy-kafka        asterisk-group            No`, "kafka show consumers")
	w.expect(`^Name:              my-kafka\nGroup ID:          asterisk-group\nSubscribed:        No`, "kafka show consumer my-kafka")
	w.expect(`^Message sent successfully`, `kafka test send connection my-kafka topic test_topic message "hello world" key k`)
	if r := w.read("test_topic", 1)[0]; text(r.Key) != "k" || text(r.Payload) != "hello world" {
		t.Errorf("read %s %s", text(r.Key), text(r.Payload))
	}
	w.expect(`Usage: +kafka show connection`, "core show help kafka show connection")
	for _, wrong := range []string{"kafka show connection", "kafka test send connection my-kafka", "kafka test send connection my-kafka topc t message m"} {
		w.expect(`(?i)usage:`, "%s", wrong)
	}
	for line, want := range map[string]string{
		"kafka show ":                                   "connection consumer consumers spool status",
		"kafka show connection ":                        "my-kafka other",
		"kafka show connection o":                       "other",
		"kafka show consumer ":                          "my-kafka",
		"kafka show spool ":                             "my-kafka other",
		"kafka spool ":                                  "purge retry",
		"kafka spool purge o":                           "other",
		"kafka test send connection my":                 "my-kafka",
		"kafka test send connection my-kafka ":          "topic",
		"kafka test send connection my-kafka topic t m": "message",
	} {
		word := line[strings.LastIndex(line, " ")+1:]
		printed := w.cli(`_command matchesarray "%s" "%s"`, line, word)
		var got []string
		// The first is what all have in common, which may be nothing.
		for _, match := range strings.Split(printed, " ")[1:] {
			if match = strings.TrimSpace(match); match != "" && match != "_EOF_" {
				got = append(got, match)
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("completing %q gives %q, want %q", line, got, want)
		}
	}
}
