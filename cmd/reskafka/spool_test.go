package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/internal/host"
	"reskafka/internal/record"
	"reskafka/internal/spool"
)

// spoolWith creates the spool of a connection "main" below a new root, and fills the spool.
func spoolWith(t *testing.T, fill func(s *spool.Spool)) (root, dir string) {
	t.Helper()
	root = t.TempDir()
	dir = spool.Dir(root, "main")
	s, err := spool.Open(dir, spool.Options{Connection: "main"})
	if err != nil {
		t.Fatal(err)
	}
	fill(s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return root, dir
}

func spooled(t *testing.T, s *spool.Spool, topic string, from, to int) {
	t.Helper()
	var records []*record.Record
	for n := from; n < to; n++ {
		records = append(records, &record.Record{Topic: topic, Key: []byte("key"), Value: fmt.Appendf(nil, "value %d", n), Accepted: time.Unix(1_700_000_000, int64(n))})
	}
	if _, err := s.Append(topic, records); err != nil {
		t.Fatal(err)
	}
}

// runSpool runs the command.
func runSpool(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	status = run(testContext(t), append([]string{"spool"}, args...), &out, &errs)
	return status, out.String(), errs.String()
}

// runs is runSpool with a required success.
func runs(t *testing.T, args ...string) string {
	t.Helper()
	status, stdout, stderr := runSpool(t, args...)
	if status != exitOK || stderr != "" {
		t.Fatalf("%v: status %d, stderr %q", args, status, stderr)
	}
	return stdout
}

// snapshot returns the content of every file below a directory.
func snapshot(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().IsRegular() {
			var b []byte
			b, err = os.ReadFile(path)
			files[path] = info.ModTime().String() + string(b)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestSpoolLooksAreReadOnly(t *testing.T) {
	root, dir := spoolWith(t, func(s *spool.Spool) {
		spooled(t, s, "calls", 0, 10)
		spooled(t, s, "events", 0, 3)
		if err := s.Settle("calls", 4); err != nil {
			t.Fatal(err)
		}
		letter := record.DeadLetter{Record: &record.Record{Topic: "calls", Value: []byte("big")}, Reason: "too large", Cause: "MESSAGE_TOO_LARGE", At: time.Unix(1_700_000_001, 0)}
		if _, err := s.Bury([]record.DeadLetter{letter}); err != nil {
			t.Fatal(err)
		}
	})
	// Like after a kill of the process.
	tail, err := os.OpenFile(filepath.Join(dir, "topics", "events", "00000000000000000001.seg"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = tail.WriteString("half a record")
	_ = tail.Close()
	before := snapshot(t, root)

	for _, path := range []string{root, dir} {
		out := runs(t, "ls", path)
		for _, want := range []string{"connection main, " + dir, "calls ", " 7 ", "events ", " 3 ", "(dead letters) ", " 1 "} {
			if !strings.Contains(out, want) {
				t.Errorf("ls %s does not say %q:\n%s", path, want, out)
			}
		}
		out = runs(t, "verify", path)
		if !strings.Contains(out, "main: note: topics/events/00000000000000000001.seg, byte") || !strings.Contains(out, "main: 14 records are whole") {
			t.Errorf("verify %s:\n%s", path, out)
		}
	}
	out := runs(t, "dump", dir)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) != 10 || lines[0] != "calls\t4\t2023-11-14T22:13:20.000000003Z\tkey\t\tvalue 3" || !strings.HasPrefix(lines[9], "events\t3\t") {
		t.Errorf("dump:\n%s", out)
	}
	if out := runs(t, "dump", dir, "--topic", "events"); strings.Count(out, "\n") != 3 || strings.Contains(out, "calls") {
		t.Errorf("dump --topic events:\n%s", out)
	}
	if out := runs(t, "dump", "--dead", dir); out != "calls\t1\t-\t-\t\tbig\t2023-11-14T22:13:21Z\ttoo large\tMESSAGE_TOO_LARGE\n" {
		t.Errorf("dump --dead: %q", out)
	}
	for path, content := range snapshot(t, root) {
		if before[path] != content {
			t.Errorf("%s was changed", path)
		}
	}
}

// TestSpoolDump_HostileTexts_AreEscaped guards the terminal: keys, values and a broker's message may hold anything.
func TestSpoolDump_HostileTexts_AreEscaped(t *testing.T) {
	const text = "a\r\n\x1b[2J\a\x00\u007f\u009b\u202e\u2028\U000e0001 ü"
	_, dir := spoolWith(t, func(s *spool.Spool) {
		r := &record.Record{Topic: "calls", Key: []byte(text), Value: []byte(text), Headers: []record.Header{{Name: text, Value: []byte(text)}}}
		if _, err := s.Append("calls", []*record.Record{r}); err != nil {
			t.Fatal(err)
		}
	})
	for _, flags := range [][]string{{}, {"--json"}} {
		line := strings.TrimSuffix(runs(t, append([]string{"dump", dir}, flags...)...), "\n")
		if cells := strings.ReplaceAll(line, "\t", ""); host.Printable(cells) != cells {
			t.Errorf("%v: %q", flags, line)
		}
		var got struct{ Value string }
		if len(flags) > 0 && (json.Unmarshal([]byte(line), &got) != nil || got.Value != text) {
			t.Errorf("%s is %q", line, got.Value)
		}
	}
	if got := onLines(errors.Join(errors.New(text), errors.New("b"))); got != host.Printable(text)+"\nb" {
		t.Errorf("an error is printed as %q", got)
	}
}

func TestSpoolDumpTellsEveryByte(t *testing.T) {
	values := [][]byte{nil, {}, []byte("plain"), []byte("-"), []byte("tab\there"), []byte("\xff\x00"), []byte("über <&>"), []byte(`"quoted"`)}
	_, dir := spoolWith(t, func(s *spool.Spool) {
		for _, v := range values {
			r := &record.Record{Topic: "calls", Key: v, Value: v, Headers: []record.Header{{Name: "h", Value: v}}}
			if _, err := s.Append("calls", []*record.Record{r}); err != nil {
				t.Fatal(err)
			}
		}
	})
	want := []string{`-`, `""`, `plain`, `"-"`, `"tab\there"`, `"\xff\x00"`, `über <&>`, `"\"quoted\""`}
	for i, line := range strings.Split(strings.TrimSpace(runs(t, "dump", dir)), "\n") {
		if line != fmt.Sprintf("calls\t%d\t-\t%s\th=%s\t%s", i+1, want[i], want[i], want[i]) {
			t.Errorf("line %d is %q", i, line)
		}
	}
	for i, line := range strings.Split(strings.TrimSpace(runs(t, "dump", dir, "--json")), "\n") {
		var got struct {
			Topic    string
			Position int
			Key      any
			Value    any
			Headers  []struct{ Name, Value any }
		}
		if err := json.Unmarshal([]byte(line), &got); err != nil {
			t.Fatal(err)
		}
		var value any = string(values[i])
		switch i {
		case 0:
			value = nil
		case 5:
			value = map[string]any{"base64": "/wA="}
		}
		text := fmt.Sprint(value)
		if got.Topic != "calls" || got.Position != i+1 || fmt.Sprint(got.Key) != text || fmt.Sprint(got.Value) != text || got.Headers[0].Name != "h" || fmt.Sprint(got.Headers[0].Value) != text {
			t.Errorf("line %d is %s", i, line)
		}
	}
}

func TestSpoolVerifyFindsDamage(t *testing.T) {
	root, dir := spoolWith(t, func(s *spool.Spool) { spooled(t, s, "calls", 0, 10) })
	file := filepath.Join(dir, "topics", "calls", "00000000000000000001.seg")
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	status, stdout, stderr := runSpool(t, "verify", root)
	if status != exitError || !strings.Contains(stdout, "main: damage: topics/calls/00000000000000000001.seg, byte ") ||
		!strings.Contains(stdout, "9 records are whole") || !strings.Contains(stderr, "damaged in 1 places, 1 records are lost") {
		t.Errorf("status %d, stdout %q, stderr %q", status, stdout, stderr)
	}
}

// A directory in use can be looked at, and is not sent from.
func TestSpoolInUse(t *testing.T) {
	dir := spool.Dir(t.TempDir(), "main")
	s, err := spool.Open(dir, spool.Options{Connection: "main"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	spooled(t, s, "calls", 0, 3)
	for _, action := range []string{"ls", "verify", "dump"} {
		status, stdout, stderr := runSpool(t, action, dir)
		if status != exitOK || !strings.Contains(stderr, fmt.Sprintf("in use by process %d", os.Getpid())) || !strings.Contains(stdout, "3") {
			t.Errorf("%s: status %d, stdout %q, stderr %q", action, status, stdout, stderr)
		}
	}
	status, _, stderr := runSpool(t, "replay", dir, "--brokers", "127.0.0.1:1")
	if status != exitError || !strings.Contains(stderr, "in use by this process") || !strings.Contains(stderr, "Asterisk does not run") {
		t.Errorf("replay: status %d, stderr %q", status, stderr)
	}
}

func TestSpoolMistakes(t *testing.T) {
	root, dir := spoolWith(t, func(s *spool.Spool) { spooled(t, s, "calls", 0, 1) })
	if s, err := spool.Open(spool.Dir(root, "second"), spool.Options{Connection: "second"}); err != nil || s.Close() != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args   []string
		status int
		want   string
	}{
		{nil, exitUsage, "say what to do"},
		{[]string{"show", dir}, exitUsage, `"show" is not one of`},
		{[]string{"ls"}, exitUsage, "needs the directory"},
		{[]string{"ls", dir, dir}, exitUsage, "unexpected argument"},
		{[]string{"ls", dir, "--json"}, exitUsage, "ls takes no --json"},
		{[]string{"dump", dir, "--nonsense"}, exitUsage, "nonsense"},
		{[]string{"replay", dir}, exitUsage, "needs --brokers"},
		{[]string{"replay", root, "--brokers", "127.0.0.1:1"}, exitUsage, "name the directory of one"},
		{[]string{"replay", dir, "--brokers", "127.0.0.1:what"}, exitError, "brokers"},
		{[]string{"replay", dir, "--config", filepath.Join(root, "none.conf")}, exitError, "none.conf"},
		{[]string{"ls", filepath.Join(root, "none")}, exitError, "none"},
		{[]string{"ls", t.TempDir()}, exitError, "holds no spool"},
	} {
		if status, _, stderr := runSpool(t, c.args...); status != c.status || !strings.Contains(stderr, c.want) {
			t.Errorf("%v: status %d, stderr %q", c.args, status, stderr)
		}
	}
	if status, stdout, _ := runSpool(t, "ls", "--help"); status != exitOK || !strings.Contains(stdout, "--topic") {
		t.Errorf("help: status %d, %q", status, stdout)
	}
}

// readTopic reads count records of a topic with one partition.
func readTopic(t *testing.T, address, topic string, count int) []*kgo.Record {
	t.Helper()
	c := client(t, address, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	var records []*kgo.Record
	for len(records) < count {
		fetches := c.PollFetches(testContext(t))
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		records = append(records, fetches.Records()...)
	}
	return records
}

func TestSpoolReplay(t *testing.T) {
	address, _ := startBroker(t)
	_, dir := spoolWith(t, func(s *spool.Spool) {
		spooled(t, s, "calls", 0, 2500)
		spooled(t, s, "events", 0, 10)
		if err := s.Settle("calls", 501); err != nil {
			t.Fatal(err)
		}
	})
	if out := runs(t, "replay", dir, "--brokers", address, "--topic", "events"); !strings.Contains(out, "10 records acknowledged") {
		t.Errorf("replay --topic events: %q", out)
	}
	if out := runs(t, "dump", dir, "--topic", "events"); out != "" {
		t.Errorf("left: %q", out)
	}
	conf := filepath.Join(t.TempDir(), "kafka.conf")
	text := "[general]\n[main] ; ours\ntype = connection\nbrokers => 127.0.0.1:1 ; nobody\nacks=1\n[other](!)\nx=1\n"
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := runs(t, "replay", dir, "--config", conf, "--brokers", address); !strings.Contains(out, "2000 records acknowledged, 0 refused and kept as dead letters, 0 damaged") {
		t.Errorf("replay: %q", out)
	}
	for i, r := range readTopic(t, address, "calls", 2000) {
		if string(r.Value) != fmt.Sprintf("value %d", 500+i) || r.Timestamp.UnixMilli() != 1_700_000_000_000 {
			t.Fatalf("record %d is %q of %v", i, r.Value, r.Timestamp)
		}
	}
	if out := runs(t, "ls", dir); !strings.Contains(out, "nothing waits") {
		t.Errorf("ls: %s", out)
	}
	if out := runs(t, "replay", dir, "--brokers", address); !strings.Contains(out, " 0 records acknowledged") {
		t.Errorf("replay again: %q", out)
	}
}

// Unacknowledged records stay, and permanently refused records become dead letters for a later retry.
func TestSpoolReplayKeepsWhatIsRefused(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "calls", "events"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	address := cluster.ListenAddrs()[0]
	_, dir := spoolWith(t, func(s *spool.Spool) { spooled(t, s, "calls", 0, 20) })

	status, _, stderr := runSpool(t, "replay", dir, "--brokers", "127.0.0.1:1", "--patience", "10ms")
	if status != exitError || !strings.Contains(stderr, "giving up after 10ms") {
		t.Errorf("without a broker: status %d, stderr %q", status, stderr)
	}
	if out := runs(t, "dump", dir); strings.Count(out, "\n") != 20 {
		t.Errorf("left: %q", out)
	}
	var refuse atomic.Int32
	refuse.Store(int32(kerr.TopicAuthorizationFailed.Code))
	cluster.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		code := int16(refuse.Load())
		if code == 0 {
			return nil, nil, false
		}
		produce := req.(*kmsg.ProduceRequest)
		resp := produce.ResponseKind().(*kmsg.ProduceResponse)
		for _, topic := range produce.Topics {
			rt := kmsg.NewProduceResponseTopic()
			rt.Topic, rt.TopicID = topic.Topic, topic.TopicID
			for _, p := range topic.Partitions {
				rp := kmsg.NewProduceResponseTopicPartition()
				rp.Partition, rp.ErrorCode = p.Partition, code
				rt.Partitions = append(rt.Partitions, rp)
			}
			resp.Topics = append(resp.Topics, rt)
		}
		return resp, nil, true
	})
	status, _, stderr = runSpool(t, "replay", dir, "--brokers", address, "--patience", "100ms") // a verdict on the topic, not on the records
	if status != exitError || !strings.Contains(stderr, "giving up after 100ms without an acknowledgement: TOPIC_AUTHORIZATION_FAILED: ") {
		t.Errorf("without the right: status %d, stderr %q", status, stderr)
	}
	if out, dead := runs(t, "dump", dir), runs(t, "dump", dir, "--dead"); strings.Count(out, "\n") != 20 || dead != "" {
		t.Errorf("left: %q, dead letters %q", out, dead)
	}
	refuse.Store(int32(kerr.InvalidRecord.Code))
	status, stdout, stderr := runSpool(t, "replay", dir, "--brokers", address)
	if status != exitOK || !strings.Contains(stdout, "0 records acknowledged, 20 refused") {
		t.Errorf("refused: status %d, stdout %q, stderr %q", status, stdout, stderr)
	}
	if out := runs(t, "dump", dir, "--dead"); strings.Count(out, "\n") != 20 || !strings.Contains(out, "invalid record") {
		t.Errorf("dead letters: %q", out)
	}
	status, stdout, stderr = runSpool(t, "replay", dir, "--dead", "--brokers", address)
	if status != exitOK || !strings.Contains(stdout, "0 records acknowledged, 20 refused") {
		t.Errorf("refused again: status %d, stdout %q, stderr %q", status, stdout, stderr)
	}
	refuse.Store(0)
	if out := runs(t, "replay", dir, "--dead", "--brokers", address); !strings.Contains(out, "20 records acknowledged, 0 refused") {
		t.Errorf("replay --dead: %q", out)
	}
	if got := readTopic(t, address, "calls", 20); string(got[7].Value) != "value 7" {
		t.Errorf("record 7 is %q", got[7].Value)
	}
	if out := runs(t, "ls", dir); !strings.Contains(out, "nothing waits") {
		t.Errorf("ls: %s", out)
	}
}
