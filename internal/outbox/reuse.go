package outbox

import (
	"sync/atomic"
	"time"
)

// spare is what an outbox uses again: records that the client was given, and the blocks that their bytes are in. Without it
// every million records of 300 bytes costs half a second of zeroing, page faults and collecting.
//
// A chunk holds records that were taken out of one pack, a room the bytes of one block. A chunk goes back once nobody can look
// at its records any more, all of them: it has holds, which are
//
//   - one of each record, until its outcome has been told to the gate and to whoever wants a report,
//   - one more while it is in its lane's write, or being written, and the gate is told of that,
//   - one of each Send that was given any of them, until it has returned.
//
// A room goes back once its pack is done with it and each chunk with a record in it has gone back. Whatever else becomes of a
// record, that it becomes a dead letter, is sent again or leaves memory, its hold is never let go, and the garbage collector gets
// its chunk and what that refers to. So a place that was not thought of costs memory and no record.
//
// Everything is guarded by the outbox's mutex.
type spare struct {
	chunks stock[chunk]
	rooms  stock[room]
	since  time.Duration // when the stocks' least was counted from; 0 = it is not counted
	lanes  int           // of the outbox
	rests  int           // packs that are empty and keep a room

	numbers []byte // of a reference that is being written
}

// chunk is some records.
type chunk struct {
	records []Record
	given   int     // how many of them there are, from the first
	rooms   []*room // that the bytes of these are in
	holds   int
	open    bool // a pack makes more records here
}

// room is the bytes of a block.
type room struct {
	bytes  []byte
	extras []extra          // of the block
	states []*atomic.Uint32 // the same
	chunks int              // that have a record in it
	open   int              // how many use it besides: a pack that writes or reads there
}

// chunkRecords is how many records a chunk has. Tests change it.
var chunkRecords = 64

const (
	roomsMost  = 256 // rooms that are kept while there is traffic: 16 MiB, as much as a client has of a topic
	chunksMost = 512 // and chunks: 8 MiB
	chunkRooms = 16  // rooms that a chunk refers to before another one is begun
	spareKept  = 2   // of both, for as long as there is none
	spareRest  = 2 * time.Second
	restsMost  = 16 // packs that may keep a room although they are empty
	lanesFew   = 16 // an outbox with no more lanes has a room for each of them, however little they carry
)

// chunk gives one for a pack to make records in.
func (s *spare) chunk() *chunk {
	c := s.chunks.take()
	if c == nil {
		c = &chunk{records: make([]Record, chunkRecords)}
	}
	c.open = true
	return c
}

// room gives one for a pack's next block.
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

// stay has a record not go back, because somebody is going to look at it. More than once does no harm.
func (r *Record) stay() {
	if r.chunk != nil {
		r.home, r.chunk = r.chunk, nil
	}
}

// letGo ends so many holds of a chunk. nil: of records that do not go back.
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

// letGoAll ends one hold of each record.
func (s *spare) letGoAll(records []*Record) {
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

// close ends that a pack makes records in a chunk.
func (s *spare) close(c *chunk) {
	if c.open = false; c.holds == 0 {
		s.letGo(c, 0)
	}
}

// leave ends that a pack has a room.
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

// surplus reports whether there is something that trim may find to be unused.
func (s *spare) surplus() bool {
	return s.rests > 0 || len(s.rooms.list) > spareKept || len(s.chunks.list) > spareKept
}

// trim gives the garbage collector what was not needed for spareRest, and says when to look again; 0 = there is nothing to
// look for.
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

// stock is what there is of one kind.
type stock[T any] struct {
	list  []*T
	least int // how many there were at all times since it was counted
}

// take gives what was put there last, or nil.
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

// trim lets go of what was not taken.
func (s *stock[T]) trim() {
	n := max(len(s.list)-s.least, spareKept)
	if n < len(s.list) {
		clear(s.list[n:])
		s.list = s.list[:n]
	}
}
