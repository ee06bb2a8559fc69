package client

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"

	"reskafka/test/kafkatest"
)

// TestLink_AnswerBeforeEndOfWrite_KeepsBytes verifies that an early answer does not end a request during its
// write: the end allows changes of the bytes, and the broker would receive a mix of old and new bytes.
func TestLink_AnswerBeforeEndOfWrite_KeepsBytes(t *testing.T) {
	const size = 16 << 20 // more than the buffers of both sockets
	b := newLinkBroker(t)
	p := newParcel(size)
	early, rest := make(chan struct{}), make(chan []byte, 1)
	b.serve = func(conn net.Conn, frame []byte) bool {
		acknowledge(conn, frame)
		head := make([]byte, 12)
		if _, err := io.ReadFull(conn, head); err != nil {
			return false // the test has failed: without a length, the body would have 4 GiB
		}
		acknowledge(conn, head[4:])
		<-early
		body := make([]byte, binary.BigEndian.Uint32(head)-8)
		_, _ = io.ReadFull(conn, body)
		rest <- body
		return true
	}
	l := b.link()
	first := newParcel(100)
	l.Queue(first)
	l.Flush()
	first.succeeds(t)
	l.Queue(p)
	l.Flush()
	select {
	case <-p.ended:
		t.Error("the request ended during its write")
	case <-time.After(100 * time.Millisecond):
	}
	close(early)
	p.succeeds(t)
	clear(p.body)
	want := make([]byte, size-12)
	want[4] = 1
	select {
	case body := <-rest:
		if !bytes.Equal(body, want) {
			t.Error("the broker received other bytes")
		}
	case <-time.After(kafkatest.Patience):
		t.Fatal("the request does not arrive")
	}
	again := newParcel(100)
	l.Queue(again)
	l.Flush()
	again.succeeds(t)
	if b.opened.Load() != 1 {
		t.Errorf("%d connections", b.opened.Load())
	}
}

// TestParts verifies the order of copied and referenced bytes, and the removal of a request.
func TestParts(t *testing.T) {
	long := bytes.Repeat([]byte("l"), InlineBytes+1)
	for _, copies := range []bool{false, true} {
		p := Parts{copies: copies}
		p.Own = append(p.Own, "head"...)
		p.Refer([]byte("short"))
		p.Refer(long)
		own, references := len(p.Own), len(p.references)
		p.Own = append(p.Own, "other"...)
		p.Refer(long)
		p.truncate(own, references)
		p.Own = append(p.Own, "tail"...)
		got := bytes.Join(p.buffers(), nil)
		if want := "headshort" + string(long) + "tail"; string(got) != want || p.Len() != len(want) {
			t.Errorf("copies = %v: %d bytes, Len %d, want %d", copies, len(got), p.Len(), len(want))
		}
		if copies != (len(p.references) == 0) {
			t.Errorf("copies = %v: %d references", copies, len(p.references))
		}
	}
}
