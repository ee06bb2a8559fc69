package serve

import (
	"unsafe"

	"reskafka/internal/boundary"
	"reskafka/internal/ingest"
	"reskafka/internal/kafka/consume"
)

// areaFrom is the least size of an answer in an area, bytes. The socket is cheaper for short answers: a socket's
// buffer has some 200 KB, and a copy by the kernel costs less than the module's pages of a copy.
const areaFrom = 32 << 10

// areas are the free areas of the control memory, for batches of subscriptions with a backlog.
type areas struct {
	door *ingest.Door
	free chan int
}

func newAreas(door *ingest.Door) *areas {
	a := &areas{door, make(chan int, ingest.Areas)}
	for n := range ingest.Areas {
		a.free <- n + 1
	}
	return a
}

// releaseArea ends the use of the area of the last answer.
func (d *delivery) releaseArea() {
	d.mtx.Lock()
	defer d.mtx.Unlock()
	if d.area > 0 {
		d.areas.free <- d.area
		d.area = 0
	}
}

// place returns the answer with m. Long messages are encoded into a free area; without a free area, they are
// encoded into the answer.
func (d *delivery) place(m messages) boundary.Body {
	d.mtx.Lock() // forget waits: the area must not serve another subscription during the encoding
	defer d.mtx.Unlock()
	if size := m.size(); d.shared == nil || size < areaFrom || size > ingest.AreaBytes {
		return m
	}
	select {
	case d.area = <-d.areas.free:
	default:
		return m
	}
	area := d.areas.door.Area(d.area)
	list := m.encode(area[:0])
	if unsafe.SliceData(list) != unsafe.SliceData(area) {
		return m // size was too small
	}
	return &boundary.NextAnswer{Area: uint32(d.area), Length: uint32(len(list))}
}

// messages is boundary.NextAnswer, encoded straight from the client's records.
type messages struct{ batch *consume.Batch }

// Bytes of the answer, of the list's count, of a message, of a topic and of a header, beside their contents.
const (
	answerFixed  = 16 + 3*8
	countFixed   = 4
	messageFixed = 3*8 + 2*5 + 2*4
	topicFixed   = 1
	headerFixed  = 2 * 5
)

// size returns how many bytes the answer has at most.
func (m messages) size() int {
	headers, topics, bytes := m.batch.Size()
	return answerFixed + countFixed + bytes + topics + m.batch.Runs()*topicFixed + m.batch.Len()*messageFixed + headers*headerFixed
}

// Put implements boundary.Body.
func (m messages) Put(w *boundary.Writer) {
	w.Fields(m.size(), func(fields []byte) []byte {
		for range 3 { // again, area, length
			fields = boundary.AppendNumber(fields, 0)
		}
		return m.encode(fields)
	})
}

// encode appends the list of messages.
func (m messages) encode(fields []byte) []byte {
	fields = boundary.AppendCount(fields, m.batch.Len())
	for r, begins := range m.batch.All() {
		if begins {
			fields = boundary.AppendText(fields, r.Topic)
		} else {
			fields = boundary.AppendBytes(fields, nil)
		}
		fields = boundary.AppendNumber(fields, uint64(int64(r.Partition)))
		fields = boundary.AppendNumber(fields, uint64(r.Offset))
		fields = boundary.AppendNumber(fields, uint64(r.UnixMilli()))
		fields = boundary.AppendBytes(fields, r.Key)
		fields = boundary.AppendBytes(fields, r.Value)
		fields = boundary.AppendCount(fields, len(r.Headers))
		for _, h := range r.Headers {
			fields = boundary.AppendText(fields, h.Name)
			fields = boundary.AppendBytes(fields, h.Value)
		}
	}
	return fields
}

// Get implements boundary.Body; never received.
func (m messages) Get(*boundary.Reader) {}
