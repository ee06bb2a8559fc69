package scenario

import (
	"cmp"
	"fmt"
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
	"reskafka/test/confine"
	"reskafka/test/pbx"
	"reskafka/test/port"
)

// ending is a way in which Asterisk or the module ends.
type ending struct {
	name     string
	in       home // where Asterisk runs
	end      func(w *world) error
	seconds  int  // duration of the open call; 0 = for ever
	running  bool // Asterisk runs afterwards
	unloaded bool // but not the module
}

// endings are all forms of the end.
var endings = []ending{
	{name: "core stop now", end: func(w *world) error { return w.pbx.Stop(pbx.Now) }},
	{name: "core stop gracefully", seconds: 3, end: func(w *world) error { return w.pbx.Stop(pbx.Gracefully) }},
	{name: "core stop when convenient", seconds: 3, end: func(w *world) error { return w.pbx.Stop(pbx.WhenConvenient) }},
	{name: "core restart now", running: true, end: func(w *world) error { return w.pbx.Restart(w.ctx) }},
	{name: "unload", running: true, unloaded: true, end: func(w *world) error {
		w.hangUp()
		for _, module := range []string{"cdr_kafka", "kafka_probe", "res_kafka"} {
			w.expect(`Unloaded`, "module unload %s.so", module)
		}
		return nil
	}},
	{name: "SIGTERM to Asterisk", end: func(w *world) error { return w.pbx.Stop(pbx.Terminate) }},
	{name: "SIGTERM to all", end: func(w *world) error {
		w.signalEngine(syscall.SIGTERM)
		return w.pbx.Stop(pbx.Terminate)
	}},
	{name: "SIGTERM to process 1", in: homes[0], end: func(w *world) error { return w.pbx.Stop(pbx.Terminate) }},
}

// hangUp ends all calls and waits for their end.
func (w *world) hangUp() {
	w.Helper()
	w.cli("channel request hangup all")
	w.until(`\b0 active channels`, "core show channels")
}

// TestEnds_RecordsStaged_NothingLost ends Asterisk in each form while records lie in shared memory only, call records wait in
// Asterisk's batch and a call is up. With brokers all arrive without a next start, unless the log says that the engine had
// no time and kept records on disk. The engine has 300 ms for those, and flush_timeout_ms for records in memory only.
// cdr_csv says how many call records there are.
func TestEnds_RecordsStaged_NothingLost(t *testing.T) {
	for _, e := range endings {
		for _, away := range []bool{false, true} {
			name := e.name
			if away {
				name += ", brokers away"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				e.run(t, away)
			})
		}
	}
}

// endFiles is the configuration of the test: records stay in the stage until the end. The address of the brokers is to be filled in.
const endFiles = "[one]\ntype = connection\nbrokers = %s\ndurability = overflow\nlinger_ms = %d\n\n" +
	"[two]\ntype = connection\nbrokers = %[1]s\ndurability = disk\nlinger_ms = %[2]d\n\n" +
	"[three]\ntype = connection\nbrokers = %[1]s\nlinger_ms = %[2]d\nflush_timeout_ms = 60000\n"

// keptLine is the log line about records on disk.
var keptLine = regexp.MustCompile(`record\(s\) are kept in .* until the next start`)

func (e *ending) run(t *testing.T, away bool) {
	const records = 150
	e.in.files = map[string]string{
		"kafka.conf": fmt.Sprintf(endFiles, "%BROKER%", 60000),
		"cdr.conf":   "[general]\nenable = yes\nunanswered = yes\nbatch = yes\nsize = 1000\ntime = 3600\nsafeshutdown = no\n[csv]\nusegmtime = no\n",
		"extensions.conf": "[calls]\nexten => short,1,Answer()\n same => n,Hangup()\nexten => long,1,Answer()\n same => n,Wait(" +
			strconv.Itoa(cmp.Or(e.seconds, 600)) + ")\n",
	}
	e.in.modules = append([]string{"cdr_csv"}, allOurs...)
	w := newHome(t, e.in)
	csv := filepath.Join(w.pbx.Dir(), "log", "cdr-csv") // where another module writes the same call records
	w.must(os.Mkdir(csv, 0o755))
	if away {
		w.must(w.pbx.WriteFile("kafka.conf", fmt.Sprintf(endFiles, port.Refused(t), 60000)))
	}
	w.boot()
	w.cli("channel originate Local/short@calls/n application Echo")
	w.until(`\b0 active channels`, "core show channels")
	w.cli("channel originate Local/long@calls/n application Echo")
	w.until(`[1-9]\d* active channels`, "core show channels")
	list := make([][2][]byte, records)
	for i := range list {
		list[i] = [2][]byte{[]byte("k"), fmt.Appendf(nil, "%0100d", i)}
	}
	file := w.probeFile(list...)
	connections := []string{"one", "two"}
	if !away {
		connections = append(connections, "three")
	}
	for _, connection := range connections {
		w.expect(fmt.Sprintf(`accepted %d refused 0`, records), "kafka probe file %s %s %s", connection, w.name(connection), file)
	}

	started := time.Now()
	w.must(e.end(w))
	t.Logf("ended after %v", time.Since(started))
	if !away {
		w.inOrder("three", records)
	}
	if away || e.running && !e.unloaded || keptLine.MatchString(strings.Join(w.pbx.LogLines(), "\n")) || len(w.pbx.SharedMemory()) > 0 {
		e.again(w)
	}
	w.inOrder("one", records)
	w.inOrder("two", records)
	posted, err := os.ReadFile(filepath.Join(csv, "Master.csv"))
	w.must(err)
	calls := strings.Count(string(posted), "\n")
	if calls < 2 {
		t.Errorf("Asterisk posted %d call records:\n%s", calls, posted)
	}
	// With safeshutdown = no Asterisk posts call records while ending. On a busy machine some come after
	// res_kafka's wait.
	if late := lateRecord.FindString(strings.Join(w.pbx.LogLines(), "\n")); late != "" {
		t.Logf("note: not all call records came in time: %s", late)
		return
	}
	w.read(w.name("calls"), calls)
}

