package serve

import (
	"testing"

	"reskafka/internal/boundary"
	"reskafka/internal/ingest"
	"reskafka/internal/serve/servetest"
)

// TestDelivery_Forgotten_LeavesTheMemory guards offsets: the consumer of an ended subscription must not count
// the callbacks of the next subscription with the same number.
func TestDelivery_Forgotten_LeavesTheMemory(t *testing.T) {
	memory := servetest.NewMemory(t)
	control, slabs, wake := memory.Duplicates()
	in, err := ingest.Open(control, slabs, wake, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(in.Close)
	d := &delivery{shared: in.Progress(4)}
	for range 3 {
		memory.Returned(4)
	}
	d.skip() // a message that the module cannot get
	d.Hurry(true)
	hurry := memory.Hurry(4)
	if d.Delivered() != 4 || hurry.Load() != 1 {
		t.Errorf("%d delivered, hurry %d", d.Delivered(), hurry.Load())
	}
	d.forget()
	memory.Returned(4)
	d.Hurry(false)
	d.skip()
	if d.Delivered() != 4 || hurry.Load() != 1 {
		t.Errorf("forgotten: %d delivered, hurry %d", d.Delivered(), hurry.Load())
	}
}

// TestOutdated_LimitChanged_AsksAgain guards messages of a connection whose limit a reload has raised: they must not be
// left out by the limit of before.
func TestOutdated_LimitChanged_AsksAgain(t *testing.T) {
	for _, c := range []struct {
		most  uint64
		limit int
		want  bool
	}{
		{100, 100, false}, {100, 99, false}, {100, 101, true}, {100, 0, true},
		{boundary.MessagesMax, boundary.MessagesMax + 1, false}, // the module has the lower limit too
	} {
		if got := outdated(c.most, c.limit); got != c.want {
			t.Errorf("most %d, limit %d: %v", c.most, c.limit, got)
		}
	}
}
