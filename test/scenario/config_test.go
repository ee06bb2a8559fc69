package scenario

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"reskafka/internal/config/configtest"
)

// logged matches a line of the engine about a configuration file in Asterisk's log: level and text.
var logged = regexp.MustCompile(`(WARNING|ERROR)\[\d+\](?:\[C-[0-9a-f]+\])? \S+: (kafka\.conf:(?:\d+:)? \[.*)$`)

// oddFiles returns the odd files of the given name in the table of package config.
func oddFiles(t *testing.T, name string) []*configtest.Odd {
	t.Helper()
	_, table, err := configtest.ReadOdd("../../internal/config/" + configtest.OddFile)
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(table, func(o *configtest.Odd) bool { return o.File != name })
}

// TestFaultyConfigurations reloads every erroneous file of the table in a running Asterisk. The log has the
// lines of the table, and the previous configuration still produces.
func TestFaultyConfigurations(t *testing.T) {
	keys := configtest.Keys(t)
	w := newWorld(t, options{modules: []string{"res_kafka"}})
	w.expect(`sent successfully`, "kafka test send connection one topic t message before")
	sent := 1
	for _, o := range oddFiles(t, "kafka.conf") {
		if !strings.Contains(o.Log, "error: ") {
			continue // warnings only: Asterisk would load the file
		}
		if err := w.pbx.WriteFile("kafka.conf", o.In(keys)); err != nil {
			t.Fatal(err)
		}
		before := len(w.pbx.LogLines())
		w.expect(`reported a reload failure`, "module reload res_kafka.so")
		// Asterisk's logger thread writes the log a moment later.
		got := ""
		for deadline := time.Now().Add(patience); strings.Count(got, "\n") < strings.Count(o.Log, "\n") && time.Now().Before(deadline); {
			got = ""
			for _, line := range w.pbx.LogLines()[before:] {
				if m := logged.FindStringSubmatch(line); m != nil {
					got += strings.ToLower(m[1]) + ": " + strings.ReplaceAll(m[2], keys, "@DIR@") + "\n"
				}
			}
		}
		if got != o.Log {
			t.Errorf("%s: the log says\n%swant\n%s", o.Name, got, o.Log)
		}
		sent++
		if printed := w.cli("kafka test send connection one topic t message after-%s", o.Name); !strings.Contains(printed, "sent successfully") {
			t.Errorf("after the faulty %s: %s", o.Name, printed)
		}
	}
	if sent < 31 {
		t.Errorf("only %d files were refused", sent-1)
	}
	w.read("t", sent)
}

var (
	brokerOption  = regexp.MustCompile(`(?mi)^\s*brokers`)
	brokerAndPort = regexp.MustCompile(`kafka\d(:[+ ]?)9092`)
	brokerAlone   = regexp.MustCompile(`kafka\d\b`)
	typeOption    = regexp.MustCompile(`(?mi)^\s*type\s*=>?\s*connection\s*$`)
	// needsMore matches settings beyond the test's broker and names.
	needsMore    = regexp.MustCompile(`(?m)^security_protocol = s|^brokers = [:\[]|kafka_1`)
	notLoaded    = regexp.MustCompile(`res_kafka\.so +\S.* 0 +Not Running|0 modules loaded`)
	notLoadedCDR = regexp.MustCompile(`cdr_kafka\.so +\S.* 0 +Not Running|0 modules loaded`)
)

// withBroker replaces the brokers of an odd file's connections with the broker of the test.
func withBroker(text, broker string) string {
	if !brokerOption.MatchString(text) {
		return typeOption.ReplaceAllString(text, "${0}\nbrokers = "+broker)
	}
	host, port, _ := strings.Cut(broker, ":")
	return brokerAlone.ReplaceAllLiteralString(brokerAndPort.ReplaceAllString(text, host+"${1}"+port), broker)
}

// inAnotherCase returns a name as strcasecmp still finds it.
func inAnotherCase(name string) string {
	return strings.Map(func(r rune) rune {
		if r < unicode.MaxASCII {
			return unicode.ToUpper(r)
		}
		return r
	}, name)
}

// An odd kafka.conf serves the table's connections in a real Asterisk, from a fresh load. A module without
// any connection declines to load.
func TestOddFiles_Loaded_DeliverAsTheTableSays(t *testing.T) {
	keys := configtest.Keys(t)
	w := newWorld(t, options{modules: []string{"res_kafka"}})
	loaded := 0
	for _, o := range oddFiles(t, "kafka.conf") {
		if needsMore.MatchString(o.Text) {
			continue
		}
		w.cli("module unload res_kafka.so")
		if err := w.pbx.WriteFile("kafka.conf", withBroker(o.In(keys), w.address)); err != nil {
			t.Fatal(err)
		}
		w.cli("module load res_kafka.so")
		loaded++
		for _, served := range configtest.Serves(o.Ours) {
			name, produces := strings.CutPrefix(served, "produces ")
			if !produces || strings.Contains(name, "_") {
				continue
			}
			if printed := w.cli("kafka test send connection %s topic odd message %s", inAnotherCase(name), o.Name); !strings.Contains(printed, "sent successfully") {
				t.Errorf("%s: there it %s; connection %s here: %s", o.Name, o.There, name, printed)
			}
		}
		if o.Ours == "nothing" && !strings.Contains(o.Text, "enabled") && !notLoaded.MatchString(w.cli("module show like res_kafka")) {
			t.Errorf("%s: the module is loaded, but nothing can be used", o.Name)
		}
	}
	if loaded < 150 {
		t.Errorf("%d odd files were loaded", loaded)
	}
}

// The same for cdr_kafka.conf: the module runs where the table expects records, and a call's record is sent.
func TestOddCallRecordFiles_Loaded_RunAsTheTableSays(t *testing.T) {
	const connections = "[my-kafka]\ntype = connection\nbrokers = %BROKER%\n\n[other](my-kafka)\n\n[my kafka](my-kafka)\n"
	w := newWorld(t, options{files: map[string]string{
		"kafka.conf":      connections,
		"extensions.conf": "[calls]\nexten => s,1,Answer()\n same => n,Hangup()\n",
	}})
	for _, o := range oddFiles(t, "cdr_kafka.conf") {
		if err := w.pbx.WriteFile("cdr_kafka.conf", o.Text); err != nil {
			t.Fatal(err)
		}
		w.cli("module unload cdr_kafka.so")
		w.cli("module load cdr_kafka.so")
		if runs := !notLoadedCDR.MatchString(w.cli("module show like cdr_kafka")); runs != (o.Ours != "nothing") {
			t.Errorf("%s: ours %s, the module runs: %v", o.Name, o.Ours, runs)
		}
	}
	if err := w.pbx.WriteFile("cdr_kafka.conf", "[Global]\nconnection = MY-KAFKA\nkey = nonsense\n[global]\nloguniqueid = maybe\ntopic = odd-calls\n"); err != nil {
		t.Fatal(err)
	}
	w.cli("module unload cdr_kafka.so")
	w.cli("module load cdr_kafka.so")
	w.cli("channel originate Local/s@calls/n application Echo")
	if r := w.read("odd-calls", 1)[0]; r.Key != nil {
		t.Errorf("key %q", *r.Key)
	}
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
	w.expect(`^Name            Group ID                  Subscribed\b.*\nmy-kafka        asterisk-group            No\b`, "kafka show consumers")
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
		// The first word is the common part, which may be empty.
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
