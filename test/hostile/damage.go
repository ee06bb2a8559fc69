package main

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"reskafka/internal/boundary"
	"reskafka/internal/boundary/boundarytest"
	"reskafka/internal/ingest"
)

// mood is the switch and the strength of the damage.
type mood struct {
	path string

	mtx   sync.Mutex
	on    bool
	seed  uint64
	every int // one frame of this number
	words int // each millisecond
	rng   *rand.Rand
}

func newMood(path string) *mood {
	m := &mood{path: path}
	m.look()
	m.rng = rand.New(rand.NewPCG(m.seed, uint64(os.Getpid())))
	go func() {
		for range time.Tick(20 * time.Millisecond) {
			m.look()
		}
	}()
	return m
}

func (m *mood) look() {
	text, err := os.ReadFile(m.path)
	m.mtx.Lock()
	defer m.mtx.Unlock()
	m.on = err == nil
	if m.on {
		_, err = fmt.Sscan(string(text), &m.seed, &m.every, &m.words)
		m.on = err == nil // else the file is being written
	}
}

// damage returns the frames for the module in place of frame.
func (m *mood) damage(frame []byte) [][]byte {
	m.mtx.Lock()
	defer m.mtx.Unlock()
	if !m.on || m.every <= 0 || m.rng.IntN(m.every) > 0 {
		return [][]byte{frame}
	}
	switch m.rng.IntN(8) {
	case 0: // an unsolicited message, of any kind
		return [][]byte{m.another(), frame}
	case 1:
		return [][]byte{frame, frame}
	case 2: // the connection is out of step from now on
		return [][]byte{frame[:m.rng.IntN(len(frame))]}
	case 3, 4, 5: // well-formed, and wrong in every field
		if f := m.filled(frame); f != nil {
			return [][]byte{f}
		}
	}
	f := slices.Clone(frame)
	for range 1 + m.rng.IntN(4) {
		m.spoil(f)
	}
	return [][]byte{f}
}

// another returns a request or an answer of the table.
func (m *mood) another() []byte {
	frames := boundarytest.Frames(m.rng)
	return frames[m.rng.IntN(len(frames))].Bytes
}

// filled returns a frame of the same kind and number with random fields, or nil for a kind without fields.
func (m *mood) filled(frame []byte) []byte {
	kind := boundary.Kind(binary.LittleEndian.Uint16(frame[4:]))
	answer := binary.LittleEndian.Uint16(frame[6:]) != 0
	body := boundary.NewRequest(kind)
	if answer {
		body = boundary.NewAnswer(kind)
	}
	if body == nil {
		return nil
	}
	boundarytest.Fill(m.rng, body)
	if next, ok := body.(*boundary.NextAnswer); ok && m.rng.IntN(2) == 0 { // an existing area, or one behind the last
		next.Area, next.Length = uint32(m.rng.IntN(ingest.Areas+2)), uint32(m.rng.IntN(ingest.AreaBytes+2))
	}
	return boundarytest.Encode(kind, answer, binary.LittleEndian.Uint64(frame[8:]), body)
}

// spoil changes some bytes, rarely of the head.
func (m *mood) spoil(b []byte) {
	from := 16
	if m.rng.IntN(8) == 0 || len(b) <= from {
		from = 0
	}
	at := from + m.rng.IntN(len(b)-from)
	switch m.rng.IntN(3) {
	case 0:
		b[at] = byte(m.rng.Uint32())
	case 1:
		b[at] ^= 1 << m.rng.IntN(8)
	case 2:
		if at+4 <= len(b) {
			binary.LittleEndian.PutUint32(b[at:], uint32(m.odd()))
		}
	}
}

// odd returns numbers near plausible lengths, limits and states.
func (m *mood) odd() uint64 {
	odd := []uint64{0, 1, 7, 8, 16, 24, 0xffff, 0x10000, 0x7fffffff, 0xffffffff, 1 << 32, 1<<63 - 1, 1 << 63, 1<<64 - 1,
		0x52454459, 0x444f4e45}
	if m.rng.IntN(3) == 0 {
		return m.rng.Uint64()
	}
	return odd[m.rng.IntN(len(odd))]
}

// near is the frequently damaged part of a memory, bytes: used bytes lie at the beginning. The control memory's
// first area of messages is within.
const near = 2 << 20

// scribble writes words to shared memory while the mood is hostile.
func (m *mood) scribble(fd int) {
	var memory []byte
	for range time.Tick(time.Millisecond) {
		var status syscall.Stat_t
		if syscall.Fstat(fd, &status) != nil || status.Size == 0 {
			continue
		}
		if len(memory) == 0 {
			memory, _ = syscall.Mmap(fd, 0, int(status.Size), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
			continue
		}
		m.mtx.Lock()
		for range m.words {
			if !m.on {
				break
			}
			size := min(near, len(memory))
			if m.rng.IntN(4) == 0 {
				size = min(size, 8<<10)
			}
			at := m.rng.IntN(size/8) * 8
			if m.rng.IntN(2) == 0 {
				binary.NativeEndian.PutUint64(memory[at:], m.odd())
			} else {
				binary.NativeEndian.PutUint32(memory[at:], uint32(m.odd()))
			}
		}
		m.mtx.Unlock()
	}
}
