package servetest

import (
	"encoding/binary"
	"runtime"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"unsafe"

	"reskafka/internal/boundary"
	"reskafka/internal/frame"
	"reskafka/internal/frame/frametest"
)

// Parts of boundary/shared.h written by a module.
const (
	controlBytes = 6164480
	atRing       = 64
	atEntries    = atRing + 3*64
	atGates      = 65792
	gateBytes    = 192
	atProgress   = 852224
	atAreas      = 921600
	areaBytes    = 1280 << 10
)

// Memory is the memory shared by module and engine.
type Memory struct {
	t                    testing.TB
	control, slabs, wake int // descriptors
	bytes                []byte
	plain                []byte
	used                 int // slabs
	admitted             map[uint64]uint64
}

func NewMemory(t testing.TB) *Memory {
	t.Helper()
	m := &Memory{t: t, admitted: map[uint64]uint64{}}
	const sealShrink, sealGrow = 2, 4
	m.control, m.bytes = m.memfd("control", controlBytes, sealShrink|sealGrow)
	m.slabs, m.plain = m.memfd("slabs", 64*frame.SlabBytes, sealShrink)
	wake, _, errno := syscall.Syscall(syscall.SYS_EVENTFD2, 0, syscall.O_CLOEXEC|syscall.O_NONBLOCK, 0)
	if errno != 0 {
		t.Fatal(errno)
	}
	m.wake = int(wake)
	for at, word := range map[int]uint64{
		0: 0x4c525443534b4552, 8: 5 | 1024<<32, 16: 4096 | 1024<<32, 24: controlBytes, 32: uint64(len(m.plain)),
	} {
		binary.NativeEndian.PutUint64(m.bytes[at:], word)
	}
	t.Cleanup(func() {
		_ = syscall.Munmap(m.bytes)
		_ = syscall.Munmap(m.plain)
		for _, fd := range []int{m.control, m.slabs, m.wake} {
			_ = syscall.Close(fd)
		}
	})
	return m
}

// memfdCreate is the number of memfd_create, which package syscall does not have.
var memfdCreate = map[string]uintptr{"386": 356, "amd64": 319, "arm": 385, "arm64": 279}

// memfd creates a file in memory and maps it.
func (m *Memory) memfd(name string, size int, seals uintptr) (fd int, bytes []byte) {
	m.t.Helper()
	const cloexec, allowSealing, addSeals = 1, 2, 1033
	text, err := syscall.BytePtrFromString(name)
	if err != nil {
		m.t.Fatal(err)
	}
	r, _, errno := syscall.Syscall(memfdCreate[runtime.GOARCH], uintptr(unsafe.Pointer(text)), cloexec|allowSealing, 0)
	if errno != 0 {
		m.t.Fatal(errno)
	}
	fd = int(r)
	if err := syscall.Ftruncate(fd, int64(size)); err != nil {
		m.t.Fatal(err)
	}
	if _, _, errno := syscall.Syscall(syscall.SYS_FCNTL, r, addSeals, seals); errno != 0 {
		m.t.Fatal(errno)
	}
	bytes, err = syscall.Mmap(fd, 0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		m.t.Fatal(err)
	}
	return fd, bytes
}

// Duplicates returns duplicates of the descriptors, for another owner.
func (m *Memory) Duplicates() (control, slabs, wake int) {
	m.t.Helper()
	var fds [3]int
	for i, fd := range []int{m.control, m.slabs, m.wake} {
		again, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_DUPFD_CLOEXEC, 3)
		if errno != 0 {
			m.t.Fatal(errno)
		}
		fds[i] = int(again)
	}
	return fds[0], fds[1], fds[2]
}

// Hurry is the word by which the engine hurries a subscription's thread.
func (m *Memory) Hurry(id uint64) *atomic.Uint64 { return m.word(atProgress + int(id)*64 + 8) }

func (m *Memory) word(at int) *atomic.Uint64 { return (*atomic.Uint64)(unsafe.Pointer(&m.bytes[at])) }

// Gate is a word of a gate: 0 = open, 8 = done_frames.
func (m *Memory) Gate(id uint64, word int) *atomic.Uint64 {
	return m.word(atGates + int(id)*gateBytes + 8*word)
}

// Returned counts a callback of a subscription.
func (m *Memory) Returned(id uint64) { m.word(atProgress + int(id)*64).Add(1) }

// Messages reads the messages of an answer from its area, if it has one, and gives each message its topic.
func (m *Memory) Messages(a *boundary.NextAnswer) {
	m.t.Helper()
	if a.Area > 0 {
		at := atAreas + (int(a.Area)-1)*areaBytes
		fields := slices.Concat(make([]byte, 3*8), m.bytes[at:at+int(a.Length)]) // as if the messages followed
		frame := boundary.Frame{Kind: boundary.NextKind, Answer: true, Number: 1, Fields: fields}
		var inArea boundary.NextAnswer
		if err := frame.Decode(&inArea); err != nil {
			m.t.Fatal(err)
		}
		a.Messages = inArea.Messages
	}
	for i := range a.Messages {
		if i > 0 && a.Messages[i].Topic == "" {
			a.Messages[i].Topic = a.Messages[i-1].Topic
		}
	}
}

// Stage writes frames into a separate slab and returns their place in the file, without a notice to the
// engine.
func (m *Memory) Stage(id uint64, label string, frames ...frametest.Frame) (slab, start, length int) {
	m.t.Helper()
	var bytes []byte
	for _, f := range frames {
		f.Charge = uint32(len(f.Value))
		bytes = frametest.Append(bytes, f)
	}
	if m.used == len(m.plain)/frame.SlabBytes {
		m.t.Fatal("all slabs are used")
	}
	slab = m.used * frame.SlabBytes
	m.used++
	file := frametest.Slab(label, id, m.admitted[id], bytes)
	binary.NativeEndian.PutUint64(file[frame.SlabSize:], frame.SlabBytes)
	copy(m.plain[slab+8:slab+frame.SlabBytes], file[8:])
	(*atomic.Uint64)(unsafe.Pointer(&m.plain[slab])).Store(frame.SlabMagic)
	m.admitted[id] += uint64(len(frames))
	return slab, int(binary.NativeEndian.Uint32(file[frame.SlabFrames:])), len(bytes)
}

// Put hands frames over, as the pump does.
func (m *Memory) Put(id uint64, label string, frames ...frametest.Frame) {
	m.t.Helper()
	slab, start, length := m.Stage(id, label, frames...)
	put := m.word(atRing)
	entry := m.bytes[atEntries+int(put.Load()%1024)*64:]
	for i, word := range []int{int(id), 0, slab, start, length} {
		binary.NativeEndian.PutUint64(entry[8*i:], uint64(word))
	}
	put.Add(1)
	if m.word(atRing+128).Swap(0) == 1 {
		if _, err := syscall.Write(m.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0}); err != nil {
			m.t.Fatal(err)
		}
	}
}

// Ready counts the unfinished frames.
func (m *Memory) Ready() int {
	n := 0
	for at := 0; at < m.used*frame.SlabBytes; at += frame.SlabBytes {
		slab, err := frame.ReadSlab(m.plain[at:at+frame.SlabBytes], frame.SlabBytes)
		if err != nil {
			m.t.Fatal(err)
		}
		n += slab.Waiting()
	}
	return n
}
