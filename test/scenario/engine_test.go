package scenario

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"reskafka/test/child"
	"reskafka/test/pbx"
)

// engineFile finds the engine's binary among the installed files.
func engineFile(t *testing.T, install string) (found string) {
	t.Helper()
	_ = filepath.WalkDir(install, func(path string, _ fs.DirEntry, _ error) error {
		if strings.HasSuffix(path, "/res_kafka/reskafka") {
			found = path
		}
		return nil
	})
	if found == "" {
		t.Fatalf("no engine below %s", install)
	}
	return found
}

var engineID = regexp.MustCompile(`Process id: +(\d+)`)

// engine waits for a serving engine and returns its process id.
func (w *world) engine() int {
	w.Helper()
	pid, err := strconv.Atoi(engineID.FindStringSubmatch(w.until(engineID.String(), "kafka show status"))[1])
	if err != nil {
		w.Fatal(err)
	}
	return pid
}

// signalEngine sends a signal to the serving engine and returns its process id.
func (w *world) signalEngine(signal syscall.Signal) int {
	w.Helper()
	pid := w.engine()
	w.must(syscall.Kill(pid, signal))
	return pid
}

// pauseEngine stops the serving engine with all of its threads and returns its process id.
func (w *world) pauseEngine() int {
	w.Helper()
	pid := w.engine()
	w.must(child.Pause(pid))
	return pid
}

// TestEngine_Crashes_TraceIsKept guards two things after a crash of the engine: Asterisk keeps its calls, and
// the log has the reason.
func TestEngine_Crashes_TraceIsKept(t *testing.T) {
	w := newWorld(t, options{})
	mark := w.pbx.LogMark()
	pid := w.signalEngine(syscall.SIGABRT) // Go writes the stacks of its goroutines, as in a panic
	line := w.waitLog(mark, fmt.Sprintf(`ERROR.*The Kafka engine \(pid %d\) .*SIGABRT.*\(trace: .*\); another one is started in 100 ms`, pid))
	path := regexp.MustCompile(`trace: ([^)]*)`).FindStringSubmatch(line)[1]
	trace, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(trace), "goroutine ") {
		t.Errorf("the trace is\n%s", trace)
	}
	if next := w.engine(); next == pid {
		t.Errorf("the engine is still process %d", pid)
	}
	w.expect(`Restarts: +1`, "kafka show status")
	w.expect(`Message sent successfully`, "kafka test send connection one topic after message crash")
	w.read("after", 1)
}

