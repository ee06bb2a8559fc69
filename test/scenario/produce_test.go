package scenario

import (
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"reskafka/test/kafkatest"
	"reskafka/test/pbx"
)

// probeFile writes records for the probe module to produce, "key value" in hex; nil is NULL.
func (w *world) probeFile(records ...[2][]byte) string {
	w.Helper()
	var b strings.Builder
	for _, r := range records {
		for i, part := range r {
			switch {
			case part == nil:
				b.WriteString("-")
			case len(part) == 0:
				b.WriteString(".")
			default:
				b.WriteString(hex.EncodeToString(part))
			}
			b.WriteByte(" \n"[i])
		}
	}
	path := filepath.Join(w.dir, "probe")
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		w.Fatal(err)
	}
	return path
}

func TestNullAndEmptyAreKeptApart(t *testing.T) { everywhere(t, nullAndEmptyAreKeptApart) }

func nullAndEmptyAreKeptApart(t *testing.T, on kind) {
	w := newWorld(t, options{on: on, parts: 1})
	apart, headed := w.name("apart"), w.name("headed")
	records := [][2][]byte{
		{nil, []byte("v")}, {{}, []byte("v")}, {[]byte("k"), nil}, {[]byte("k"), {}}, {nil, nil}, {{}, {}}, {[]byte("k"), []byte("v")},
	}
	w.expect(`accepted 7 refused 0`, "kafka probe file one %s %s", apart, w.probeFile(records...))
	same := func(a *string, b []byte) bool { return (a == nil) == (b == nil) && (a == nil || *a == string(b)) }
	for i, r := range w.read(apart, len(records)) {
		if !same(r.Key, records[i][0]) || !same(r.Payload, records[i][1]) {
			w.Errorf("record %d came out as key %s value %s, went in as %q", i, text(r.Key), text(r.Payload), records[i])
		}
	}
	w.expect(`produce 0`, "kafka probe headers one %s 40", headed)
	r := w.read(headed, 1)[0]
	if len(r.Headers) != 80 {
		w.Fatalf("%d headers came out of 40", len(r.Headers)/2)
	}
	for i := range 40 {
		want := ""
		if i%2 == 1 {
			want = fmt.Sprintf("h%d", i)
		}
		if r.Headers[2*i] != fmt.Sprintf("h%d", i) || r.Headers[2*i+1] != want {
			w.Errorf("header %d is %q", i, r.Headers[2*i:2*i+2])
		}
	}
}

// keysOfEveryKind returns keys of every length and byte of a C string. kcat reads keys from a file of lines,
// so newlines and separators are left out.
func keysOfEveryKind(count int) [][]byte {
	keys := make([][]byte, 0, count)
	for b := 1; b < 256; b++ {
		if b != '\n' && b != '\t' {
			keys = append(keys, []byte{byte(b)})
		}
	}
	for n := 2; len(keys) < count; n++ {
		key := make([]byte, 1+n%700)
		for i := range key {
			for key[i] = byte(n*31 + i*(n|1)); key[i] == 0 || key[i] == '\n' || key[i] == '\t'; {
				key[i]++
			}
		}
		keys = append(keys, append(key, fmt.Sprint(n)...))
	}
	return keys
}

func TestKeysLandWhereLibrdkafkaPutsThem(t *testing.T) {
	everywhere(t, keysLandWhereLibrdkafkaPutsThem)
}

