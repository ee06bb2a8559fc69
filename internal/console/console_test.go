package console

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"reskafka/internal/config"
	"reskafka/internal/metrics"
)

var update = flag.Bool("update", false, "write the golden files anew")

var testNow = time.Unix(1795333900, 0)

// sent are a command's arguments to TestSend.
type sent struct {
	name, topic, message string
	key                  *string
}

// fakeEnv is an engine in a constant state.
type fakeEnv struct {
	disabled    bool
	connections []ConnectionStatus
	consumers   []ConsumerStatus
	leftOut     map[string]string
	sendError   error
	sent        []sent

	spools      []SpoolStatus
	retried     RetryResult
	purged      PurgeResult
	changeError error
	created     bool
	changed     []string // requested changes
}

func (e *fakeEnv) Spools() []SpoolStatus { return e.spools }

func (e *fakeEnv) Spool(name string) (SpoolStatus, bool) {
	i := slices.IndexFunc(e.spools, func(s SpoolStatus) bool { return s.Name == name })
	if i < 0 {
		return SpoolStatus{}, false
	}
	return e.spools[i], true
}

func (e *fakeEnv) RetrySpool(name, topic string) (RetryResult, error) {
	e.changed = append(e.changed, strings.TrimSpace("retry "+name+" "+topic))
	return e.retried, e.changeError
}

func (e *fakeEnv) CreateTopic(_ context.Context, name, topic string, partitions, replication int) (bool, error) {
	e.changed = append(e.changed, fmt.Sprintf("create %s on %s, %d, %d", topic, name, partitions, replication))
	return e.created, e.changeError
}

func (e *fakeEnv) PurgeSpool(name, topic string) (PurgeResult, error) {
	e.changed = append(e.changed, strings.TrimSpace("purge "+name+" "+topic))
	return e.purged, e.changeError
}

func (e *fakeEnv) SkipBatch(name, topic string, partition int32) (int64, error) {
	e.changed = append(e.changed, fmt.Sprintf("skip %s %s %d", name, topic, partition))
	return 10, e.changeError
}

func (e *fakeEnv) Enabled() bool                   { return !e.disabled }
func (e *fakeEnv) Now() time.Time                  { return testNow }
func (e *fakeEnv) Connections() []ConnectionStatus { return e.connections }
func (e *fakeEnv) Consumers() []ConsumerStatus     { return e.consumers }

func (e *fakeEnv) Connection(name string) (ConnectionStatus, bool) {
	i := slices.IndexFunc(e.connections, func(c ConnectionStatus) bool { return c.Name == name })
	if i < 0 {
		return ConnectionStatus{}, false
	}
	return e.connections[i], true
}

func (e *fakeEnv) LeftOut(name string) (string, bool) {
	why, ok := e.leftOut[name]
	return why, ok
}

func (e *fakeEnv) TestSend(_ context.Context, name, topic, message string, key *string) error {
	e.sent = append(e.sent, sent{name, topic, message, key})
	return e.sendError
}

func ago(d time.Duration) time.Time { return testNow.Add(-d) }

func settings(brokers string) []config.Setting {
	return []config.Setting{
		{Label: "Brokers", Value: brokers},
		{Label: "Client ID", Value: "asterisk"},
		{Label: "Message max bytes", Value: "1000000"},
		{Label: "Request timeout", Value: "5000 ms"},
		{Label: "Message timeout", Value: "300000 ms"},
		{Label: "SASL password", Value: "***"},
		{Label: "SSL CA location", Value: ""},
		{Label: "Queue buffering max messages", Value: "100000"},
	}
}

