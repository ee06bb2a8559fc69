package wan

import (
	"sync"
	"time"
)

// packet has bytes under way.
type packet struct {
	bytes []byte
	due   time.Time // at the other end
}

// queue has the packets of one direction, in order.
type queue struct {
	mtx       sync.Mutex
	changed   sync.Cond
	packets   []packet
	size      int // bytes, until they are written
	ended     bool
	last      time.Time // when the end is due
	abandoned bool
}

func newQueue() *queue {
	q := &queue{}
	q.changed.L = &q.mtx
	return q
}

// put appends a copy of bytes. It blocks while the window is full, and reports false after abandon.
func (q *queue) put(bytes []byte, due time.Time) bool {
	own := append(make([]byte, 0, len(bytes)), bytes...)
	q.mtx.Lock()
	defer q.mtx.Unlock()
	for q.size > 0 && q.size+len(own) > window && !q.abandoned {
		q.changed.Wait()
	}
	if q.abandoned {
		return false
	}
	q.packets = append(q.packets, packet{own, due})
	q.size += len(own)
	q.changed.Broadcast()
	return true
}

// end marks the end of the direction.
func (q *queue) end(due time.Time) {
	q.mtx.Lock()
	defer q.mtx.Unlock()
	q.ended, q.last = true, due
	q.changed.Broadcast()
}

// take returns the next packet, or false for the end. It blocks until there is one.
func (q *queue) take() (bytes []byte, due time.Time, ok bool) {
	q.mtx.Lock()
	defer q.mtx.Unlock()
	for len(q.packets) == 0 && !q.ended {
		q.changed.Wait()
	}
	if len(q.packets) == 0 {
		return nil, q.last, false
	}
	p := q.packets[0]
	q.packets[0] = packet{}
	q.packets = q.packets[1:]
	return p.bytes, p.due, true
}

// done makes space in the window for further bytes.
func (q *queue) done(size int) {
	q.mtx.Lock()
	defer q.mtx.Unlock()
	q.size -= size
	q.changed.Broadcast()
}

// abandon ends put: the receiver is gone.
func (q *queue) abandon() {
	q.mtx.Lock()
	defer q.mtx.Unlock()
	q.abandoned = true
	q.changed.Broadcast()
}
