package scenario

import (
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"reskafka/test/pbx"
)

// group is a connection with a consumer group, besides the default connection.
const group = "[one]\ntype = connection\nbrokers = %BROKER%\ngroup_id = calls-%ID%\nauto_offset_reset = earliest\nauto_commit_interval_ms = 200\n"

// received reads the lines of the probe's callback, one for each message: topic partition offset key payload
// headers…
func (w *world) received(file string) []string {
	text, err := os.ReadFile(filepath.Join(w.dir, file))
	if err != nil && !os.IsNotExist(err) {
		w.Fatal(err)
	}
	return strings.FieldsFunc(string(text), func(r rune) bool { return r == '\n' })
}

// waitReceived waits until the probe has been called back so often.
func (w *world) waitReceived(file string, count int) []string {
	w.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		lines := w.received(file)
		if len(lines) >= count {
			return lines
		}
		if time.Now().After(deadline) {
			w.Fatalf("%d messages came, want %d:\n%s", len(lines), count, strings.Join(lines, "\n"))
		}
	}
}

// payloads returns the payloads of received lines.
func payloads(lines []string) []string {
	var all []string
	for _, line := range lines {
		if fields := strings.Fields(line); len(fields) > 4 {
			bytes, _ := hex.DecodeString(fields[4])
			all = append(all, string(bytes))
		}
	}
	return all
}

// send has kcat produce records with these values.
func (w *world) send(topic string, values ...string) {
	w.Helper()
	path := filepath.Join(w.dir, "send")
	if err := os.WriteFile(path, []byte(strings.Join(values, "\n")+"\n"), 0o600); err != nil {
		w.Fatal(err)
	}
	if _, err := pbx.Kcat(w.ctx, w.root, "-P", "-b", w.address, "-t", topic, "-l", path); err != nil {
		w.Fatal(err)
	}
}

func (w *world) subscribe(topics string, sleep int) {
	w.Helper()
	w.expect(`subscribe 0`, `kafka probe subscribe one "%s" %s %d`, topics, filepath.Join(w.dir, "got"), sleep)
}

func numbers(from, to int) []string {
	var all []string
	for n := from; n < to; n++ {
		all = append(all, fmt.Sprint(n))
	}
	return all
}

func TestConsume(t *testing.T) { everywhere(t, consume) }

func consume(t *testing.T, on kind) {
	w := newWorld(t, options{on: on, parts: 1, files: map[string]string{"kafka.conf": group}})
	apart, other, member := w.name("apart"), w.name("other"), `(?m)^one +`+w.name("calls")+" +"
	w.expect(`accepted 4 refused 0`, "kafka probe file one %s %s", apart, w.probeFile(
		[2][]byte{nil, []byte("v")}, [2][]byte{{}, nil}, [2][]byte{[]byte("k\xff"), {}}, [2][]byte{[]byte("k"), []byte("\x01\xfe")}))
	w.expect(`produce 0`, "kafka probe headers one %s 2", apart)
	w.subscribe(apart, 0)
	want := []string{"0 0 - 76", "0 1 . -", "0 2 6bff .", "0 3 6b 01fe", "0 4 6b 76 h0 . h1 6831"}
	for i := range want {
		want[i] = apart + " " + want[i]
	}
	if got := w.waitReceived("got", len(want)); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	w.expect(member+"Yes", "kafka show consumers")
	w.expect(`Unable to unload`, "module unload res_kafka.so")

	// Later messages are pushed. Delivered messages do not come again after another subscription.
	w.send(apart, "later")
	w.waitReceived("got", 6)
	w.expect(`unsubscribe 0`, "kafka probe unsubscribe")
	w.expect(member+"No", "kafka show consumers")
	w.send(apart, "meanwhile")
	w.subscribe(" "+apart+" , ,"+other, 0)
	w.send(other, "other")
	got := payloads(w.waitReceived("got", 8))[6:]
	slices.Sort(got)
	if !slices.Equal(got, []string{"meanwhile", "other"}) {
		t.Errorf("after subscribing again came %q", got)
	}

	// Unsubscribed inside the callback: no message follows.
	w.send(apart, "unsubscribe", "never")
	w.waitReceived("got", 9)
	w.until(member+"No", "kafka show consumers")
	w.subscribe(apart, 0)
	if got := payloads(w.waitReceived("got", 10)); got[9] != "never" {
		t.Errorf("after unsubscribing inside the callback came %q", got[9:])
	}

	// The last reference is given up inside the callback: the subscription keeps the consumer.
	w.send(apart, "drop", "then")
	if got := payloads(w.waitReceived("got", 12)); got[11] != "then" {
		t.Errorf("after the last reference was gone came %q", got[11:])
	}
	w.expect(member+"Yes", "kafka show consumers")
	w.subscribe(apart, 0)
	w.send(apart, "again")
	if got := payloads(w.waitReceived("got", 13)); got[12] != "again" {
		t.Errorf("after subscribing again came %q", got[12:])
	}
	w.cli("kafka probe end")
	w.expect(`Unloaded`, "module unload kafka_probe.so")
	w.cli("module unload cdr_kafka.so")
	w.expect(`Unloaded`, "module unload res_kafka.so")
}