// busyEnv has a connection in every state distinguished by commands.
func busyEnv() *fakeEnv {
	const two = "kafka1:9092,kafka2:9092"
	refused := "dial tcp 10.0.0.7:9092: connect: connection refused"
	many := strings.TrimSuffix(strings.Repeat("broker.example:9092,", 30), ",")
	return &fakeEnv{
		connections: []ConnectionStatus{
			{
				Name: "my-kafka", Brokers: two, Settings: settings(two),
				States: []BrokerState{
					{Address: "kafka1:9092", Connected: true, Since: ago(3*time.Hour + 5*time.Minute + time.Second)},
					{Address: "kafka2:9092", Since: ago(4*time.Minute + 12*time.Second), LastError: refused},
				},
				Numbers:   busyNumbers(),
				Troubles:  map[string]string{"asterisk_cdr": "the topic does not exist", "no messages": "of no interest"},
				LastError: refused,
			},
			{Name: "up", Brokers: "up:9092", Settings: settings("up:9092"),
				Numbers: of("up", values{{metrics.BrokerConnected, 1, "broker up:9092"}}),
				States:  []BrokerState{{Address: "up:9092", Connected: true}}},
			{Name: "down", Brokers: "d1:9092,d2:9092", Settings: settings("d1:9092,d2:9092"),
				States:  []BrokerState{{Address: "d1:9092", Since: ago(50 * time.Hour)}, {Address: "d2:9092", Since: ago(26 * time.Hour)}},
				Numbers: of("down", values{{metrics.RecordsAccepted, 12345678901234567890, ""}, {metrics.RecordsWaiting, 12345678901234567890, ""}})},
			{Name: "a connection with quite a long name", Brokers: many, Settings: settings(many)},
			{Name: "odd\x1b[2J\n\xff\u202e", Brokers: "b\r:9092\u2028", Settings: settings("b\r:9092\u2028"),
				States: []BrokerState{{Address: "b\r:9092", LastError: "line\none\x00"}},
				Numbers: of("odd", values{
					{metrics.RecordsAccepted, 5, ""}, {metrics.RecordsAcknowledged, 1, ""},
					{metrics.RecordsAccepted, 0, "topic to\tpic"}, {metrics.RecordsDropped, 1, "topic to\tpic, reason be\x07ll"},
					{metrics.TopicBlockedSince, at(time.Minute), "topic to\tpic"},
				}),
				Troubles:  map[string]string{"to\tpic": "od\rd"},
				LastError: "a\nb\x9bc"},
		},
		spools: busySpools(),
		consumers: []ConsumerStatus{
			{Name: "my-kafka", GroupID: "asterisk-group", Subscribed: true, Members: []MemberStatus{
				{
					Topics: []string{"events", "^calls-.*"}, State: "stable", MemberID: "asterisk-1b\x1b", Joined: true,
					Numbers:   memberNumbers(),
					Brokers:   []BrokerState{{Address: "kafka1:9092", Connected: true, Since: ago(3 * time.Hour)}},
					LastError: "topic events partition 1: the batch of offsets 5 to 9 cannot be read: ...",
					Partitions: []PartitionStatus{
						{Topic: "calls-x"},
						{Topic: "events"},
						{Topic: "events", Partition: 1, Fault: "encoded crc 1 does not\nmatch"},
						{Topic: "events", Partition: 2},
						{Topic: "events", Partition: 3, Paused: true},
					},
				},
				{Topics: []string{"more"}, State: "left"},
			}},
			{Name: "up", GroupID: "a-group-with-a-name-that-is-too-long-for-its-column"},
			{Name: "odd\x1b[2J\n\xff\u202e", GroupID: "g\x1b"},
		},
	}
}

// run runs the command at the beginning of line; the rest is split at blanks.
func run(t *testing.T, env Env, line string, more ...string) (string, bool) {
	t.Helper()
	for _, c := range Commands {
		if rest, ok := strings.CutPrefix(line+" ", c.Words+" "); ok {
			args := append(strings.Fields(c.Words), strings.Fields(rest)...)
			return c.Run(env, append(args, more...))
		}
	}
	t.Fatalf("no command for %q", line)
	return "", false
}

