package scenario

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"reskafka/test/pbx"
)

func TestWithoutABroker(t *testing.T) {
	started := time.Now()
	with := newWorld(t, options{})
	bootedWith := time.Since(started)
	_ = with
	started = time.Now()
	w := newWorld(t, options{noBroker: true, files: map[string]string{
		"kafka.conf": defaults["kafka.conf"] + "\n[fresh]\ntype = connection\nbrokers = %BROKER%\n",
	}})
	t.Logf("with a broker (and its start) booted in %v, without in %v", bootedWith, time.Since(started))

	// The first use of this connection: its client is created now.
	printed := w.expect(`same yes null no`, "kafka probe get fresh")
	t.Logf("ast_kafka_get_producer: %s", strings.TrimSpace(printed))
	for _, m := range regexp.MustCompile(`(\d+) us`).FindAllStringSubmatch(printed, -1) {
		if us, _ := strconv.Atoi(m[1]); us > 10000 {
			t.Errorf("ast_kafka_get_producer took %s us", m[1])
		}
	}

	began := time.Now()
	w.expect(`accepted 1 refused 0`, "kafka probe file one t %s", w.probeFile([2][]byte{nil, []byte("v")}))
	w.expect(`^Error: Message not sent: .*connection refused`, "kafka test send connection one topic t message m")
	// Long enough for a second line about the same cause to come, and for a third to be too many.
	time.Sleep(time.Until(began.Add(40 * time.Second)))
	var lines []string
	for _, line := range w.pbx.LogLines() {
		if strings.Contains(line, "connection refused") {
			lines = append(lines, line)
		}
	}
	if len(lines) < 1 || len(lines) > 2 {
		t.Errorf("%d lines about the unreachable broker in 40 s:\n%s", len(lines), strings.Join(lines, "\n"))
	}
	if len(lines) == 2 && !regexp.MustCompile(`\d+ (times|attempts|more)`).MatchString(lines[1]) {
		t.Errorf("the second line does not say how many it stands for: %s", lines[1])
	}
	w.until(`(?m)^\s*Waiting +1\b`, "kafka show connection one")
	w.expect(`(?m)^\s*Accepted +1\b(?s:.*)^\s*Dropped +0\b`, "kafka show connection one") // the test message is in no account
}

func TestRecordsWaitForTheBroker(t *testing.T) { everywhere(t, recordsWaitForTheBroker) }

func recordsWaitForTheBroker(t *testing.T, on kind) {
	w := newWorld(t, options{on: on, parts: 1, files: map[string]string{"kafka.conf": group}})
	topic := w.name("t")
	path := w.probeFile([2][]byte{[]byte("k"), []byte("1")}, [2][]byte{[]byte("k"), []byte("2")}, [2][]byte{[]byte("k"), []byte("3")})
	w.expect(`accepted 3 refused 0`, "kafka probe file one %s %s", topic, path)
	w.acknowledged("one", 3)
	w.subscribe(topic, 0)
	w.waitReceived("got", 3)
	if err := w.broker.stop(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		w.expect(`accepted 3 refused 0`, "kafka probe file one %s %s", topic, path)
	}
	w.until(`(?m)^\s*Waiting +9\b`, "kafka show connection one")
	stopped := time.Now()
	if err := w.broker.start(); err != nil {
		t.Fatal(err)
	}
	back := time.Now()
	w.acknowledged("one", 12)
	t.Logf("the broker took %v to come back, the records %v to be acknowledged after that", back.Sub(stopped), time.Since(back))
	var values []string
	for _, r := range w.read(topic, 12) {
		values = append(values, text(r.Payload))
	}
	if got := strings.Join(values, ""); got != "123123123123" {
		t.Errorf("order %s", got)
	}
	// The consumer continues as well. No message is missing; uncommitted messages may come again.
	first := map[string]bool{}
	for count := 12; len(first) < 12; count++ {
		for i, line := range w.waitReceived("got", count) {
			if !first[line] && !strings.HasPrefix(line, fmt.Sprintf("%s 0 %d ", topic, len(first))) {
				t.Fatalf("delivery %d is %s, want offset %d or an earlier one", i, line, len(first))
			}
			first[line] = true
		}
	}
}

