package ingest

import (
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"
)

// TestDoor_NoDescriptorLeft_RangesWaitInOrder verifies records that arrive while this process can open no
// file. Their range was dropped, so the records arrived only with the next engine.
func TestDoor_NoDescriptorLeft_RangesWaitInOrder(t *testing.T) {
	folder := privateFolder(t)
	m, c := newModule(t), newCollector(t)
	if err := os.WriteFile(filepath.Join(folder, slabsName), region(slab("two", 0, "a", "b")), 0o600); err != nil {
		t.Fatal(err)
	}
	m.start(folder, c.take)
	start, end := m.slab(0, "one", 1, 0, keyed("c"))

	lift := noDescriptors(t)
	m.put(entry{id: 2, pool: poolDurable, start: start, length: uint64(len(keyed("a", "b")))})
	m.put(entry{id: 1, start: start, length: end - start})
	m.door.Drain()
	time.Sleep(2 * stallPace) // the timer tries, too
	c.mtx.Lock()
	early := slices.Clone(c.keys)
	c.mtx.Unlock()
	lift()
	if len(early) > 0 {
		t.Errorf("%q were taken although the range before cannot be read", early)
	}
	if got := c.wait(3); !slices.Equal(got, []string{"2:a", "2:b", "1:c"}) {
		t.Errorf("taken %q", got)
	}
}

// noDescriptors lets this process open no further file until lift is called.
func noDescriptors(t *testing.T) (lift func()) {
	t.Helper()
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	free, err := syscall.Open("/dev/null", syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	_ = syscall.Close(free)
	none := syscall.Rlimit{Cur: uint64(free), Max: before.Max}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &none); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
			t.Fatal(err)
		}
	}
}
