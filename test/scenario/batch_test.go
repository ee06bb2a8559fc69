package scenario

import (
	"strings"
	"testing"

	"reskafka/test/pbx"
)

// TestBatchedCallRecords_EachFormOfStop_AllDelivered guards call records posted by Asterisk's own thread
// during the exit handlers (cdr.conf: batch = yes, safeshutdown = no). The stages were closed by then, and
// most records were refused without a line.
func TestBatchedCallRecords_EachFormOfStop_AllDelivered(t *testing.T) {
	const calls = 60
	term := func(w *world) error {
		return w.pbx.Stop(pbx.Terminate)
	}
	for _, row := range []struct {
		name, safeshutdown, durability string
		stop                           func(w *world) error
	}{
		{"stop now", "no", "disk", func(w *world) error { return w.pbx.Stop(pbx.Now) }},
		{"stop now, memory only", "no", "memory", func(w *world) error { return w.pbx.Stop(pbx.Now) }},
		{"SIGTERM", "no", "disk", term},
		{"restart now", "no", "disk", func(w *world) error { return w.pbx.Restart(w.ctx) }},
		{"stop gracefully", "no", "disk", func(w *world) error { return w.pbx.Stop(pbx.Gracefully) }},
		{"stop gracefully, safe shutdown", "yes", "disk", func(w *world) error { return w.pbx.Stop(pbx.Gracefully) }},
		{"unload", "no", "disk", func(w *world) error {
			w.cli("module unload cdr_kafka.so")
			return nil
		}},
		{"stop now, safe shutdown", "yes", "disk", func(w *world) error { return w.pbx.Stop(pbx.Now) }},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, options{parts: 1, files: map[string]string{
				"cdr.conf": "[general]\nenable = yes\nunanswered = yes\nbatch = yes\nsize = 1000\ntime = 3600\nsafeshutdown = " +
					row.safeshutdown + "\n",
				"cdr_kafka.conf":  "[global]\nconnection = one\ntopic = calls-%ID%\ndurability = " + row.durability + "\n",
				"extensions.conf": "[calls]\nexten => s,1,Answer()\n same => n,Hangup()\n",
			}})
			for range calls {
				w.cli("channel originate Local/s@calls/n application Echo")
			}
			w.until(`0 active channels`, "core show channels")
			w.until(`(?m)batch size:\s+120\b`, "cdr show status")
			w.must(row.stop(w))
			w.read(w.name("calls"), 2*calls)
		})
	}
}

// TestRecordsAfterTheEnd_Counted checks records posted after Asterisk's exit handler: they are refused and
// logged in one line.
func TestRecordsAfterTheEnd_Counted(t *testing.T) {
	w := newWorld(t, options{parts: 1})
	go func() { _, _ = w.pbx.CLI("kafka probe rate one " + w.name("t") + " 100 2000 30 2") }()
	w.until(`Acknowledged:? +[1-9]`, "kafka show connection one")
	w.must(w.pbx.Stop(pbx.Now))
	lines := 0
	for _, line := range w.pbx.LogLines() {
		if strings.Contains(line, "after res_kafka had ended") {
			lines++
			if !strings.Contains(line, "safeshutdown = yes") {
				t.Error(line)
			}
		}
	}
	if lines == 0 || lines > 2 { // one at the end of the exit handler, one for the first record after
		t.Errorf("%d lines about records that came too late", lines)
	}
}
