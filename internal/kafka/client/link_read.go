package client

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Errors with the texts of the client library, as in words_table.go.
const (
	errDied        = libraryError(ConnectionDied)
	errUnlisted    = libraryError(unknownBroker)
	errMismatch    = libraryError("correlation ID mismatch")
	errHTTP        = libraryError("the first bytes of the answer are 'HTTP' in ascii")
	errTLSAlert    = libraryError("the first bytes of the answer appear to be a tls alert")
	errNegative    = libraryError("invalid negative response size")
	errLargeAnswer = libraryError("invalid large response size")
)

// errEndedHere ends the requests of a connection ended by this side, for a reason reported elsewhere: the broker did not
// close the connection because of them.
var errEndedHere = errors.New("the connection was ended here")

// errMoved ends an attempt to connect after a change of the broker's address.
var errMoved = errors.New("the broker has another address")

// Sizes of the buffer for answers.
const (
	leastRead  = 4 << 10
	retainRead = 64 << 10
)

// frames has the bytes read from a connection.
type frames struct {
	buf        []byte
	start, end int // of the bytes without a whole answer
}

// next returns the next whole answer, without its length, or nil for an incomplete one. Valid until the next
// call of more.
func (f *frames) next() ([]byte, error) {
	have := f.buf[f.start:f.end]
	if len(have) < 4 {
		return nil, nil
	}
	size, err := answerSize(have)
	if err != nil || len(have)-4 < size {
		return nil, err
	}
	f.start += 4 + size
	return have[4 : 4+size], nil
}

// answerSize returns the length of an answer. The connection has refused lengths over the limits already.
func answerSize(head []byte) (int, error) {
	size := int32(binary.BigEndian.Uint32(head))
	switch {
	case size < 0:
		return 0, errNegative
	case string(head[:4]) == "HTTP":
		return 0, errHTTP
	case plainText(head[:4]):
		return 0, errTLSAlert
	case size > maxUnlistedResponse && int(size) > maxResponseSize(kmsg.Produce):
		return 0, errLargeAnswer
	}
	return int(size), nil
}

// more reads more bytes.
func (f *frames) more(from io.Reader) error {
	if f.start > 0 {
		f.end = copy(f.buf, f.buf[f.start:f.end])
		f.start = 0
	}
	if f.end == 0 && cap(f.buf) > retainRead {
		f.buf = nil
	}
	if need := f.need(); need > len(f.buf) {
		buf := make([]byte, need)
		copy(buf, f.buf[:f.end])
		f.buf = buf
	}
	n, err := from.Read(f.buf[f.end:])
	f.end += n
	if n > 0 {
		return nil
	}
	if errors.Is(err, io.EOF) && f.end > 0 {
		return io.ErrUnexpectedEOF
	}
	return err
}

// need returns the buffer's length for the incomplete answer.
func (f *frames) need() int {
	if f.end < 4 {
		return leastRead
	}
	return max(leastRead, 4+int(int32(binary.BigEndian.Uint32(f.buf))))
}

// read reads answers until the connection fails.
func (l *Link) read(c *linkConn) error {
	for {
		answer, err := c.in.next()
		switch {
		case err != nil:
			return err
		case answer != nil:
			err = l.answered(c, answer)
		default:
			if err = c.in.more(c.Conn); errors.Is(err, os.ErrDeadlineExceeded) {
				err = l.overdue(c, err)
			}
		}
		if err != nil {
			return err
		}
	}
}

// answered passes on an answer.
func (l *Link) answered(c *linkConn, answer []byte) error {
	if l.all.Unanswered { // Azure Event Hubs answers all the same
		return nil
	}
	if len(answer) < 4 {
		return kbin.ErrNotEnoughData
	}
	l.mtx.Lock()
	if len(c.pending) == 0 || int32(binary.BigEndian.Uint32(answer)) != correlation(c.pending[0].number) {
		l.mtx.Unlock()
		return errMismatch
	}
	e := c.pending[0]
	l.awaitWrite(c, e.number)
	c.pending = slices.Delete(c.pending, 0, 1)
	if len(c.pending) > 0 {
		c.since = time.Now()
	}
	renew := c.renew && len(c.pending) == 0
	l.mtx.Unlock()

	body, err := answer[4:], error(nil)
	if c.flexible {
		b := kbin.Reader{Src: body}
		kmsg.SkipTags(&b)
		body, err = b.Src, b.Complete()
	}
	if l.all.log.Enabled("protocol") {
		l.all.log.Logf("protocol", "read %s v%d from broker %d, %d bytes", l.all.Key.Name(), c.version, l.node, len(answer))
	}
	l.observe(c, kgo.BrokerE2E{BytesWritten: e.wrote, BytesRead: 4 + len(answer)})
	e.Ended(c.version, body, err)
	if renew {
		return l.renew(c)
	}
	return nil
}

// awaitWrite waits for the end of an answered request's write: the answer allows changes of its bytes. A broker
// may answer earlier, and not read the rest. Caller must hold mtx.
func (l *Link) awaitWrite(c *linkConn, number int64) {
	if number < c.written || !l.writing {
		return
	}
	c.early = true
	timeout := time.AfterFunc(c.silence, func() { c.Close() })
	for number >= c.written && l.writing {
		l.settled.Wait()
	}
	timeout.Stop()
	c.early = false
}

// overdue handles a read's passed deadline. It returns timeout for a late answer.
func (l *Link) overdue(c *linkConn, timeout error) error {
	l.mtx.Lock()
	defer l.mtx.Unlock()
	now := time.Now()
	switch idle := c.usage.limit - c.usage.idle(); {
	case len(c.pending) > 0:
		due := c.since.Add(c.silence)
		if !now.Before(due) {
			return timeout
		}
		c.arm(due, true)
	case c.renew:
		l.mtx.Unlock()
		err := l.renew(c)
		l.mtx.Lock()
		return err
	case c.usage.limit <= 0:
		c.armed = time.Time{}
		return c.Conn.Conn.SetReadDeadline(time.Time{})
	case idle <= 0 && !l.writing && len(l.queue) == 0:
		l.conn, c.err = nil, &IdleEnded{errIdleTooLong}
		return c.err
	default:
		c.arm(now.Add(max(idle, time.Millisecond)), true)
	}
	return nil
}

// renew logs in once more, as KIP-368 asks when a login expires. No request is under way, and requests wait meanwhile.
func (l *Link) renew(c *linkConn) error {
	l.mtx.Lock()
	if !c.renew || l.conn != c || l.writing || len(c.pending) > 0 {
		l.mtx.Unlock()
		return nil
	}
	l.writing = true
	l.mtx.Unlock()
	err := l.login(c)
	l.mtx.Lock()
	c.renew = false
	c.arm(time.Now().Add(c.silence), true)
	if err != nil && l.conn == c {
		l.conn, c.err = nil, &IdleEnded{err} // the requests go to a new connection, and its login reports the cause
	}
	l.settle()
	l.mtx.Unlock()
	if err == nil {
		l.Flush()
	}
	return err
}
