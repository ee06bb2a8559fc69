package allocs

import (
	"sync"
	"testing"
)

const size = 64

var kept, lost []*[size]byte

func keeps(count int) {
	for i := range count {
		kept[i] = new([size]byte)
	}
}

func loses(count int) {
	for range count {
		lost[0] = new([size]byte)
	}
}

// TestOthersAreNotCounted checks that all allocations of a function are counted, on any goroutine, and no
// concurrent allocation of other functions.
func TestOthersAreNotCounted(t *testing.T) {
	const count = 1000
	kept, lost = make([]*[size]byte, count), make([]*[size]byte, 1)
	var others, ours sync.WaitGroup
	end := make(chan struct{})
	noise := make([][]byte, 1)
	others.Go(func() {
		for {
			select {
			case <-end:
				return
			default:
				noise[0] = make([]byte, size)
			}
		}
	})
	do := func() {
		ours.Go(func() { keeps(count) })
		ours.Wait()
		loses(count)
	}
	for _, c := range []struct {
		name    string
		count   func(func(), ...string) (int64, int64)
		by      []string
		objects int64
	}{
		{"all", By, []string{"reskafka/test/allocs.keeps", "reskafka/test/allocs.loses"}, 2 * count},
		{"one", By, []string{"reskafka/test/allocs.loses"}, count},
		{"nobody", By, []string{"reskafka/test/allocs.nobody"}, 0},
		{"kept", KeptBy, []string{"reskafka/test/allocs.keeps"}, count},
		{"lost", KeptBy, []string{"reskafka/test/allocs.loses"}, 1},
	} {
		clear(kept)
		clear(lost)
		if objects, bytes := c.count(do, c.by...); objects != c.objects || bytes != c.objects*size {
			t.Errorf("%s: %d objects of %d bytes, want %d", c.name, objects, bytes, c.objects)
		}
	}
	close(end)
	others.Wait()
}
