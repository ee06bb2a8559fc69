// Package inbox is the engine's side of struct resk_inbox: where the pump leaves short slabs without entering Go. What takes
// them is a goroutine that Go's poller wakes, on a processor that the poller has at hand.
package inbox

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"
)

// Size is how many bytes of entries an inbox holds, RESK_INBOX_BYTES.
const Size = 65536

// align is where entries begin, RESK_INBOX_ALIGN.
const align = 32

// Entry is struct resk_inbox_entry.
type Entry struct {
	ID     uint64 // of the connection; 0 = nothing, go on at the beginning of the ring
	Length uint64
	Kept   unsafe.Pointer // memory of C, a shared slab's; nil = the frames follow
	unused uint64
}

// Layout is struct resk_inbox.
type Layout struct {
	Put    atomic.Uint64
	Taken  atomic.Uint64
	Asleep atomic.Uint64
	Wake   int32
	unused int32
	Ring   [Size]byte
}

// Inbox takes what the pump leaves.
type Inbox struct {
	shared *Layout
	wake   *os.File
	take   func(id uint64, frames []byte, kept bool)

	mtx sync.Mutex // held over take, so that slabs are taken one after the other
}

// Open makes an inbox and starts the goroutine that empties it. take is called for each slab, in the order in which they
// were put and never twice at a time, from that goroutine or from within Then; the frames are the pump's again when it
// returns, unless kept. take must not panic. It is not called any more when Close has returned.
func Open(take func(id uint64, frames []byte, kept bool)) (*Inbox, error) {
	// Outside of Go's heap, as C keeps a pointer to it.
	memory, err := syscall.Mmap(-1, 0, int(unsafe.Sizeof(Layout{})), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("mapping the inbox: %w", err)
	}
	// Flags of eventfd(2) are those of open(2).
	descriptor, _, errno := syscall.Syscall(syscall.SYS_EVENTFD2, 0, syscall.O_CLOEXEC|syscall.O_NONBLOCK, 0)
	if errno != 0 {
		return nil, fmt.Errorf("making the inbox's eventfd: %w", errno)
	}
	b := &Inbox{shared: (*Layout)(unsafe.Pointer(unsafe.SliceData(memory))), wake: os.NewFile(descriptor, "inbox"), take: take}
	b.shared.Wake = int32(descriptor)
	b.shared.Asleep.Store(1)
	poll, err := b.wake.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("waiting for the inbox's eventfd: %w", err)
	}
	go func() {
		// The descriptor is never read: the poller is told of every write, and reading would be a call more for each slab.
		_ = poll.Read(func(uintptr) bool {
			b.empty()
			return false
		})
	}()
	return b, nil
}

// Shared is the memory for C to put slabs into. It stays mapped for as long as the process.
func (b *Inbox) Shared() unsafe.Pointer { return unsafe.Pointer(b.shared) }

// Then takes what there is and calls do, before anything that is put later is taken.
func (b *Inbox) Then(do func()) {
	b.mtx.Lock()
	defer b.mtx.Unlock()
	b.drain()
	do()
}

// Close takes what there is and ends the goroutine. The memory stays, since there is no telling who still looks at it.
func (b *Inbox) Close() {
	b.Then(func() { b.take = func(uint64, []byte, bool) {} })
	_ = b.wake.Close()
}

// empty takes until there is nothing left, and leaves word that the next one to put has to wake us.
func (b *Inbox) empty() {
	for {
		b.Then(func() {})
		b.shared.Asleep.Store(1)
		if b.shared.Put.Load() == b.shared.Taken.Load() {
			return
		}
		b.shared.Asleep.Store(0)
	}
}

// drain takes what there is. The mutex is held.
func (b *Inbox) drain() {
	s := b.shared
	for taken := s.Taken.Load(); taken != s.Put.Load(); {
		at := taken % Size
		e := (*Entry)(unsafe.Pointer(&s.Ring[at]))
		if e.ID == 0 {
			taken += Size - at
			continue
		}
		size := uint64(unsafe.Sizeof(*e))
		if e.Kept != nil {
			b.take(e.ID, unsafe.Slice((*byte)(e.Kept), e.Length), true)
		} else {
			b.take(e.ID, s.Ring[at+size:at+size+e.Length], false)
			size += (e.Length + align - 1) / align * align
		}
		taken += size
		s.Taken.Store(taken)
	}
}
