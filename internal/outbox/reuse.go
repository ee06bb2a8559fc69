package outbox

import (
	"sync/atomic"
	"time"

	"reskafka/internal/record"
)

// spare is the outbox's pool: records used by the client, and the blocks of their bytes. Without the pool, a
// million records of 300 bytes cost half a second of zeroing, page faults and collections.
//
// A chunk has the records unpacked from one pack, a room the bytes of one block. A chunk goes back once no
// record has a reader left. The chunk's holds are
//
//   - one for each record, until the gate and the receiver of the report have the outcome,
//   - another while the record is in the lane's write, or being written, until the gate's notice of the
//     write,
//   - one for each Send with any of the records, until the return.
//
// A room goes back after the pack is done with the room and each chunk with a record there has gone back. A
// record that is dead-lettered, retried or spilled never releases its hold, so the chunk is garbage-collected
// instead of reused. An unforeseen path thus costs memory and no record.
//
// The outbox's mutex guards everything.
type spare struct {
	chunks stock[chunk]
	rooms  stock[room]
	since  time.Duration // start of the count for the stocks' least; 0 = no count
	lanes  int           // of the outbox
	rests  int           // empty packs with a room

	fill []*record.Record // memory of readLot
}

// chunk is some records.
type chunk struct {
	records []entry
	given   int     // number of used records, from the first
	rooms   []*room // rooms with bytes of these records
	holds   int
	open    bool // a pack makes more records here
}

// room is the bytes of a block.
type room struct {
	bytes  []byte
	extras []extra          // of the block
	states []*atomic.Uint32 // the same
	chunks int              // with a record in the room
	open   int              // number of other users: a writing or reading pack
}

// chunkRecords is the number of records in a chunk. Tests change it.
var chunkRecords = 64

const (
	roomsMost  = 256 // rooms kept under traffic: 16 MiB, a client's share of a topic
	chunksMost = 512 // and chunks: 8 MiB
	chunkRooms = 16  // limit of a chunk's rooms; then another chunk begins
	spareKept  = 2   // of both, for as long as there is none
	spareRest  = 2 * time.Second
	restsMost  = 16 // limit of empty packs with a room
	lanesFew   = 16 // an outbox with no more lanes has a room for each, at any traffic
)

// chunk returns a chunk for a pack's records.
func (s *spare) chunk() *chunk {
	c := s.chunks.take()
	if c == nil {
		c = &chunk{records: make([]entry, chunkRecords)}
	}
	c.open = true
	return c
}

// room returns a room for a pack's next block.
func (s *spare) room() *room {
	r := s.rooms.take()
	if r == nil {
		r = &room{bytes: make([]byte, 0, blockMost)}
	}
	r.open = 1
	return r
}

// refer notes that a record of the chunk has its bytes in a room.
func (c *chunk) refer(r *room) {
	if n := len(c.rooms); n == 0 || c.rooms[n-1] != r {
		c.rooms = append(c.rooms, r)
		r.chunks++
	}
}

// stay excludes a record from reuse, because of a later reader. Idempotent.
func (r *entry) stay() {
	if r.chunk != nil {
		r.home, r.chunk = r.chunk, nil
	}
}

// letGo releases holds of a chunk. nil: of records without reuse.
func (s *spare) letGo(c *chunk, holds int) {
	if c == nil {
		return
	}
	if c.holds -= holds; c.holds > 0 {
		return
	}
	if poisoning {
		poisonRecords(c.records[:c.given])
	} else {
		clear(c.records[:c.given])
	}
	for _, r := range c.rooms {
		if r.chunks--; r.chunks == 0 && r.open == 0 {
			s.putRoom(r)
		}
	}
	clear(c.rooms)
	c.given, c.rooms = 0, c.rooms[:0]
	if !c.open {
		s.chunks.put(c, chunksMost)
	}
}

// letGoAll releases a hold of each record.
func (s *spare) letGoAll(records []*entry) {
	var c *chunk
	holds := 0
	for _, r := range records {
		if r.chunk != c {
			s.letGo(c, holds)
			c, holds = r.chunk, 0
		}
		holds++
	}
	s.letGo(c, holds)
}

// close ends a pack's use of a chunk.
func (s *spare) close(c *chunk) {
	if c.open = false; c.holds == 0 {
		s.letGo(c, 0)
	}
}

// leave ends a pack's use of a room.
func (s *spare) leave(r *room) {
	if r.open--; r.open == 0 && r.chunks == 0 {
		s.putRoom(r)
	}
}

func (s *spare) putRoom(r *room) {
	if poisoning {
		poisonBytes(r.bytes[:cap(r.bytes)])
	}
	s.rooms.put(r, roomsMost)
}

// surplus reports whether trim may find unused memory.
func (s *spare) surplus() bool {
	return s.rests > 0 || len(s.rooms.list) > spareKept || len(s.chunks.list) > spareKept
}

// trim releases memory not needed for spareRest, and returns the time until the next check; 0 = no check
// needed.
func (s *spare) trim(now time.Duration) (again time.Duration) {
	if !s.surplus() {
		s.since = 0
		return 0
	}
	if s.since != 0 && now >= s.since+spareRest {
		s.rooms.trim()
		s.chunks.trim()
		s.since = 0
	}
	if s.since == 0 {
		s.since = now
		s.rooms.least, s.chunks.least = len(s.rooms.list), len(s.chunks.list)
	}
	return s.since + spareRest
}

// stock is the free list of one kind.
type stock[T any] struct {
	list  []*T
	least int // minimum since the start of the count
}

// take returns the last element put, or nil.
func (s *stock[T]) take() (one *T) {
	n := len(s.list) - 1
	if n >= 0 {
		one, s.list[n] = s.list[n], nil
		s.list = s.list[:n]
	}
	s.least = min(s.least, max(n, 0))
	return one
}

func (s *stock[T]) put(one *T, most int) {
	if len(s.list) < most {
		s.list = append(s.list, one)
	}
}

// trim releases the unused elements.
func (s *stock[T]) trim() {
	n := max(len(s.list)-s.least, spareKept)
	if n < len(s.list) {
		clear(s.list[n:])
		s.list = s.list[:n]
	}
}