func TestGolden(t *testing.T) {
	for _, c := range []struct {
		name string
		env  *fakeEnv
		line string
		more string // an argument with blanks
	}{
		{name: "status", env: busyEnv(), line: "kafka show status"},
		{name: "status_empty", env: &fakeEnv{}, line: "kafka show status"},
		{name: "status_disabled", env: &fakeEnv{disabled: true}, line: "kafka show status"},
		{name: "connection", env: busyEnv(), line: "kafka show connection my-kafka"},
		{name: "connection_up", env: busyEnv(), line: "kafka show connection up"},
		{name: "connection_down", env: busyEnv(), line: "kafka show connection down"},
		{name: "connection_odd", env: busyEnv(), line: "kafka show connection", more: "odd\x1b[2J\n\xff\u202e"},
		{name: "connection_left_out", env: &fakeEnv{leftOut: map[string]string{"bad": "kafka.conf:12: [bad] acks = some is not a whole number"}},
			line: "kafka show connection bad"},
		{name: "connection_unknown", env: busyEnv(), line: "kafka show connection", more: "no\x1bpe"},
		{name: "connection_disabled", env: &fakeEnv{disabled: true}, line: "kafka show connection my-kafka"},
		{name: "spools", env: busyEnv(), line: "kafka show spool"},
		{name: "spools_empty", env: &fakeEnv{}, line: "kafka show spool"},
		{name: "spools_disabled", env: &fakeEnv{disabled: true}, line: "kafka show spool"},
		{name: "spool", env: busyEnv(), line: "kafka show spool my-kafka"},
		{name: "spool_unused", env: busyEnv(), line: "kafka show spool up"},
		{name: "spool_odd", env: busyEnv(), line: "kafka show spool", more: "odd\x1b[2J\n\xff\u202e"},
		{name: "spool_unknown", env: busyEnv(), line: "kafka show spool", more: "no\x1bpe"},
		{name: "spool_disabled", env: &fakeEnv{disabled: true}, line: "kafka show spool my-kafka"},
		{name: "consumers", env: busyEnv(), line: "kafka show consumers"},
		{name: "consumers_empty", env: &fakeEnv{}, line: "kafka show consumers"},
		{name: "consumers_disabled", env: &fakeEnv{disabled: true}, line: "kafka show consumers"},
		{name: "consumer", env: busyEnv(), line: "kafka show consumer my-kafka"},
		{name: "consumer", env: busyEnv(), line: "kafka show consumer MY-kafka"}, // names are found in any case
		{name: "consumer_without_group", env: busyEnv(), line: "kafka show consumer down"},
		{name: "consumer_unknown", env: busyEnv(), line: "kafka show consumer nope"},
		{name: "consumer_disabled", env: &fakeEnv{disabled: true}, line: "kafka show consumer my-kafka"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var more []string
			if c.more != "" {
				more = append(more, c.more)
			}
			got, ok := run(t, c.env, c.line, more...)
			if !ok {
				t.Fatal("the usage is shown")
			}
			checkText(t, got)
			if strings.Contains(got, " \n") {
				t.Errorf("blanks at the end of a line:\n%s", got)
			}
			checkGolden(t, c.name, got)
		})
	}
}

// checkText checks the rule of every output: whole, printable lines.
func checkText(t *testing.T, text string) {
	t.Helper()
	if !strings.HasSuffix(text, "\n") || !utf8.ValidString(text) {
		t.Errorf("not whole lines of UTF-8: %q", text)
	}
	for _, l := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		if printable(l) != l {
			t.Errorf("not fit for a terminal: %q", l)
		}
	}
}

