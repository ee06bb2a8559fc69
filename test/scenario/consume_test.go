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

	"reskafka/test/pbx"
)

// group is a connection that can consume, besides the default one.
const group = "[one]\ntype = connection\nbrokers = %BROKER%\ngroup_id = calls\nauto_offset_reset = earliest\nauto_commit_interval_ms = 200\n"

// received reads what the probe's callback wrote: a line for each message, topic partition offset key payload headers…
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

// payloads gives the payloads of received lines.
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

func consume(t *testing.T, on string) {
	w := newWorld(t, options{on: on, parts: 1, files: map[string]string{"kafka.conf": group}})
	w.expect(`accepted 4 refused 0`, "kafka probe file one apart %s", w.probeFile(
		[2][]byte{nil, []byte("v")}, [2][]byte{{}, nil}, [2][]byte{[]byte("k\xff"), {}}, [2][]byte{[]byte("k"), []byte("\x01\xfe")}))
	w.expect(`produce 0`, "kafka probe headers one apart 2")
	w.subscribe("apart", 0)
	want := []string{"apart 0 0 - 76", "apart 0 1 . -", "apart 0 2 6bff .", "apart 0 3 6b 01fe", "apart 0 4 6b 76 h0 . h1 6831"}
	if got := w.waitReceived("got", len(want)); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	w.expect(`(?m)^one +calls +Yes`, "kafka show consumers")
	w.expect(`Unable to unload`, "module unload res_kafka.so")

	// What came later is pushed; what was delivered is not delivered again after another subscription.
	w.send("apart", "later")
	w.waitReceived("got", 6)
	w.expect(`unsubscribe 0`, "kafka probe unsubscribe")
	w.expect(`(?m)^one +calls +No`, "kafka show consumers")
	w.send("apart", "meanwhile")
	w.subscribe(" apart , ,other", 0)
	w.send("other", "other")
	got := payloads(w.waitReceived("got", 8))[6:]
	slices.Sort(got)
	if !slices.Equal(got, []string{"meanwhile", "other"}) {
		t.Errorf("after subscribing again came %q", got)
	}

	// From inside the callback: nothing comes after it.
	w.send("apart", "unsubscribe", "never")
	w.waitReceived("got", 9)
	w.until(`(?m)^one +calls +No`, "kafka show consumers")
	w.subscribe("apart", 0)
	if got := payloads(w.waitReceived("got", 10)); got[9] != "never" {
		t.Errorf("after unsubscribing inside the callback came %q", got[9:])
	}
	w.cli("kafka probe end")
	w.expect(`Unloaded`, "module unload kafka_probe.so")
	w.cli("module unload cdr_kafka.so")
	w.expect(`Unloaded`, "module unload res_kafka.so")
}

func TestWrongConsumerCallsAreRefused(t *testing.T) {
	w := newWorld(t, options{files: map[string]string{"kafka.conf": group + "\n[groupless]\ntype = connection\nbrokers = %BROKER%\n"}})
	mark := w.pbx.LogMark()
	w.expect(`(?s)same yes.null consumer -1.null topics -1.null callback -1.no topic left -1.unsubscribe null -1.unsubscribe nothing 0.commit nothing -1.pause nothing -1.unknown name -1.null name -1`,
		"kafka probe consumers one")
	w.cli("kafka probe second groupless t /dev/null")
	w.waitLog(mark, `ERROR.*connection 'groupless': it has no group_id`)
}