// TestUnload_SubscriptionAlone_EndsCallbacks checks a consumer referenced only by its subscription. The
// consumer does not prevent the unload, and the unload waits for the current callback. The subscribing module
// requires res_kafka, so the unload has to be forced.
func TestUnload_SubscriptionAlone_EndsCallbacks(t *testing.T) {
	w := newWorld(t, options{parts: 1, modules: []string{"res_kafka", "kafka_probe"}, files: map[string]string{"kafka.conf": group}})
	topic := w.name("alone")
	w.subscribe(topic, 200)
	w.send(topic, numbers(0, 5)...)
	w.waitReceived("got", 1)
	w.expect(`Unable to unload`, "module unload -f res_kafka.so")
	w.send(topic, "drop")
	w.waitReceived("got", 6)
	w.send(topic, numbers(5, 200)...)
	w.waitReceived("got", 8)
	w.expect(`Unloaded`, "module unload -f res_kafka.so")
	came := len(w.received("got"))
	w.expect(`System uptime`, "core show uptime")
	if again := len(w.received("got")); again != came || came >= 200 {
		t.Errorf("%d messages came before the end of the unload and %d after it", came, again-came)
	}
}

func TestWrongConsumerCallsAreRefused(t *testing.T) {
	w := newWorld(t, options{files: map[string]string{"kafka.conf": group + "\n[groupless]\ntype = connection\nbrokers = %BROKER%\n"}})
	mark := w.pbx.LogMark()
	w.expect(`(?s)same yes.null consumer -1.null topics -1.null callback -1.no topic left -1.unsubscribe null -1.unsubscribe nothing 0.commit nothing -1.pause nothing -1.unknown name -1.null name -1`,
		"kafka probe consumers one")
	w.cli("kafka probe second groupless t /dev/null")
	w.waitLog(mark, `ERROR.*connection 'groupless': it has no group_id`)
}

func TestASlowCallbackDelaysOnlyItself(t *testing.T) { everywhere(t, aSlowCallbackDelaysOnlyItself) }

func aSlowCallbackDelaysOnlyItself(t *testing.T, on kind) {
	w := newWorld(t, options{on: on, parts: 1, files: map[string]string{
		"kafka.conf": group + "\n[two]\ntype = connection\nbrokers = %BROKER%\ngroup_id = others-%ID%\nauto_offset_reset = earliest\n",
	}})
	slow, fast := w.name("slow"), w.name("fast")
	w.send(fast, "joined")
	w.expect(`subscribe 0`, "kafka probe second two %s %s", fast, filepath.Join(w.dir, "fast"))
	w.waitReceived("fast", 1)
	w.send(slow, "1", "2")
	w.subscribe(slow, 10000)
	w.until(`inside 1`, "kafka probe inside")
	w.send(fast, numbers(0, 50)...)
	w.waitReceived("fast", 51)
	w.expect(`inside 1`, "kafka probe inside")
	if got := w.received("got"); len(got) > 0 {
		t.Fatalf("the slow callback was over before the fast ones: %q", got)
	}
	// Unsubscribing during the callback's sleep returns when the callback does.
	printed := w.expect(`unsubscribe 0 after \d+ ms`, "kafka probe unsubscribe")
	w.expect(`inside 0`, "kafka probe inside")
	if got := w.received("got"); len(got) != 1 {
		t.Errorf("%d messages after unsubscribe returned (%s)", len(got), printed)
	}
	time.Sleep(300 * time.Millisecond)
	if got := w.received("got"); len(got) != 1 {
		t.Errorf("a callback came after unsubscribe had returned: %q", got)
	}
}

func TestKillInMidConsumptionSkipsNothing(t *testing.T) {
	everywhere(t, killInMidConsumptionSkipsNothing)
}