// again starts Asterisk or the module again, with brokers.
func (e *ending) again(w *world) {
	w.Helper()
	w.must(w.pbx.WriteFile("kafka.conf", fmt.Sprintf(endFiles, w.address, 5)))
	switch {
	case e.unloaded:
		for _, module := range []string{"res_kafka", "kafka_probe", "cdr_kafka"} {
			w.expect(`Loaded`, "module load %s.so", module)
		}
	case e.running:
		w.cli("module reload res_kafka.so")
	default:
		w.boot()
	}
	w.Log("note: started again before the records were read")
}

// inOrder checks the topic of a connection.
func (w *world) inOrder(connection string, records int) {
	w.Helper()
	for i, r := range w.read(w.name(connection), records) {
		if text(r.Payload) != fmt.Sprintf("%0100d", i) {
			w.Fatalf("record %d of %s is %s", i, connection, text(r.Payload))
		}
	}
}

var lateRecord = regexp.MustCompile(`ERROR.* lost.*: Asterisk produced (it|them) after res_kafka had ended.*`)

// withoutSharedMemory is a container with a /dev/shm mounted from outside.
func withoutSharedMemory(w *confinedWorld) *confine.Spec {
	return &confine.Spec{Mounts: slices.DeleteFunc(w.container(), func(m confine.Mount) bool { return m.Path == "/dev/shm" })}
}

// produceAndSpool leaves records and call records on disk.
func (w *world) produceAndSpool(topic string, records, calls int) {
	w.Helper()
	list := make([][2][]byte, records)
	for i := range list {
		list[i] = [2][]byte{[]byte("k"), fmt.Appendf(nil, "%0100d", i)}
	}
	w.expect(fmt.Sprintf(`accepted %d refused 0`, records), "kafka probe file one %s %s", topic, w.probeFile(list...))
	w.cli("channel originate Local/s@calls/n application Echo")
	w.until(fmt.Sprintf(`Spooled:? +%d\b`, records+calls), "kafka show connection one")
}

// TestContainer_Process1Killed_NothingDurableLost kills process 1 of a container, and the kernel kills the
// engine too. The next start delivers the records on disk and the records in a surviving /dev/shm.
func TestContainer_Process1Killed_NothingDurableLost(t *testing.T) {
	for _, ownMemory := range []bool{false, true} {
		t.Run(map[bool]string{false: "shared memory from outside", true: "shared memory of its own"}[ownMemory], func(t *testing.T) {
			t.Parallel()
			h := homes[0]
			h.files = map[string]string{"kafka.conf": lingering + "60000\n"}
			if ownMemory { // on disk after a moment
				h.files["kafka.conf"] = fmt.Sprintf("[one]\ntype = connection\nbrokers = %s\ndurability = disk\n", port.Refused(t))
			} else {
				h.confined = withoutSharedMemory
			}
			w := newHome(t, h)
			w.boot()
			topic, records, calls := w.name("t"), 150, 2
			if ownMemory {
				w.produceAndSpool(topic, records, calls)
			} else {
				records, calls = w.stage(topic)
			}
			engine := w.pbx.EnginePID()
			// Otherwise the engine may send a record between the end of Asterisk and its own: that record repeats.
			w.must(child.Pause(engine))
			w.must(w.pbx.Stop(pbx.Kill))
			w.wait("the engine is dead", func() bool { return syscall.Kill(engine, 0) != nil })
			w.must(w.pbx.WriteFile("kafka.conf", w.filled(lingering+"5\n")))
			w.boot()
			w.arrived(topic, records, calls)
			if left, _ := filepath.Glob(w.pbx.SharedMemoryPattern()); !ownMemory && len(left) != 1 {
				t.Errorf("folders in shared memory: %q", left)
			}
		})
	}
}
