package scenario

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"reskafka/internal/frame"
	"reskafka/test/pbx"
)

// lingering is a connection with records in the stage only: when Asterisk is killed, no other copy exists.
const lingering = "[one]\ntype = connection\nbrokers = %BROKER%\ndurability = disk\nmessage_timeout_ms = 3600000\nlinger_ms = "

// runs returns the folders in shared memory of an engine of this world.
func (w *world) runs(pid int) []string {
	return slices.DeleteFunc(w.pbx.SharedMemory(), func(folder string) bool {
		return !strings.Contains(folder, fmt.Sprintf("-%d-", pid))
	})
}

// staged counts the ready and unfinished frames in shared memory of an engine of this world.
func (w *world) staged(pid int) (count int) {
	w.Helper()
	for _, folder := range w.runs(pid) {
		file, err := os.Open(folder + "/slabs")
		if err != nil {
			continue // the run has just begun, or ended
		}
		content := make([]byte, frame.SlabBytes)
		for at := int64(0); ; at += frame.SlabBytes {
			if n, _ := file.ReadAt(content[:frame.SlabHeadSize], at); n == 0 {
				break
			}
			if _, err := frame.ReadSlab(content[:frame.SlabHeadSize], frame.SlabBytes); err != nil {
				continue // there is none
			}
			if _, err := file.ReadAt(content, at); err != nil {
				w.Fatal(err)
			}
			if slab, err := frame.ReadSlab(content, frame.SlabBytes); err == nil {
				count += slab.Waiting()
			}
		}
		_ = file.Close()
	}
	return count
}

// wait waits until something is so.
func (w *world) wait(what string, so func() bool) {
	w.Helper()
	for deadline := time.Now().Add(patience); !so(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.Fatalf("not so after %v: %s", patience, what)
		}
	}
}

// killBoth kills Asterisk and its engine, without a moment for the engine to notice, and returns the engine's process id.
func (w *world) killBoth() int {
	w.Helper()
	engine := w.pauseEngine()
	w.must(w.pbx.Stop(pbx.Kill))
	w.must(syscall.Kill(engine, syscall.SIGKILL))
	w.wait("the engine is dead", func() bool { return syscall.Kill(engine, 0) != nil })
	return engine
}

// stage leaves records and call records in shared memory, and returns the number of both.
func (w *world) stage(topic string) (records, calls int) {
	w.Helper()
	records, calls = 150, 2 // less than a slab, so the pump has no reason to come sooner
	list := make([][2][]byte, records)
	for i := range list {
		list[i] = [2][]byte{[]byte("k"), fmt.Appendf(nil, "%0100d", i)}
	}
	w.expect(fmt.Sprintf(`accepted %d refused 0`, records), "kafka probe file one %s %s", topic, w.probeFile(list...))
	w.cli("channel originate Local/s@calls/n application Echo")
	engine := w.engine()
	w.wait("all is staged", func() bool { return w.staged(engine) == records+calls })
	return records, calls
}

// arrived checks that records and call records arrived, the records in order.
func (w *world) arrived(topic string, records, calls int) {
	w.Helper()
	for i, r := range w.read(topic, records) {
		if text(r.Payload) != fmt.Sprintf("%0100d", i) {
			w.Fatalf("record %d is %s", i, text(r.Payload))
		}
	}
	for _, r := range w.read(w.name("calls"), calls) {
		if !strings.Contains(text(r.Payload), "Local/s@calls") {
			w.Errorf("call record %s", text(r.Payload))
		}
	}
}

// staging configures a world with records in the stage.
var staging = map[string]string{
	"kafka.conf":      lingering + "60000\n",
	"cdr_kafka.conf":  "[global]\nconnection = one\ntopic = calls-%ID%\n",
	"extensions.conf": "[calls]\nexten => s,1,Answer()\n same => n,Hangup()\n",
}

// TestKilledAsterisk_EngineDelivers kills Asterisk while records and call records are in shared memory only.
// The engine delivers these records without another start of Asterisk.
func TestKilledAsterisk_EngineDelivers(t *testing.T) {
	w := newWorld(t, options{parts: 1, files: staging})
	topic, engine := w.name("t"), w.engine()
	records, calls := w.stage(topic)
	w.must(w.pbx.Stop(pbx.Kill))
	killed := time.Now()
	w.arrived(topic, records, calls)
	t.Logf("all has arrived %v after the kill", time.Since(killed))
	w.wait("the engine has ended", func() bool { return syscall.Kill(engine, 0) != nil })
	if left := w.runs(engine); len(left) != 0 {
		t.Errorf("the engine left %q", left)
	}
}

// TestKilledBoth_NextStartDelivers kills both while records and call records lie in shared memory only.
func TestKilledBoth_NextStartDelivers(t *testing.T) {
	w := newWorld(t, options{parts: 1, files: staging})
	topic := w.name("t")
	records, calls := w.stage(topic)
	killed := w.killBoth()
	if got := w.staged(killed); got != records+calls {
		t.Fatalf("%d frames survived, want %d", got, records+calls)
	}
	w.must(w.pbx.WriteFile("kafka.conf", w.filled(lingering+"5\n")))
	mark := w.pbx.LogMark()
	w.boot()
	w.waitLog(mark, fmt.Sprintf(`NOTICE.*connection 'one': %d record\(s\) staged by an earlier run \(pid %d\) are being sent`, records, killed))
	w.waitLog(mark, fmt.Sprintf(`NOTICE.*connection 'one': %d record\(s\) staged by an earlier run \(pid %d\) are being sent`, calls, killed))
	w.acknowledged("one", records+calls)
	w.arrived(topic, records, calls)
	w.wait("what the killed run left is removed", func() bool { return len(w.runs(killed)) == 0 })
	ended := w.engine()
	if len(w.runs(ended)) != 1 {
		t.Errorf("folders of the run: %q", w.runs(ended))
	}
	w.must(w.pbx.Stop(pbx.Now))
	if left := w.runs(ended); len(left) != 0 {
		t.Errorf("a run that ended by itself left %q", left)
	}
}