// TestFullQueue checks records beyond the queue's limit: refused at once with memory alone, and written to
// disk otherwise.
func TestFullQueue(t *testing.T) {
	connection := func(name, durability string) string {
		return "[" + name + "]\ntype = connection\nbrokers = %BROKER%\nqueue_buffering_max_messages = 1000\ndurability = " + durability + "\n"
	}
	w := newWorld(t, options{noBroker: true, files: map[string]string{
		"kafka.conf":     connection("one", "memory") + connection("two", "overflow") + connection("three", "memory"),
		"cdr_kafka.conf": "[global]\nconnection = three\n", // which keeps call records on disk: the queue has other limits
	}})
	mark := w.pbx.LogMark()
	records := make([][2][]byte, 1500)
	for i := range records {
		records[i] = [2][]byte{nil, []byte("v")}
	}
	path := w.probeFile(records...)
	w.expect(`accepted 1000 refused 500`, "kafka probe file one t %s", path)
	w.waitLog(mark, `ERROR.*connection 'one': refused \d+ record\(s\), topic 't': queue_buffering_max_messages`)
	w.until(`(?m)^\s*Waiting +1000\b`, "kafka show connection one")

	// A connection with call records on disk accepts these. The queue's limits apply to records in memory all
	// the same.
	w.expect(`accepted 1000 refused 500`, "kafka probe file three t %s", path)
	w.until(`(?m)^\s*Waiting +1000\b`, "kafka show connection three")
	w.until(`(?m)^\s*Dropped +0\b(?s:.*)^\s*Refused +500 `, "kafka show connection three")

	w.expect(`accepted 1500 refused 0`, "kafka probe file two t %s", path)
	w.until(`(?m)^\s*Spooled +1500\b`, "kafka show connection two")
	w.until(`(?m)^\s*t +1,?500\b`, "kafka show spool two")
}

// TestStop_ThrottledNumbers_AreLogged checks the last lines of the engine in Asterisk's log: records not yet
// counted by a throttled line, and records dropped at the end. The engine writes these lines to its socket
// while Asterisk stops.
func TestStop_ThrottledNumbers_AreLogged(t *testing.T) {
	w := newWorld(t, options{noBroker: true, modules: []string{"res_kafka", "kafka_probe"}, files: map[string]string{
		"kafka.conf": "[one]\ntype = connection\nbrokers = %BROKER%\nqueue_buffering_max_messages = 1000\ndurability = memory\n" +
			"flush_timeout_ms = 100\n",
	}})
	records := make([][2][]byte, 1500)
	for i := range records {
		records[i] = [2][]byte{nil, []byte("v")}
	}
	path := w.probeFile(records...)
	w.expect(`accepted 1000 refused 500`, "kafka probe file one t %s", path)
	w.until(`(?m)^\s*Waiting +1000\b`, "kafka show connection one")
	w.until(`(?m)^\s*Refused +500 `, "kafka show connection one")
	w.expect(`accepted 0 refused 1500`, "kafka probe file one t %s", path)
	w.must(w.pbx.Stop(pbx.Now))
	refused, dropped := 0, 0
	for _, line := range w.pbx.LogLines() {
		for count, pattern := range map[*int]string{&refused: `refused (\d+) (?:more )?record`, &dropped: `(\d+) record\(s\) .*dropped`} {
			if m := regexp.MustCompile(pattern).FindStringSubmatch(line); m != nil {
				n, _ := strconv.Atoi(m[1])
				*count += n
			}
		}
	}
	if refused != 2000 || dropped != 1000 {
		t.Errorf("the log has %d refused and %d dropped records, not 2000 and 1000:\n%s", refused, dropped, strings.Join(w.pbx.LogLines(), "\n"))
	}
}
