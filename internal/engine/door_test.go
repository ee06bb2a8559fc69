package engine

import (
	"encoding/binary"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"reskafka/internal/ingest"
	"reskafka/test/writer"
)

// door opens the memory of a writer for an engine. Close it after the engine's Stop.
func door(t *testing.T, w *writer.Writer, log *lines) *ingest.Door {
	t.Helper()
	var own [3]int
	for i, f := range w.Files {
		var err error
		if own[i], err = syscall.Dup(int(f.Fd())); err != nil {
			t.Fatal(err)
		}
	}
	d, err := ingest.Open(own[0], own[1], own[2], log)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestDoor_OutageThenKill_RecordsArriveAsPut verifies the way from a real stage in another process to a broker. During an
// outage records wait in the stage's memory, which is reused afterwards. Each record arrives once, in order, unchanged. Then
// the writer is killed.
func TestDoor_OutageThenKill_RecordsArriveAsPut(t *testing.T) {
	for _, options := range [][]string{{inMemory}, {onDisk}} {
		t.Run(options[0], func(t *testing.T) {
			b := newBroker(t, kfake.SeedTopics(1, "t"))
			asked, release := b.hold(t)
			log := newLines()
			r := start(t, log)
			r.configure(section("one", b.address(), options...), section("two", b.address(), options...))
			w := writer.Start(t, r.StageFolder(), 4, 300, -1)
			d := door(t, w, log)
			if err := d.Start(r.StageFolder(), r.Take); err != nil {
				t.Fatal(err)
			}
			for id, name := range []string{"one", "two"} {
				if err := r.OpenProducer(name, uint64(id+1), d.Gate(uint64(id+1))); err != nil {
					t.Fatal(err)
				}
			}
			w.Tell('n')
			<-asked
			time.Sleep(time.Second) // the outage
			release()
			time.Sleep(300 * time.Millisecond)
			w.Tell('s') // makes the counts exact; the last frames still linger
			w.Kill()
			d.Drain()
			r.TakeRest(d.Rest())
			want := uint64(0)
			for thread := range 4 {
				want += w.Accepted(thread)
			}
			next := map[string]uint64{}
			records := b.consumed(t, "t", int(want))
			for _, record := range records {
				key, number := string(record.Key), binary.NativeEndian.Uint64(record.Value)
				if number != next[key] {
					t.Fatalf("record %d of %s comes in place of %d", number, key, next[key])
				}
				next[key]++
				for _, c := range record.Value[8:] {
					if c != byte(number) {
						t.Fatalf("record %d of %s has other bytes than were put", number, key)
					}
				}
			}
			for thread := range 4 {
				if got := next[fmt.Sprintf("%c", 'A'+thread)]; got < w.Accepted(thread) {
					t.Errorf("thread %d: %d of %d records arrived", thread, got, w.Accepted(thread))
				}
			}
			t.Logf("%d records", len(records))
			r.Stop(time.Second)
			d.Close()
		})
	}
}