func killInMidConsumptionSkipsNothing(t *testing.T, on kind) {
	w := newWorld(t, options{on: on, parts: 1, files: map[string]string{"kafka.conf": group + "session_timeout_ms = 6000\n"}})
	topic := w.name("t")
	w.send(topic, numbers(0, 3000)...)
	w.subscribe(topic, 1)
	w.waitReceived("got", 1500)
	if err := w.pbx.Stop(pbx.Kill); err != nil {
		t.Fatal(err)
	}
	before := w.received("got")
	w.boot()
	w.subscribe(topic, 0)
	seen := map[string]bool{}
	for deadline := time.Now().Add(patience); len(seen) < 3000; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d of 3000 messages came, %d of them before the kill", len(seen), len(before))
		}
		for _, payload := range payloads(w.received("got")) {
			seen[payload] = true
		}
	}
	t.Logf("%d messages before the kill, %d after it: %d came again", len(before), len(w.received("got"))-len(before), len(w.received("got"))-3000)
}

// TestConsumer_Backlog_ArrivesWhole guards messages in areas of the shared memory: each arrives once, in order and
// unchanged, before and after a single message on the socket.
func TestConsumer_Backlog_ArrivesWhole(t *testing.T) { everywhere(t, backlogArrivesWhole) }

func backlogArrivesWhole(t *testing.T, on kind) {
	w := newWorld(t, options{on: on, parts: 1, files: map[string]string{"kafka.conf": group}})
	var values []string
	topic, want := w.name("t"), []string{"alone"}
	for n := range 3000 {
		values = append(values, fmt.Sprint(n, strings.Repeat(string(rune('a'+n%26)), n)))
	}
	w.send(topic, want...)
	w.subscribe(topic, 0)
	w.waitReceived("got", 1)
	for round := range 2 {
		w.expect(`pause 0`, "kafka probe pause %s", topic)
		w.send(topic, values...)
		w.expect(`resume 0`, "kafka probe resume %s", topic)
		want = append(want, values...)
		lines := w.waitReceived("got", len(want))
		for i, line := range lines {
			if place := fmt.Sprintf("%s 0 %d ", topic, i); !strings.HasPrefix(line, place) {
				t.Fatalf("line %d is %.60q, want %q", i, line, place)
			}
		}
		got := payloads(lines)
		if !slices.Equal(got, want) {
			at := 0
			for at < min(len(got), len(want))-1 && got[at] == want[at] {
				at++
			}
			t.Fatalf("round %d: %d messages, want %d; number %d is %.40q, want %.40q", round, len(got), len(want), at, got[at], want[at])
		}
		want = append(want, "alone")
		w.send(topic, "alone")
		w.waitReceived("got", len(want))
	}
}

func TestManualCommit(t *testing.T) { everywhere(t, manualCommit) }

func manualCommit(t *testing.T, on kind) {
	w := newWorld(t, options{on: on, parts: 1, files: map[string]string{"kafka.conf": group + "enable_auto_commit = no\n"}})
	topic := w.name("t")
	w.send(topic, "1", "2", "commit", "3", "4")
	w.subscribe(topic, 0)
	lines := w.waitReceived("got", 6)
	if !slices.Contains(lines, "commit 0") {
		t.Fatalf("the commit failed: %q", lines)
	}
	w.cli("kafka probe unsubscribe")
	w.subscribe(topic, 0)
	if again := payloads(w.waitReceived("got", 8)[6:]); !slices.Equal(again, []string{"3", "4"}) {
		t.Errorf("after a commit came %q again, want 3 and 4", again)
	}
}

func TestPauseAndResume(t *testing.T) { everywhere(t, pauseAndResume) }

func pauseAndResume(t *testing.T, on kind) {
	w := newWorld(t, options{on: on, parts: 1, files: map[string]string{"kafka.conf": group}})
	a, b := w.name("a"), w.name("b")
	w.subscribe(a+","+b, 0)
	w.send(a, "1")
	w.send(b, "1")
	w.waitReceived("got", 2)
	w.expect(`pause 0`, "kafka probe pause %s", a)
	w.send(a, "2")
	w.send(b, "2")
	if last := w.waitReceived("got", 3)[2]; !strings.HasPrefix(last, b+" ") {
		t.Errorf("a paused topic delivered: %s", last)
	}
	w.expect(`resume 0`, "kafka probe resume %s", a)
	if last := w.waitReceived("got", 4)[3]; !strings.HasPrefix(last, a+" ") {
		t.Errorf("a resumed topic delivered %s", last)
	}
}

