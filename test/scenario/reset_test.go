package scenario

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

func TestOffsetReset(t *testing.T) { everywhere(t, offsetReset) }

// offsetReset checks the start of a group without commits: auto_offset_reset earliest, latest and none.
func offsetReset(t *testing.T, on kind) {
	conf := ""
	for _, reset := range []string{"earliest", "latest", "none"} {
		conf += fmt.Sprintf("[%s]\ntype = connection\nbrokers = %%BROKER%%\ngroup_id = %[1]s-%%ID%%\nauto_offset_reset = %[1]s\nauto_commit_interval_ms = 200\n\n", reset)
	}
	w := newWorld(t, options{on: on, files: map[string]string{"kafka.conf": conf}})
	topic := w.name("t")
	w.send(topic, numbers(0, 3)...)
	subscribe := func(connection string) {
		t.Helper()
		w.expect(`subscribe 0`, `kafka probe subscribe %s "%s" %s/%[1]s 0`, connection, topic, w.dir)
	}

	subscribe("earliest")
	if got := payloads(w.waitReceived("earliest", 3)); !slices.Equal(got, numbers(0, 3)) {
		t.Errorf("earliest began with %q", got)
	}
	w.cli("kafka probe end")

	// Records from before the join may be left out, so records are produced until one arrives.
	subscribe("latest")
	last := 3
	for deadline := time.Now().Add(patience); len(w.received("latest")) == 0; last++ {
		if time.Now().After(deadline) {
			t.Fatalf("nothing came to the group that began at the end, after %d messages", last)
		}
		w.send(topic, numbers(last, last+1)...)
	}
	w.send(topic, numbers(last, last+1)...)
	var got []string
	for deadline := time.Now().Add(patience); len(got) == 0 || got[len(got)-1] != fmt.Sprint(last); time.Sleep(20 * time.Millisecond) {
		if got = payloads(w.received("latest")); time.Now().After(deadline) {
			t.Fatalf("latest got %q, want all until %d", got, last)
		}
	}
	if want := numbers(last+1-len(got), last+1); got[0] < "3" && len(got[0]) == 1 || !slices.Equal(got, want) {
		t.Errorf("latest got %q, want %q", got, want)
	}
	w.cli("kafka probe end")

	mark := w.pbx.LogMark()
	subscribe("none")
	w.waitLog(mark, `ERROR.*group none-`+w.id+` has no committed offset and auto_offset_reset = none`)
	if got := w.received("none"); len(got) > 0 {
		t.Errorf("none got %q", got)
	}
}

func TestSendFromTheConsole(t *testing.T) { everywhere(t, sendFromTheConsole) }

// sendFromTheConsole checks the answer of `kafka test send`: acknowledged with its key, or the reason.
func sendFromTheConsole(t *testing.T, on kind) {
	w := newWorld(t, options{on: on, modules: []string{"res_kafka"}})
	topic := w.name("t")
	w.expect(`^Message sent successfully`, `kafka test send connection one topic %s message "hello world" key k`, topic)
	w.expect(`^Message sent successfully`, `kafka test send connection one topic %s message again`, topic)
	records := w.read(topic, 2)
	if text(records[0].Key) != "k" || text(records[0].Payload) != "hello world" || records[1].Key != nil || text(records[1].Payload) != "again" {
		t.Errorf("read %s %s and %s %s", text(records[0].Key), text(records[0].Payload), text(records[1].Key), text(records[1].Payload))
	}
	w.expect(`^Error: Message not sent: `, "kafka test send connection one topic no/topic message m")
	if on.embedded() {
		return // no limit to test
	}
	if _, err := w.admin().CreateTopics(w.ctx, 1, -1, map[string]*string{"max.message.bytes": ptr("100")}, w.name("small")); err != nil {
		t.Fatal(err)
	}
	w.expect(`^Error: Message not sent: .*(?i)too.large`, "kafka test send connection one topic %s message %0200d", w.name("small"), 1)
}

func ptr[T any](value T) *T { return &value }
