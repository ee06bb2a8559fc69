package inbox

import (
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

// put does what inbox_put of modules/res_kafka/inbox.c does, and says whether there was room.
func put(t *testing.T, b *Inbox, id uint64, frames []byte, kept bool) bool {
	t.Helper()
	s := b.shared
	need := uint64(unsafe.Sizeof(Entry{}))
	if !kept {
		need += (uint64(len(frames)) + align - 1) / align * align
	}
	before := s.Put.Load()
	at, skipped := before%Size, uint64(0)
	if at+need > Size {
		skipped = Size - at
	}
	if before+skipped+need-s.Taken.Load() > Size {
		return false
	}
	if skipped > 0 {
		(*Entry)(unsafe.Pointer(&s.Ring[at])).ID = 0
		at = 0
	}
	e := (*Entry)(unsafe.Pointer(&s.Ring[at]))
	*e = Entry{ID: id, Length: uint64(len(frames))}
	if kept {
		e.Kept = unsafe.Pointer(unsafe.SliceData(frames))
	} else {
		copy(s.Ring[at+uint64(unsafe.Sizeof(*e)):], frames)
	}
	s.Put.Store(before + skipped + need)
	if s.Asleep.Swap(0) == 1 {
		if n, err := syscall.Write(int(s.Wake), []byte{1, 0, 0, 0, 0, 0, 0, 0}); n != 8 {
			t.Fatalf("waking: %d, %v", n, err)
		}
	}
	return true
}

func open(t *testing.T, take func(id uint64, frames []byte, kept bool)) *Inbox {
	t.Helper()
	b, err := Open(take)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

// content is what slab number n holds: lengths of all kinds, so that the ring's end comes at all places.
func content(n int) []byte {
	return fmt.Appendf(make([]byte, 0, 64), "%0*d", n*37%5000, n)
}

func TestEverySlabComesOnceAndInOrder(t *testing.T) {
	const slabs = 20000
	next, done := 0, make(chan struct{})
	b := open(t, func(id uint64, frames []byte, kept bool) {
		if id != uint64(next+1) || kept || !slices.Equal(frames, content(next)) {
			t.Errorf("slab %d comes as number %d with %d bytes, kept %v", next, id, len(frames), kept)
		}
		if next++; next == slabs {
			close(done)
		}
	})
	direct := 0
	for n := range slabs {
		switch {
		case n%1000 == 999: // the goroutine may fall asleep
			time.Sleep(time.Millisecond)
			fallthrough
		default:
			if !put(t, b, uint64(n+1), content(n), false) {
				direct++
				b.Then(func() { b.take(uint64(n+1), content(n), false) })
			}
		}
	}
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatalf("%d of %d slabs came", next, slabs)
	}
	t.Logf("%d of %d had no room and went by a call", direct, slabs)
}

func TestTheSleeperIsWokenEachTime(t *testing.T) {
	came := make(chan uint64)
	b := open(t, func(id uint64, _ []byte, _ bool) { came <- id })
	for n := uint64(1); n <= 100; n++ {
		for b.shared.Asleep.Load() == 0 {
			time.Sleep(time.Microsecond)
		}
		put(t, b, n, []byte("frames"), false)
		select {
		case id := <-came:
			if id != n {
				t.Fatalf("slab %d came, want %d", id, n)
			}
		case <-time.After(time.Minute):
			t.Fatalf("slab %d never came", n)
		}
	}
}

func TestAKeptSlabIsNotCopied(t *testing.T) {
	memory, err := syscall.Mmap(-1, 0, 4096, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Munmap(memory) })
	came := make(chan bool)
	b := open(t, func(_ uint64, frames []byte, kept bool) {
		came <- kept && len(frames) == 100 && unsafe.SliceData(frames) == unsafe.SliceData(memory)
	})
	put(t, b, 1, memory[:100], true)
	if !<-came {
		t.Error("the slab came as a copy")
	}
}

// What is put before the end is taken, what is put later is not.
func TestCloseTakesWhatThereIs(t *testing.T) {
	var came []uint64
	b, err := Open(func(id uint64, _ []byte, _ bool) { came = append(came, id) })
	if err != nil {
		t.Fatal(err)
	}
	b.mtx.Lock() // the goroutine cannot take any of them by itself
	for n := uint64(1); n <= 3; n++ {
		put(t, b, n, nil, false)
	}
	b.mtx.Unlock()
	b.Close()
	b.shared.Asleep.Store(0)
	put(t, b, 4, nil, false)
	b.Then(func() {})
	if !slices.Equal(came, []uint64{1, 2, 3}) {
		t.Errorf("slabs %v came, want 1 to 3", came)
	}
}