func TestSubscriptionOutlivesReloads(t *testing.T) { everywhere(t, subscriptionOutlivesReloads) }

func subscriptionOutlivesReloads(t *testing.T, on kind) {
	w := newWorld(t, options{on: on, parts: 1, files: map[string]string{"kafka.conf": group}})
	topic := w.name("t")
	w.subscribe(topic, 0)
	w.send(topic, "1")
	w.waitReceived("got", 1)
	reload := func(text string) {
		if err := w.pbx.WriteFile("kafka.conf", w.filled(text)); err != nil {
			t.Fatal(err)
		}
		w.cli("module reload res_kafka.so")
	}
	reload(group + "client_id = other\n")
	w.send(topic, "2")
	w.waitReceived("got", 2)
	reload("[two]\ntype = connection\nbrokers = %BROKER%\n")
	w.send(topic, "3")
	time.Sleep(500 * time.Millisecond)
	if got := w.received("got"); len(got) != 2 {
		t.Errorf("a removed connection delivered: %q", got)
	}
	reload(group)
	if got := payloads(w.waitReceived("got", 3)); !slices.Equal(got, []string{"1", "2", "3"}) {
		t.Errorf("over three reloads came %q", got)
	}
}

func TestEnsureTopic(t *testing.T) { everywhere(t, ensureTopic) }

func ensureTopic(t *testing.T, on kind) {
	w := newWorld(t, options{on: on, files: map[string]string{
		"cdr_kafka.conf": fmt.Sprintf("[global]\nconnection = one\ntopic = %%ID%%-calls\ntopic_partitions = 4\ntopic_replication = %d\n", on.brokers),
	}})
	w.topicIs(w.id+"-calls", 4, on.brokers)
	made, later, large := w.name("made"), w.name("later"), w.name("large")
	mark := w.pbx.LogMark()
	w.expect(`ensure 0`, "kafka probe ensure one %s 7 %d wait", made, on.brokers)
	w.expect(`ensure 0`, "kafka probe ensure one %s 7 %d wait", made, on.brokers)
	w.topicIs(made, 7, on.brokers)
	w.expect(`ensure 0`, "kafka probe ensure one %s 2 0 async", later)
	w.topicIs(later, 2, on.brokers)
	w.expect(`ensure -1`, "kafka probe ensure one no/topic 1 1 wait")
	w.waitLog(mark, `ERROR.*a topic cannot be called 'no/topic'`)
	w.expect(`ensure -1`, "kafka probe ensure one %s 1 %d wait", large, on.brokers+1)
	w.waitLog(mark, `ERROR.*`+large+`.*INVALID_REPLICATION_FACTOR`)
	w.expect(`ensure -1`, "kafka probe ensure unknown t 1 1 wait")

	typed := w.name("typed")
	w.expect(`Topic `+typed+` created`, "kafka topic create one %s partitions 5 replication %d", typed, on.brokers)
	w.expect(`Topic `+typed+` is there already, it stays as it is`, "kafka topic create one %s", typed)
	w.topicIs(typed, 5, on.brokers)
	w.expect(`Error: Topic not created: INVALID_REPLICATION_FACTOR`, "kafka topic create one %s replication %d", w.name("wide"), on.brokers+1)
}

// topicIs waits for a topic and checks its number of partitions and, where brokers replicate, of replicas.
func (w *world) topicIs(topic string, partitions, replicas int) {
	w.Helper()
	admin := w.admin()
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		listed, err := admin.ListTopics(w.ctx, topic)
		if detail := listed[topic]; err == nil && detail.Err == nil {
			if len(detail.Partitions) != partitions || w.cluster != nil && detail.Partitions.NumReplicas() != replicas {
				w.Errorf("%s has %v, want %d partitions of %d replicas", topic, detail.Partitions, partitions, replicas)
			}
			return
		}
		if time.Now().After(deadline) {
			w.Fatalf("topic %s was not made: %v, %v", topic, err, listed[topic].Err)
		}
	}
}

// admin returns a client for direct requests to the brokers.
func (w *world) admin() *kadm.Client {
	w.Helper()
	// The client caches the metadata of topics for no longer than this.
	client, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(w.address, ",")...), kgo.MetadataMinAge(10*time.Millisecond))
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(client.Close)
	return kadm.NewClient(client)
}