// The lines of spec §4, letter by letter: more may follow, nothing may come between.
func TestSpecLines(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{"kafka show status", "Connections:\n" +
			"Name            Brokers\n" +
			"my-kafka        kafka1:9092,kafka2:9092\n"},
		{"kafka show connection my-kafka", "Name:              my-kafka\n" +
			"Brokers:           kafka1:9092,kafka2:9092\n" +
			"Client ID:         asterisk\n" +
			"Message max bytes: 1000000\n" +
			"Request timeout:   5000 ms\n" +
			"Message timeout:   300000 ms\n"},
		{"kafka show consumers", "Name            Group ID                  Subscribed\n" +
			"my-kafka        asterisk-group            Yes\n"},
		{"kafka show consumer my-kafka", "Name:              my-kafka\n" +
			"Group ID:          asterisk-group\n" +
			"Subscribed:        Yes\n"},
		{"kafka test send connection my-kafka topic test_topic message hello", "Message sent successfully\n"},
	} {
		text, _ := run(t, busyEnv(), c.line)
		got := strings.Split(text, "\n")
		for i, want := range strings.Split(strings.TrimSuffix(c.want, "\n"), "\n") {
			if i >= len(got) || got[i] != want && !strings.HasPrefix(got[i], want+" ") {
				t.Errorf("%s: line %d does not begin with %q:\n%s", c.line, i+1, want, text)
			}
		}
	}
}

// The options' labels keep every value in its column, and the two fixed lines appear once.
func TestOptionsOfARealConnection(t *testing.T) {
	k, problems := config.ParseKafka([]config.Entry{
		{Section: "my-kafka"},
		{Section: "my-kafka", Name: "type", Value: "connection"},
		{Section: "my-kafka", Name: "brokers", Value: "kafka1:9092,kafka2:9092"},
		{Section: "my-kafka", Name: "sasl_password", Value: "hunter2"},
	})
	if config.HasErrors(problems) || len(k.Connections) != 1 {
		t.Fatal(problems)
	}
	c := k.Connections[0]
	text, _ := run(t, &fakeEnv{connections: []ConnectionStatus{{Name: c.Name, Brokers: c.BrokersText(), Settings: c.Settings()}}},
		"kafka show connection my-kafka")
	options, _, _ := strings.Cut(text, "\n\n")
	if want := "Name:              my-kafka\n" +
		"Brokers:           kafka1:9092,kafka2:9092\n" +
		"Client ID:         asterisk\n" +
		"Message max bytes: 1000000\n" +
		"Request timeout:   5000 ms\n" +
		"Message timeout:   300000 ms\n"; !strings.HasPrefix(text, want) {
		t.Errorf("does not begin as the contract says:\n%s", text)
	}
	if strings.Contains(text, "hunter2") || !strings.Contains(text, "***") {
		t.Errorf("the password is not hidden:\n%s", text)
	}
	seen := map[string]bool{}
	for _, l := range strings.Split(options, "\n") {
		label, value, _ := strings.Cut(l, ":")
		want := max(valueColumn, len(label)+2) // a longer label moves its own value only
		if seen[label] || value != "" && len(l)-len(strings.TrimLeft(value, " ")) != want {
			t.Errorf("there twice, or with its value out of column: %q", l)
		}
		seen[label] = true
	}
	if len(seen) != len(c.Settings()) {
		t.Errorf("%d lines for %d settings", len(seen), len(c.Settings()))
	}
}

func TestTestSend(t *testing.T) {
	env := busyEnv()
	words := strings.Fields("kafka test send connection my-kafka TOPIC t-1 Message")
	got, ok := testSend.Run(env, append(words, "hello world"))
	if got != "Message sent successfully\n" || !ok {
		t.Errorf("got %q, %t", got, ok)
	}
	_, _ = testSend.Run(env, append(words, "", "key", ""))
	_, _ = testSend.Run(env, append(words, "m", "KEY", "k"))
	want := []sent{{"my-kafka", "t-1", "hello world", nil}, {"my-kafka", "t-1", "", new(string)}, {"my-kafka", "t-1", "m", ptr("k")}}
	same := func(a, b sent) bool {
		keys := a.key == nil && b.key == nil || a.key != nil && b.key != nil && *a.key == *b.key
		return keys && a.name == b.name && a.topic == b.topic && a.message == b.message
	}
	if !slices.EqualFunc(env.sent, want, same) {
		t.Errorf("sent %+v", env.sent)
	}

	env.sendError = errors.New("no answer from\nthe broker")
	if got, ok := testSend.Run(env, append(words, "m")); got != `Error: Message not sent: no answer from\x0athe broker`+"\n" || !ok {
		t.Errorf("got %q, %t", got, ok)
	}
	got, ok = run(t, env, "kafka test send connection nope topic t message m")
	if got != "Error: No connection named nope\n" || !ok || len(env.sent) != 4 {
		t.Errorf("got %q, %t after %d messages", got, ok, len(env.sent))
	}
	got, _ = run(t, &fakeEnv{disabled: true}, "kafka test send connection my-kafka topic t message m")
	if got != "Error: "+disabledText {
		t.Errorf("got %q", got)
	}
}

