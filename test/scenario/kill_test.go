package scenario

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"reskafka/internal/frame"
	"reskafka/test/pbx"
)

// lingering is a connection whose records stay in the stage: what is there when Asterisk is killed was nowhere else.
const lingering = "[one]\ntype = connection\nbrokers = %BROKER%\ndurability = disk\nmessage_timeout_ms = 3600000\nlinger_ms = "

// runs returns the folders in shared memory of a process of this world.
func (w *world) runs(pid int) []string {
	return slices.DeleteFunc(w.pbx.SharedMemory(), func(folder string) bool {
		return !strings.Contains(folder, fmt.Sprintf("-%d-", pid))
	})
}

// staged counts the frames that are ready and not done in what the runs of a process have in shared memory.
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

// TestKilledAsteriskLosesNothing kills Asterisk while records and call records lie in shared memory only.
func TestKilledAsteriskLosesNothing(t *testing.T) {
	w := newWorld(t, options{parts: 1, files: map[string]string{
		"kafka.conf":      lingering + "60000\n",
		"cdr_kafka.conf":  "[global]\nconnection = one\ntopic = calls-%ID%\n",
		"extensions.conf": "[calls]\nexten => s,1,Answer()\n same => n,Hangup()\n",
	}})
	topic, killed := w.name("t"), w.pbx.PID()
	const count, calls = 150, 2 // less than a slab, so that nothing makes the pump come sooner
	records := make([][2][]byte, count)
	for i := range records {
		records[i] = [2][]byte{[]byte("k"), fmt.Appendf(nil, "%0100d", i)}
	}
	w.expect(fmt.Sprintf(`accepted %d refused 0`, count), "kafka probe file one %s %s", topic, w.probeFile(records...))
	w.cli("channel originate Local/s@calls/n application Echo")
	w.wait("all is staged", func() bool { return w.staged(killed) == count+calls })
	if err := w.pbx.Stop(pbx.Kill); err != nil {
		t.Fatal(err)
	}
	if got := w.staged(killed); got != count+calls {
		t.Fatalf("%d frames survived, want %d", got, count+calls)
	}
	if err := w.pbx.WriteFile("kafka.conf", w.filled(lingering+"5\n")); err != nil {
		t.Fatal(err)
	}
	mark := w.pbx.LogMark()
	w.boot()
	w.waitLog(mark, fmt.Sprintf(`NOTICE.*connection 'one': %d record\(s\) staged by an earlier run \(pid %d\) are being sent`, count, killed))
	w.waitLog(mark, fmt.Sprintf(`NOTICE.*connection 'one': %d record\(s\) staged by an earlier run \(pid %d\) are being sent`, calls, killed))
	w.acknowledged("one", count+calls)
	for i, r := range w.read(topic, count) {
		if text(r.Payload) != fmt.Sprintf("%0100d", i) {
			t.Fatalf("record %d is %s", i, text(r.Payload))
		}
	}
	for _, r := range w.read(w.name("calls"), calls) {
		if !strings.Contains(text(r.Payload), "Local/s@calls") {
			t.Errorf("call record %s", text(r.Payload))
		}
	}
	w.wait("what the killed run left is removed", func() bool { return len(w.runs(killed)) == 0 })
	ended := w.pbx.PID()
	if len(w.runs(ended)) != 1 {
		t.Errorf("folders of the run: %q", w.runs(ended))
	}
	if err := w.pbx.Stop(pbx.Now); err != nil {
		t.Fatal(err)
	}
	if left := w.runs(ended); len(left) != 0 {
		t.Errorf("a run that ended by itself left %q", left)
	}
}