// TestEngine_KilledUnderLoad_LosesNothing guards the takeover of undelivered work by a new engine: staged
// frames, the spool, subscriptions. Messages may come twice, and nothing overtakes.
func TestEngine_KilledUnderLoad_LosesNothing(t *testing.T) {
	for _, durability := range []string{"disk", "overflow"} {
		t.Run(durability, func(t *testing.T) {
			t.Parallel()
			const messages, kills = 48000, 3
			f := newFlood(t, kind{}, messages, "durability = "+durability+"\n")
			if err := f.pbx.WriteFile("kafka.conf", f.filled("[producing]\ntype = connection\nbrokers = %BROKER%\ndurability = "+durability+
				"\n[consuming]\ntype = connection\nbrokers = %BROKER%\ngroup_id = flood-%ID%\nauto_offset_reset = earliest\nsession_timeout_ms = 6000\n"+
				"auto_commit_interval_ms = 200\n")); err != nil {
				t.Fatal(err)
			}
			f.cli("module reload res_kafka.so")
			f.expect(`ensure 0`, "kafka probe ensure producing %s 4 0 wait", f.topic)
			f.expect(`check 0`, "kafka flood check consuming %s %d %d %d", f.topic, f.threads, f.each, f.keys)
			f.expect(`start 0`, "kafka flood start producing %s %d %d %d 6000 %d", f.topic, f.threads, f.each, f.keys, f.each)
			for range kills {
				time.Sleep(1500 * time.Millisecond)
				f.Logf("engine %d killed at %+v", f.signalEngine(syscall.SIGKILL), f.counts())
			}
			c := f.came(messages)
			f.Logf("%+v", c)
			if c.refusals > 0 || c.disordered+c.strange > 0 {
				t.Errorf("%+v, want each of %d in order", c, messages)
			}
			if err := f.pbx.Stop(pbx.Now); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestEngine_KilledUnderLoad_EachRecordIsReportedOnce guards the pointers of other modules. Each pointer
// returns exactly once, also when the engine dies before a report, or between a report and its record's end.
func TestEngine_KilledUnderLoad_EachRecordIsReportedOnce(t *testing.T) {
	for _, durability := range []string{"memory", "overflow"} {
		t.Run(durability, func(t *testing.T) {
			t.Parallel()
			const records, kills = 8000, 4
			w := newWorld(t, options{modules: []string{"res_kafka", "kafka_probe"}, files: map[string]string{
				"kafka.conf": "[one]\ntype = connection\nbrokers = %BROKER%\ndurability = " + durability + "\n",
			}})
			w.expect(`start 0`, "kafka reported start one t %d 2000", records)
			for range kills {
				time.Sleep(700 * time.Millisecond)
				w.signalEngine(syscall.SIGKILL)
			}
			w.until(fmt.Sprintf(`accepted %d `, records), "kafka reported show")
			counts := regexp.MustCompile(`acknowledged (\d+) failed (\d+) unknown (\d+) strange (\d+)`)
			var sum, strange int
			for deadline := time.Now().Add(patience); time.Now().Before(deadline) && sum < records; time.Sleep(50 * time.Millisecond) {
				sum = 0
				for i, n := range counts.FindStringSubmatch(w.cli("kafka reported show"))[1:] {
					count, _ := strconv.Atoi(n)
					sum += count
					if i == 3 {
						strange = count
					}
				}
			}
			t.Log(w.cli("kafka reported show"))
			if sum != records || strange > 0 {
				t.Errorf("%d reports for %d records, %d strange ones", sum, records, strange)
			}
		})
	}
}

// TestEngine_KilledWithRecordsOnDisk_OutcomeIsNotKnown guards the count of outstanding reports. A record on disk has no frame
// any longer, so no later engine knows its report. Such records used to count as outstanding for ever.
func TestEngine_KilledWithRecordsOnDisk_OutcomeIsNotKnown(t *testing.T) {
	w := newWorld(t, options{noBroker: true, modules: []string{"res_kafka", "kafka_probe"}, files: map[string]string{
		"kafka.conf": "[one]\ntype = connection\nbrokers = %BROKER%\ndurability = disk\n",
	}})
	w.expect(`start 0`, "kafka reported start one t 100 2000")
	w.until(`Spooled +100\b`, "kafka show connection one")
	w.signalEngine(syscall.SIGKILL)
	w.until(`accepted 100 acknowledged 0 failed 0 unknown 100 strange 0`, "kafka reported show")
}

// TestEngine_Killed_DeliveredMessagesDoNotComeAgain guards delivered, uncommitted messages when the engine
// dies: the next engine starts behind them.
func TestEngine_Killed_DeliveredMessagesDoNotComeAgain(t *testing.T) {
	w := newWorld(t, options{files: map[string]string{"kafka.conf": strings.Replace(group, "interval_ms = 200", "interval_ms = 600000", 1)}})
	w.expect(`subscribe 0`, "kafka probe subscribe one t %s 0", filepath.Join(w.dir, "got"))
	w.send("t", "a", "b", "c")
	w.waitReceived("got", 3)
	w.signalEngine(syscall.SIGKILL)
	w.send("t", "d")
	if got := payloads(w.waitReceived("got", 4)); !slices.Equal(got, []string{"a", "b", "c", "d"}) {
		t.Errorf("received: %q", got)
	}
}

// TestEngine_Away_UnsubscribedOffsetsAreCommitted guards delivered messages of a subscription that ends without an
// engine: nobody committed them.
func TestEngine_Away_UnsubscribedOffsetsAreCommitted(t *testing.T) {
	w := newWorld(t, options{files: map[string]string{"kafka.conf": strings.Replace(group, "interval_ms = 200", "interval_ms = 600000", 1)}})
	for range 5 { // crashes, which make the pause long
		mark := w.pbx.LogMark()
		w.signalEngine(syscall.SIGABRT)
		w.waitLog(mark, `another one is started in`)
	}
	w.expect(`subscribe 0`, "kafka probe subscribe one t %s 0", filepath.Join(w.dir, "got"))
	w.cli("module reload res_kafka.so") // ends the pause
	w.send("t", "a", "b")
	w.waitReceived("got", 2)
	mark := w.pbx.LogMark()
	w.signalEngine(syscall.SIGABRT)
	w.waitLog(mark, `another one is started in \d{5} ms`)
	w.cli("kafka probe unsubscribe")
	w.cli("module reload res_kafka.so")
	w.waitLog(mark, `NOTICE.*connection 'one': offsets of 1 partition.s. are committed for a subscription that ended without an engine`)
	w.expect(`subscribe 0`, "kafka probe subscribe one t %s 0", filepath.Join(w.dir, "got"))
	w.send("t", "c")
	if got := payloads(w.waitReceived("got", 3)); !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Errorf("received: %q", got)
	}
}

// TestConsumer_IdleForLong_StillReceives guards the repetition of a request for messages. An answer may be
// lost, and the engine answers the later request.
func TestConsumer_IdleForLong_StillReceives(t *testing.T) {
	if os.Getenv("RES_KAFKA_LONG") == "" {
		t.Skip("takes more than a minute; see make test-long")
	}
	w := newWorld(t, options{files: map[string]string{"kafka.conf": group}})
	w.expect(`subscribe 0`, "kafka probe subscribe one t %s 0", filepath.Join(w.dir, "got"))
	w.send("t", "a")
	w.waitReceived("got", 1)
	time.Sleep(70 * time.Second) // more than LOST_MS of modules/res_kafka/internal.h
	w.send("t", "b")
	if got := payloads(w.waitReceived("got", 2)); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("received: %q", got)
	}
}

// TestEngine_Hangs_AsteriskStops guards the end of Asterisk with a hanging engine: Asterisk waits for seconds
// only, and another engine saves the staged records.
func TestEngine_Hangs_AsteriskStops(t *testing.T) {
	w := newWorld(t, options{files: map[string]string{"kafka.conf": "[one]\ntype = connection\nbrokers = %BROKER%\ndurability = overflow\n"}})
	w.pauseEngine()
	w.expect(`accepted 1 refused 0`, "kafka probe file one t %s", w.probeFile([2][]byte{nil, []byte("late")}))
	started := time.Now()
	w.must(w.pbx.Stop(pbx.Now))
	if took := time.Since(started); took > 15*time.Second {
		t.Errorf("the stop took %v", took)
	}
	w.read("t", 1)
}

// TestEngine_Hangs_CommandsAnswer guards the wait of the console for a hanging engine: two seconds for a command
// without a broker, and not request_timeout_ms.
func TestEngine_Hangs_CommandsAnswer(t *testing.T) {
	w := newWorld(t, options{files: map[string]string{"kafka.conf": "[one]\ntype = connection\nbrokers = %BROKER%\nrequest_timeout_ms = 25000\n"}})
	engine := w.pauseEngine()
	for command, want := range map[string]string{
		"kafka show status":         `(?s)Connections:\s+Name +Brokers\s+one .*Process id: +\d+\s`,
		"kafka show connection one": `(?s)Error: the Kafka engine has not answered within 2000 ms`,
	} {
		started := time.Now()
		printed, err := w.pbx.CLI(command)
		took := time.Since(started)
		if err != nil || !regexp.MustCompile(want).MatchString(printed) || !strings.Contains(printed, noAnswer) {
			t.Errorf("%s answers\n%s%v", command, printed, err)
		}
		if took > 20*time.Second { // 27 s without the limit; the rest is for a machine in use
			t.Errorf("%s took %v", command, took)
		}
		t.Logf("%s took %v", command, took)
	}
	w.must(syscall.Kill(engine, syscall.SIGCONT))
	w.until(`Client ID: +asterisk`, "kafka show connection one")
}

// TestEngine_Away_CommandsAnswer guards commands without an engine: commands do not wait, and their names are
// known.
func TestEngine_Away_CommandsAnswer(t *testing.T) {
	w := newWorld(t, options{noBroker: true})
	for range 6 { // crashes, which make the pause long
		mark := w.pbx.LogMark()
		w.signalEngine(syscall.SIGABRT)
		w.waitLog(mark, `another one is started in`)
	}
	started := time.Now()
	w.expect(`(?s)Connections:\s+Name +Brokers\s+one .*restarting, attempt \d+, since`, "kafka show status")
	w.expect(`(?s)Error: .*restarting, attempt`, "kafka show connection one")
	w.expect(`first \d{1,5} us second \d{1,5} us same yes null no`, "kafka probe get one")
	w.cli("module reload res_kafka.so")
	if took := time.Since(started); took > 5*time.Second {
		t.Errorf("the commands took %v", took)
	}
	started = time.Now()
	if err := w.pbx.Stop(pbx.Now); err != nil {
		t.Error(err)
	}
	t.Logf("stopped after %v", time.Since(started))
}