func ptr(s string) *string { return &s }

func TestWrongCallsShowTheUsage(t *testing.T) {
	env := busyEnv()
	for _, l := range []string{
		"kafka show status more",
		"kafka show connection",
		"kafka show connection my-kafka more",
		"kafka show spool my-kafka more",
		"kafka spool retry",
		"kafka spool retry my-kafka more",
		"kafka spool purge",
		"kafka spool purge my-kafka more",
		"kafka topic create", "kafka topic create my-kafka", "kafka topic create my-kafka orders partitions",
		"kafka topic create my-kafka orders 3 partitions", "kafka topic create my-kafka orders partitions 3 partitions 4",
		"kafka show consumers more",
		"kafka show consumer",
		"kafka show consumer my-kafka more",
		"kafka test send connection",
		"kafka test send connection my-kafka",
		"kafka test send connection my-kafka topic t message",
		"kafka test send connection my-kafka message m topic t",
		"kafka test send connection my-kafka topic t message m key",
		"kafka test send connection my-kafka topic t message m kex k",
		"kafka test send connection my-kafka topic t message m key k more",
	} {
		if text, ok := run(t, env, l); ok || text != "" {
			t.Errorf("%s: got %q, want the usage", l, text)
		}
	}
	for _, c := range Commands {
		if _, ok := c.Run(env, strings.Fields(c.Words)[:1]); ok {
			t.Errorf("%s runs without its words", c.Words)
		}
	}
	if len(env.sent) != 0 {
		t.Errorf("sent %+v", env.sent)
	}
	if len(env.changed) != 0 {
		t.Errorf("changed %q", env.changed)
	}
}

