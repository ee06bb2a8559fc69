package boundary

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"sync"
)

// keepMax is the largest Writer in the pool, bytes: larger Writers are left to the garbage collector. The
// limit is above the usual batch of messages.
const keepMax = 4 << 20

// PostMax is how many bytes of frames from Post may be queued: some thousand log lines.
const PostMax = 1 << 20

// firstRead is the first allocation for a long frame, before its bytes arrive.
const firstRead = 64 << 10

// Conn is an end of the connection. Writes are safe for concurrent use, also in parallel with Read and Close;
// Read is for one goroutine. The first failed write breaks the connection, because the receiver has part of a
// frame: Conn closes the socket, and all later writes return the same error.
type Conn struct {
	side   Side
	socket io.ReadWriteCloser
	in     *bufio.Reader
	head   [headSize]byte

	writing sync.Mutex // held while frames are written; taken before posting
	failed  error      // why there are no more writes; guarded by writing
	writers sync.Pool
	closing sync.Once

	posting  sync.Mutex
	posted   []byte // unwritten frames from Post
	flushing bool   // a goroutine is about to write posted
}

// NewConn returns the end of side over socket, a stream. Conn owns the socket from now on. A write of the
// socket must write all bytes or fail, as an *os.File and a net.Conn do.
func NewConn(socket io.ReadWriteCloser, side Side) *Conn {
	return &Conn{side: side, socket: socket, in: bufio.NewReaderSize(socket, 16<<10),
		writers: sync.Pool{New: func() any { return new(Writer) }}}
}

// Close closes the socket. Running and later reads and writes return. Idempotent.
func (c *Conn) Close() error {
	var err error
	c.closing.Do(func() { err = c.socket.Close() })
	return err
}

// Read blocks until the next frame and returns it; the caller owns the frame. Errors: io.EOF after a close
// between two frames, io.ErrUnexpectedEOF within a frame, ErrFormat (wrapped) for a forbidden frame, else the
// socket's. Every error ends the connection: the end of a damaged frame is unknown.
func (c *Conn) Read() (Frame, error) {
	if _, err := io.ReadFull(c.in, c.head[:]); err != nil {
		return Frame{}, err
	}
	f, length, err := parseHead(c.head[:], 1-c.side)
	if err != nil {
		return Frame{}, err
	}
	f.Fields, err = readAll(c.in, length)
	return f, err
}

// readAll reads length bytes. After the first step it allocates at most twice the received bytes.
func readAll(in io.Reader, length int) ([]byte, error) {
	b := make([]byte, min(length, firstRead))
	for at := 0; ; {
		n, err := io.ReadFull(in, b[at:])
		at += n
		switch {
		case err == io.EOF && length > 0:
			return nil, io.ErrUnexpectedEOF
		case err != nil && length > 0:
			return nil, err
		case at == length:
			return b, nil
		}
		b = slices.Grow(b, min(len(b), length-len(b)))
		b = b[:min(cap(b), length)]
	}
}

// Request sends a request, or a one-way message for number 0. It blocks while the socket is full.
func (c *Conn) Request(kind Kind, number uint64, body Body) error {
	return c.send(kind, false, number, body)
}

// Answer sends the answer to the request of this kind and number. It blocks while the socket is full. A body
// too long for a frame is an error that wraps ErrFormat; nothing is sent, and the connection continues.
func (c *Conn) Answer(kind Kind, number uint64, body Body) error {
	return c.send(kind, true, number, body)
}

func (c *Conn) send(kind Kind, answer bool, number uint64, body Body) error {
	w := c.Begin(kind, answer, number)
	if body != nil {
		body.Put(w)
	}
	return c.Send(w)
}

// Begin returns a Writer with a started frame, for callers that append the fields themselves. Send must
// follow.
func (c *Conn) Begin(kind Kind, answer bool, number uint64) *Writer {
	w := c.writers.Get().(*Writer)
	w.Begin(kind, answer, number)
	return w
}

// Send finishes the frame of a Writer from Begin and writes the frame in one piece, in parallel with other
// writers. It takes ownership of w. It blocks while the socket is full. Errors as for Answer.
func (c *Conn) Send(w *Writer) error {
	defer c.recycle(w)
	frame, err := w.Finish()
	if err != nil {
		return err
	}
	c.writing.Lock()
	defer c.writing.Unlock()
	c.writePosted()
	return c.writeLocked(frame)
}

// Post queues a one-way message and returns at once. Frames sent later are written later. It reports whether
// the message was queued. A message is dropped if too long, or if PostMax bytes are queued for a slow
// receiver.
func (c *Conn) Post(kind Kind, body Body) bool {
	w := c.Begin(kind, false, 0)
	defer c.recycle(w)
	body.Put(w)
	frame, err := w.Finish()
	if err != nil {
		return false
	}
	c.posting.Lock()
	defer c.posting.Unlock()
	if len(c.posted)+len(frame) > PostMax {
		return false
	}
	c.posted = append(c.posted, frame...)
	if !c.flushing {
		c.flushing = true
		go c.flush()
	}
	return true
}

// Flush writes the queue of Post. It blocks while the socket is full. Errors as for Request.
func (c *Conn) Flush() error {
	c.writing.Lock()
	defer c.writing.Unlock()
	c.writePosted()
	return c.failed
}

// flush writes the queue of Post.
func (c *Conn) flush() {
	c.writing.Lock()
	defer c.writing.Unlock()
	c.posting.Lock()
	c.flushing = false
	c.posting.Unlock()
	c.writePosted()
}

// writePosted writes the queue of Post. Caller must hold writing.
func (c *Conn) writePosted() {
	c.posting.Lock()
	frames := c.posted
	c.posted = nil
	c.posting.Unlock()
	if len(frames) > 0 {
		_ = c.writeLocked(frames) // failed tells the next sender
	}
}

// writeLocked writes whole frames. The caller holds writing.
func (c *Conn) writeLocked(frames []byte) error {
	if c.failed != nil {
		return c.failed
	}
	if _, err := c.socket.Write(frames); err != nil {
		c.failed = fmt.Errorf("writing to the other side: %w", err)
		_ = c.Close()
	}
	return c.failed
}

func (c *Conn) recycle(w *Writer) {
	if cap(w.bytes) <= keepMax {
		c.writers.Put(w)
	}
}