func TestASlowCallbackDelaysOnlyItself(t *testing.T) {
	w := newWorld(t, options{parts: 1, files: map[string]string{"kafka.conf": group + "\n[two]\ntype = connection\nbrokers = %BROKER%\ngroup_id = others\nauto_offset_reset = earliest\n"}})
	w.send("slow", "1", "2")
	w.subscribe("slow", 10000)
	w.expect(`subscribe 0`, "kafka probe second two fast %s", filepath.Join(w.dir, "fast"))
	w.until(`(?m)^two +others +Yes`, "kafka show consumers")
	started := time.Now()
	w.send("fast", numbers(0, 50)...)
	w.waitReceived("fast", 50)
	if took := time.Since(started); len(w.received("got")) > 0 {
		t.Fatalf("the slow callback was over before the fast ones: %v", took)
	}
	// Unsubscribing while it sleeps returns when it does.
	printed := w.expect(`unsubscribe 0 after \d+ ms`, "kafka probe unsubscribe")
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

func killInMidConsumptionSkipsNothing(t *testing.T, on string) {
	w := newWorld(t, options{on: on, parts: 1, files: map[string]string{"kafka.conf": group + "session_timeout_ms = 6000\n"}})
	w.send("t", numbers(0, 3000)...)
	w.subscribe("t", 1)
	w.waitReceived("got", 1500)
	if err := w.pbx.Stop(pbx.Kill); err != nil {
		t.Fatal(err)
	}
	before := w.received("got")
	w.boot()
	w.subscribe("t", 0)
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

func TestManualCommit(t *testing.T) { everywhere(t, manualCommit) }

func manualCommit(t *testing.T, on string) {
	w := newWorld(t, options{on: on, parts: 1, files: map[string]string{"kafka.conf": group + "enable_auto_commit = no\n"}})
	w.send("t", "1", "2", "commit", "3", "4")
	w.subscribe("t", 0)
	lines := w.waitReceived("got", 6)
	if !slices.Contains(lines, "commit 0") {
		t.Fatalf("the commit failed: %q", lines)
	}
	w.cli("kafka probe unsubscribe")
	w.subscribe("t", 0)
	if again := payloads(w.waitReceived("got", 8)[6:]); !slices.Equal(again, []string{"3", "4"}) {
		t.Errorf("after a commit came %q again, want 3 and 4", again)
	}
}

func TestPauseAndResume(t *testing.T) { everywhere(t, pauseAndResume) }

func pauseAndResume(t *testing.T, on string) {
	w := newWorld(t, options{on: on, parts: 1, files: map[string]string{"kafka.conf": group}})
	w.subscribe("a,b", 0)
	w.send("a", "1")
	w.send("b", "1")
	w.waitReceived("got", 2)
	w.expect(`pause 0`, "kafka probe pause a")
	w.send("a", "2")
	w.send("b", "2")
	if last := w.waitReceived("got", 3)[2]; !strings.HasPrefix(last, "b ") {
		t.Errorf("a paused topic delivered: %s", last)
	}
	w.expect(`resume 0`, "kafka probe resume a")
	if last := w.waitReceived("got", 4)[3]; !strings.HasPrefix(last, "a ") {
		t.Errorf("a resumed topic delivered %s", last)
	}
}

func TestSubscriptionOutlivesReloads(t *testing.T) { everywhere(t, subscriptionOutlivesReloads) }

func subscriptionOutlivesReloads(t *testing.T, on string) {
	w := newWorld(t, options{on: on, parts: 1, files: map[string]string{"kafka.conf": group}})
	w.subscribe("t", 0)
	w.send("t", "1")
	w.waitReceived("got", 1)
	reload := func(text string) {
		if err := w.pbx.WriteFile("kafka.conf", strings.ReplaceAll(text, "%BROKER%", w.address)); err != nil {
			t.Fatal(err)
		}
		w.cli("module reload res_kafka.so")
	}
	reload(group + "client_id = other\n")
	w.send("t", "2")
	w.waitReceived("got", 2)
	reload("[two]\ntype = connection\nbrokers = %BROKER%\n")
	w.send("t", "3")
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

func ensureTopic(t *testing.T, on string) {
	w := newWorld(t, options{on: on})
	mark := w.pbx.LogMark()
	w.expect(`ensure 0`, "kafka probe ensure one made 7 1 wait")
	w.expect(`ensure 0`, "kafka probe ensure one made 7 1 wait")
	listed, err := pbx.Kcat(w.ctx, w.root, "-L", "-b", w.address, "-t", "made")
	if err != nil || !strings.Contains(listed, "with 7 partitions") {
		t.Errorf("%v: %s", err, listed)
	}
	w.expect(`ensure 0`, "kafka probe ensure one later 2 1 async")
	w.until(`.`, "core show uptime")
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		listed, _ := pbx.Kcat(w.ctx, w.root, "-L", "-b", w.address)
		if strings.Contains(listed, `"later" with 2 partitions`) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the topic was not made:\n%s", listed)
		}
	}
	w.expect(`ensure -1`, "kafka probe ensure one no/topic 1 1 wait")
	w.waitLog(mark, `ERROR.*a topic cannot be called 'no/topic'`)
	w.expect(`ensure -1`, "kafka probe ensure unknown t 1 1 wait")
}