func TestComplete(t *testing.T) {
	env := busyEnv()
	env.connections = append(env.connections, ConnectionStatus{Name: "My-Other"})
	all := []string{"my-kafka", "up", "down", "My-Other"} // without names that need quotes
	for _, c := range []struct {
		before, word string
		want         []string
	}{
		{"kafka show connection", "", all},
		{"kafka show connection", "m", []string{"my-kafka", "My-Other"}},
		{"kafka show connection", "MY-K", []string{"my-kafka"}},
		{"kafka show connection", "my-kafka", []string{"my-kafka"}},
		{"kafka show connection", "my-kafkas", nil},
		{"kafka show connection my-kafka", "", nil},
		{"kafka show consumer", "", []string{"my-kafka", "up"}},
		{"kafka show consumer", "d", nil},
		{"kafka show consumer up", "", nil},
		{"kafka show spool", "", all},
		{"kafka show spool", "d", []string{"down"}},
		{"kafka show spool up", "", nil},
		{"kafka spool retry", "", all},
		{"kafka spool retry up", "", []string{"topic"}},
		{"kafka spool retry up to", "", nil},
		{"kafka spool retry up topic", "", nil},
		{"kafka spool purge", "u", []string{"up"}},
		{"kafka spool purge up", "x", nil},
		{"kafka spool purge my-kafka topic", "", []string{"asterisk_cdr"}},
		{"kafka spool purge my-kafka topic t", "", nil},
		{"kafka topic create", "u", []string{"up"}},
		{"kafka topic create up", "p", nil},
		{"kafka topic create up orders", "", []string{"partitions", "replication"}},
		{"kafka topic create up orders partitions", "", nil},
		{"kafka topic create up orders PARTITIONS 3", "", []string{"replication"}},
		{"kafka topic create up orders replication 3 partitions 3", "", nil},
		{"kafka test send connection", "", all},
		{"kafka test send connection", "u", []string{"up"}},
		{"kafka test send connection up", "", []string{"topic"}},
		{"kafka test send connection up", "TO", []string{"topic"}},
		{"kafka test send connection up", "topic", []string{"topic"}},
		{"kafka test send connection up", "x", nil},
		{"kafka test send connection up topic", "", nil},
		{"kafka test send connection up topic t", "", []string{"message"}},
		{"kafka test send connection up tropic t", "", nil},
		{"kafka test send connection up topic t message", "", nil},
		{"kafka test send connection up topic t message m", "", []string{"key"}},
		{"kafka test send connection up topic t message m", "k", []string{"key"}},
		{"kafka test send connection up topic t message m key", "", nil},
		{"kafka test send connection up topic t message m key k", "", nil},
	} {
		for _, command := range Commands {
			if c.before != command.Words && !strings.HasPrefix(c.before, command.Words+" ") {
				continue
			}
			if got := command.Complete(env, strings.Fields(c.before), c.word); !slices.Equal(got, c.want) {
				t.Errorf("%s %s|: got %q, want %q", c.before, c.word, got, c.want)
			}
		}
	}
}

func TestCommandsAreComplete(t *testing.T) {
	want := []string{"kafka show status", "kafka show connection", "kafka show consumers", "kafka show consumer",
		"kafka consumer skip", "kafka test send connection", "kafka show spool", "kafka spool retry", "kafka spool purge",
		"kafka topic create"}
	var got []string
	for _, c := range Commands {
		got = append(got, c.Words)
		if c.Run == nil || c.Summary == "" || strings.Contains(c.Summary, "\n") {
			t.Errorf("%s: no Run, or a summary that is not one line", c.Words)
		}
		if !strings.HasPrefix(c.Usage, "Usage: "+c.Words) {
			t.Errorf("%s: usage is %q", c.Words, c.Usage)
		}
		checkText(t, c.Usage)
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestConsumerSkip checks the command's arguments to the engine, its answer and its completion.
func TestConsumerSkip(t *testing.T) {
	env := busyEnv()
	text, ok := run(t, env, "kafka consumer skip MY-kafka topic events partition 1")
	if want := "Going on with topic events partition 1 at offset 10\n"; !ok || text != want {
		t.Errorf("%q, want %q", text, want)
	}
	if want := []string{"skip my-kafka events 1"}; !slices.Equal(env.changed, want) {
		t.Errorf("called %q, want %q", env.changed, want)
	}
	for _, wrong := range []string{
		"", " my-kafka", " my-kafka topic events", " my-kafka topic events partition x", " my-kafka topic events partition -1",
		" my-kafka partition 1 topic events", " my-kafka topic events partition 1 more", " my-kafka topic events partition 4294967296",
	} {
		if _, ok := run(t, env, "kafka consumer skip"+wrong); ok {
			t.Errorf("accepted:%s", wrong)
		}
	}
	for before, want := range map[string][]string{
		"kafka consumer skip":                                   {"my-kafka", "up"},
		"kafka consumer skip my-kafka":                          {"topic"},
		"kafka consumer skip my-kafka topic":                    {"events"},
		"kafka consumer skip my-kafka topic events":             {"partition"},
		"kafka consumer skip my-kafka topic events partition":   {"1"},
		"kafka consumer skip my-kafka topic events partition 1": nil,
	} {
		if got := consumerSkip.Complete(env, strings.Fields(before), ""); !slices.Equal(got, want) {
			t.Errorf("after %s: %q, want %q", before, got, want)
		}
	}
}