func keysLandWhereLibrdkafkaPutsThem(t *testing.T, on kind) {
	w, keys := newWorld(t, options{on: on}), keysOfEveryKind(1000)
	records := make([][2][]byte, 0, len(keys))
	var lines strings.Builder
	for i, key := range keys {
		records = append(records, [2][]byte{key, fmt.Append(nil, i)})
		fmt.Fprintf(&lines, "%s\t%d\n", key, i)
	}
	file, path := w.probeFile(records...), filepath.Join(w.dir, "lines")
	if err := os.WriteFile(path, []byte(lines.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, partitions := range []int{1, 3, 16, 50} {
		ours, theirs := w.name(fmt.Sprint("ours", partitions)), w.name(fmt.Sprint("theirs", partitions))
		w.expect(`ensure 0`, "kafka probe ensure one %s %d 0 wait", ours, partitions)
		w.expect(`ensure 0`, "kafka probe ensure one %s %d 0 wait", theirs, partitions)
		w.expect(fmt.Sprintf("accepted %d refused 0", len(keys)), "kafka probe file one %s %s", ours, file)
		if _, err := pbx.Kcat(w.ctx, w.root, "-P", "-b", w.address, "-t", theirs, "-K", "\t", "-l", path); err != nil {
			t.Fatal(err)
		}
		// The value is the number of the key: kcat's JSON does not carry a key's bytes unharmed.
		place := func(topic string) map[string]int32 {
			at := map[string]int32{}
			for _, r := range w.read(topic, len(keys)) {
				at[text(r.Payload)] = r.Partition
			}
			return at
		}
		ourPlaces, theirPlaces, used := place(ours), place(theirs), map[int32]bool{}
		for i, key := range keys {
			n := fmt.Sprint(i)
			if ourPlaces[n] != theirPlaces[n] {
				t.Errorf("key %q, %d partitions: partition %d, kcat's is %d", key, partitions, ourPlaces[n], theirPlaces[n])
			}
			used[ourPlaces[n]] = true
		}
		if len(used) != partitions {
			t.Errorf("%d of %d partitions are used", len(used), partitions)
		}
	}
}

func TestWrongCallsAreRefused(t *testing.T) {
	w := newWorld(t, options{})
	mark := w.pbx.LogMark()
	printed := w.cli("kafka probe wrong one")
	for line := range strings.Lines(printed) {
		if want := " -1\n"; !strings.HasSuffix(line, want) && line != "right 0\n" {
			t.Errorf("accepted: %s", line)
		}
	}
	if strings.Count(printed, "\n") != 14 {
		t.Errorf("not every call was made:\n%s", printed)
	}
	for _, pattern := range []string{
		`ERROR.*connection '\(none\)': refused 1 record\(s\), topic 'topic': .*NULL`,
		`ERROR.*connection 'one': refused 5 record\(s\), topic '.*': a topic's name has 1 to 249`,
		`ERROR.*connection 'one': refused 3 record\(s\), topic 'topic': .*NULL`,
		`ERROR.*connection 'one': refused 1 record\(s\), topic 'topic': larger than message_max_bytes`,
		`ERROR.*No Kafka producer without the name`,
		`ERROR.*No Kafka producer for connection 'no such connection': kafka.conf has no such section`,
	} {
		w.waitLog(mark, pattern)
	}
	w.acknowledged("one", 1)
	w.expect(`Refused +9 `, "kafka show connection one")
}

func TestSizeLimitIsExact(t *testing.T) { everywhere(t, sizeLimitIsExact) }

func sizeLimitIsExact(t *testing.T, on kind) {
	w := newWorld(t, options{on: on})
	topic := w.name("large")
	w.expect(`produce 0`, "kafka probe size one %s 999964", topic) // measured: librdkafka's largest with the default of 1000000
	w.expect(`produce -1`, "kafka probe size one %s 999965", topic)
	w.acknowledged("one", 1)
}

func TestForkedChildIsRefused(t *testing.T) {
	w := newWorld(t, options{})
	w.expect(`child refused parent 0`, "kafka probe fork one forked")
	if r := w.read("forked", 1)[0]; text(r.Payload) != "parent" {
		t.Errorf("the topic holds %s", text(r.Payload))
	}
}

// withoutAuthority starts a world in which connection two has no producer: its file of authorities, ca, is away.
func withoutAuthority(t *testing.T) (w *world, ca string) {
	w = newWorld(t, options{unbooted: true})
	ca = kafkatest.NewAuthority(t, "ours").Write(filepath.Join(w.dir, "ca.pem"))
	text := "[one]\ntype = connection\nbrokers = %BROKER%\n[two]\ntype = connection\nbrokers = %BROKER%\nsecurity_protocol = ssl\nssl_ca_location = " + ca + "\n"
	w.must(w.pbx.WriteFile("kafka.conf", w.filled(text)))
	w.boot()
	w.must(os.Rename(ca, ca+".away"))
	return w, ca
}

// TestProducer_EngineRefusesIt_GateIsShut guards records without an engine to send them: the module opens a
// gate alone, and a gate stayed open after the engine's refusal.
func TestProducer_EngineRefusesIt_GateIsShut(t *testing.T) {
	w, ca := withoutAuthority(t)
	mark := w.pbx.LogMark()
	record := w.probeFile([2][]byte{nil, []byte("r")})
	_ = w.cli("kafka probe file two t %s", record) // accepted, until the engine has answered
	w.waitLog(mark, `ERROR.*no producer for connection 'two': .*ca.pem: no such file`)
	w.waitLog(mark, `ERROR.*Connection 'two' refuses records, and [01] record\(s\) wait until it has a producer`)
	w.expect(`accepted 0 refused 1`, "kafka probe file two t %s", record)
	w.must(os.Rename(ca+".away", ca))
	w.cli("module reload res_kafka.so")
	w.until(`accepted 1 refused 0`, "kafka probe file two t %s", record)
}

// TestProducer_ObstacleGone_GateOpens guards a module with an old handle: its gate stayed shut until a reload, or until
// some module asked for the producer again.
func TestProducer_ObstacleGone_GateOpens(t *testing.T) {
	w, ca := withoutAuthority(t)
	mark := w.pbx.LogMark()
	w.expect(`start 0`, "kafka flood start two t 1 5 1 5 5")
	w.waitLog(mark, `ERROR.*Connection 'two' refuses records`)
	w.must(os.Rename(ca+".away", ca))
	w.waitLog(mark, `NOTICE.*connection 'two' has a producer again`)
	w.until(`produced 5 `, "kafka flood show")
	for _, line := range []string{`no producer for connection 'two'`, `Connection 'two' refuses records`} {
		if n := strings.Count(strings.Join(w.pbx.LogLines(), "\n"), line); n != 1 {
			t.Errorf("%d lines %q, want 1", n, line)
		}
	}
}
