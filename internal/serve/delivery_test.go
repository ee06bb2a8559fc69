package serve

import (
	"testing"

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
	d.Hurry(true)
	hurry := memory.Hurry(4)
	if d.Delivered() != 3 || hurry.Load() != 1 {
		t.Errorf("%d delivered, hurry %d", d.Delivered(), hurry.Load())
	}
	d.forget()
	memory.Returned(4)
	d.Hurry(false)
	if d.Delivered() != 3 || hurry.Load() != 1 {
		t.Errorf("forgotten: %d delivered, hurry %d", d.Delivered(), hurry.Load())
	}
}
