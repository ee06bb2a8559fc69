package ingest

import (
	"encoding/binary"
	"os"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"unsafe"

	"reskafka/internal/frame"
	"reskafka/internal/frame/frametest"
	"reskafka/internal/host"
)

// module is the writing side: its own mappings of the same memory, so it may write at any time.
type module struct {
	t       testing.TB
	control *control
	plain   int
	memory  []byte // the file of plain slabs, at its present size
	wake    int
	door    *Door
}

const plainMost = 64 << 20

// memfd makes a file of memory without a name.
func memfd(t testing.TB, name string, size int64, seals uintptr) int {
	t.Helper()
	call, ok := map[string]uintptr{"amd64": 319, "arm64": 279, "arm": 385, "386": 356}[runtime.GOARCH]
	if !ok {
		t.Skip("SKIPPED: the number of memfd_create is not known here")
	}
	text, _ := syscall.BytePtrFromString(name)
	descriptor, _, errno := syscall.Syscall(call, uintptr(unsafe.Pointer(text)), 3, 0) // MFD_CLOEXEC, MFD_ALLOW_SEALING
	if errno != 0 {
		t.Fatal(errno)
	}
	if err := syscall.Ftruncate(int(descriptor), size); err != nil {
		t.Fatal(err)
	}
	if _, _, errno := syscall.Syscall(syscall.SYS_FCNTL, descriptor, 1033, seals); errno != 0 { // F_ADD_SEALS
		t.Fatal(errno)
	}
	return int(descriptor)
}

func mapAll(t testing.TB, descriptor int, size int) []byte {
	t.Helper()
	memory, err := syscall.Mmap(descriptor, 0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Munmap(memory) })
	return memory
}

func duplicate(t testing.TB, descriptor int) int {
	t.Helper()
	other, err := syscall.Dup(descriptor)
	if err != nil {
		t.Fatal(err)
	}
	return other
}

// newModule creates the memory shared by module and engine, and an engine's Door.
func newModule(t testing.TB) *module {
	t.Helper()
	size := int(unsafe.Sizeof(control{}))
	descriptor := memfd(t, "control", int64(size), 2|4)
	m := &module{t: t, plain: memfd(t, "slabs", 0, 2)}
	m.control = (*control)(unsafe.Pointer(unsafe.SliceData(mapAll(t, descriptor, size))))
	m.memory = mapAll(t, m.plain, plainMost)
	h := &m.control.head
	h.magic.Store(controlMagic)
	h.layout.Store(controlLayout)
	h.ring.Store(ringEntries)
	h.gates.Store(gateCount)
	h.progress.Store(progressCount)
	h.size.Store(uint64(size))
	h.usualBytes.Store(plainMost / 2)
	wake, _, errno := syscall.Syscall(syscall.SYS_EVENTFD2, 0, syscall.O_CLOEXEC, 0)
	if errno != 0 {
		t.Fatal(errno)
	}
	m.wake = int(wake)
	t.Cleanup(func() {
		for _, descriptor := range []int{descriptor, m.plain, m.wake} {
			_ = syscall.Close(descriptor)
		}
	})
	door, err := Open(duplicate(t, descriptor), duplicate(t, m.plain), duplicate(t, m.wake), testLog{t})
	if err != nil {
		t.Fatal(err)
	}
	m.door = door
	t.Cleanup(door.Close)
	return m
}

// testLog shows lines as the test's own.
type testLog struct{ t testing.TB }

func (l testLog) Log(_ host.Level, _ string, _ int, _, text string) { l.t.Log(text) }

// start begins to read the ring.
func (m *module) start(folder string, take func(id uint64, r Range)) {
	m.t.Helper()
	if err := m.door.Start(folder, take); err != nil {
		m.t.Fatal(err)
	}
}

// grow makes the file of plain slabs at least so long.
func (m *module) grow(size int64) {
	m.t.Helper()
	var status syscall.Stat_t
	if err := syscall.Fstat(m.plain, &status); err != nil {
		m.t.Fatal(err)
	}
	if status.Size < size {
		if err := syscall.Ftruncate(m.plain, size); err != nil {
			m.t.Fatal(err)
		}
	}
}

// slab writes a slab of frames at a place of the file of plain slabs and returns the start and the end of its
// frames.
func (m *module) slab(at int, label string, stage, first uint64, frames []byte) (start, end uint64) {
	m.t.Helper()
	content := frametest.Slab(label, stage, first, frames)
	size := max(len(content)+frame.SlabBytes-1, frame.SlabBytes) / frame.SlabBytes * frame.SlabBytes
	binary.NativeEndian.PutUint64(content[frame.SlabSize:], uint64(size))
	m.grow(int64(at + size))
	clear(m.memory[at : at+size])
	copy(m.memory[at:], content)
	start = uint64(binary.NativeEndian.Uint32(content[frame.SlabFrames:]))
	return start, start + uint64(len(frames))
}

// put puts an entry like the pump, and wakes a sleeping engine. It reports whether there was space.
func (m *module) put(e entry) bool {
	r := &m.control.ring
	put := r.put.Load()
	if put-r.taken.Load() == ringEntries {
		return false
	}
	r.entries[put%ringEntries] = e
	r.put.Store(put + 1)
	if r.asleep.Swap(0) == 1 {
		if _, err := syscall.Write(m.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0}); err != nil {
			m.t.Error(err)
		}
	}
	return true
}

// state is the state of a frame in the file of plain slabs.
func (m *module) state(at uint64) *atomic.Uint32 { return frame.State(m.memory, int(at)) }

// keyed returns frames with these keys.
func keyed(keys ...string) (frames []byte) {
	for _, key := range keys {
		frames = frametest.Append(frames, frametest.Frame{Topic: "t", Key: []byte(key), Charge: 7})
	}
	return frames
}

// keysOf are the keys of a range's frames, each of which is done then.
func keysOf(t testing.TB, r Range) (keys []string) {
	err := frame.Walk(r.Frames, func(f *frame.Frame) {
		keys = append(keys, string(f.Key))
		r.State(f.At).Store(frame.Done)
	}, func(_ *frame.Frame, err error) { t.Error(err) })
	if err != nil {
		t.Error(err)
	}
	return keys
}

// privateFolder makes a staging folder.
func privateFolder(t testing.TB) string {
	t.Helper()
	folder := t.TempDir()
	if err := os.Chmod(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	return folder
}
