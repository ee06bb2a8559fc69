package boundary_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"reskafka/internal/boundary"
	"reskafka/internal/boundary/boundarytest"
)

// halves is a socket with two steps for each write, like a full socket.
type halves struct{ net.Conn }

func (h halves) Write(p []byte) (int, error) {
	n, err := h.Conn.Write(p[:len(p)/2])
	if err != nil {
		return n, err
	}
	m, err := h.Conn.Write(p[len(p)/2:])
	return n + m, err
}

// Answers of many goroutines do not interleave.
func TestConn_ManyWriters_FramesWhole(t *testing.T) {
	const writers, each = 8, 200
	left, right := net.Pipe()
	module, engine := boundary.NewConn(halves{left}, boundary.ModuleSide), boundary.NewConn(right, boundary.EngineSide)
	defer module.Close()
	defer engine.Close()
	var group sync.WaitGroup
	for w := range writers {
		group.Go(func() {
			for i := range each {
				text := strings.Repeat(string(rune('a'+w)), i*7)
				if err := module.Request(boundary.RunKind, uint64(w+1), &boundary.RunRequest{Words: []string{text}}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	seen := map[uint64]int{}
	for range writers * each {
		f, err := engine.Read()
		if err != nil {
			t.Fatal(err)
		}
		var run boundary.RunRequest
		if err := f.Decode(&run); err != nil {
			t.Fatal(err)
		}
		want := strings.Repeat(string(rune('a'+f.Number-1)), seen[f.Number]*7)
		if len(run.Words) != 1 || run.Words[0] != want {
			t.Fatalf("writer %d, frame %d: %q", f.Number, seen[f.Number], run.Words)
		}
		seen[f.Number]++
	}
	group.Wait()
}

// A forbidden frame ends the connection, with a sentence that names the frame.
func TestConn_Read_RefusesForbiddenFrames(t *testing.T) {
	head := func(length uint32, kind, flags uint16, number uint64) []byte {
		b := binary.LittleEndian.AppendUint32(nil, length)
		b = binary.LittleEndian.AppendUint16(b, kind)
		b = binary.LittleEndian.AppendUint16(b, flags)
		return binary.LittleEndian.AppendUint64(b, number)
	}
	for name, c := range map[string]struct {
		side  boundary.Side
		bytes []byte
	}{
		"there is no message 999":                 {boundary.EngineSide, head(12, 999, 0, 1)},
		"ping has the flags 0x2":                  {boundary.EngineSide, head(12, uint16(boundary.PingKind), 2, 1)},
		"answer to ping comes from the wrong":     {boundary.EngineSide, head(12, uint16(boundary.PingKind), 1, 1)},
		": ping comes from the wrong side":        {boundary.ModuleSide, head(12, uint16(boundary.PingKind), 0, 1)},
		"log comes from the wrong side":           {boundary.EngineSide, head(12, uint16(boundary.LogKind), 0, 0)},
		"answer to refused comes from the wrong":  {boundary.ModuleSide, head(12, uint16(boundary.RefusedKind), 1, 1)},
		"ping has the number 0":                   {boundary.EngineSide, head(12, uint16(boundary.PingKind), 0, 0)},
		"refused has the number 7":                {boundary.EngineSide, head(12, uint16(boundary.RefusedKind), 0, 7)},
		"ping of 11 bytes":                        {boundary.EngineSide, head(11, uint16(boundary.PingKind), 0, 1)},
		"ping of 67108865 bytes":                  {boundary.EngineSide, head(boundary.FrameMax+1, uint16(boundary.PingKind), 0, 1)},
		"answer to next of 1140850689 bytes":      {boundary.ModuleSide, head(boundary.MessagesMax+1, uint16(boundary.NextKind), 1, 1)},
		"answer to reports_next of 67108865 byte": {boundary.ModuleSide, head(boundary.FrameMax+1, uint16(boundary.ReportsNextKind), 1, 1)},
	} {
		_, err := boundary.NewConn(stream{bytes.NewReader(c.bytes)}, c.side).Read()
		if !errors.Is(err, boundary.ErrFormat) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// An end of the connection within a frame differs from an end between frames.
func TestConn_Read_EndOfStream(t *testing.T) {
	whole := boundarytest.Encode(boundary.NextKind, false, 1, &boundary.NextRequest{ID: 5})
	for n := range len(whole) + 1 {
		conn := boundary.NewConn(stream{iotest.OneByteReader(bytes.NewReader(whole[:n]))}, boundary.EngineSide)
		_, err := conn.Read()
		want := io.ErrUnexpectedEOF
		switch n {
		case 0:
			want = io.EOF
		case len(whole):
			want = nil
		}
		if err != want {
			t.Errorf("%d of %d bytes: %v, not %v", n, len(whole), err, want)
		}
	}
}

// allocated returns the bytes allocated by do.
func allocated(do func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	do()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// A length or a count without its bytes costs nearly nothing.
func TestConn_LengthAnnounced_AllocatesLittle(t *testing.T) {
	head := make([]byte, 16+1000)
	binary.LittleEndian.PutUint32(head, boundary.MessagesMax)
	binary.LittleEndian.PutUint16(head[4:], uint16(boundary.NextKind))
	binary.LittleEndian.PutUint16(head[6:], 1)
	binary.LittleEndian.PutUint64(head[8:], 1)
	if n := allocated(func() {
		if _, err := boundary.NewConn(stream{bytes.NewReader(head)}, boundary.ModuleSide).Read(); err != io.ErrUnexpectedEOF {
			t.Error(err)
		}
	}); n > 1<<20 {
		t.Errorf("a length of %d bytes cost %d", boundary.MessagesMax, n)
	}
	fields := make([]byte, 16<<20)
	binary.LittleEndian.PutUint32(fields, uint32(len(fields)/40-1))
	for i := 4; i < len(fields); i++ {
		fields[i] = 0xfe // the first element is a text of 4 GB
	}
	frame := boundary.Frame{Kind: boundary.NextKind, Answer: true, Number: 1, Fields: fields}
	if n := allocated(func() {
		if err := frame.Decode(new(boundary.NextAnswer)); !errors.Is(err, boundary.ErrFormat) {
			t.Error(err)
		}
	}); n > 1<<20 {
		t.Errorf("a count of %d elements cost %d bytes", len(fields)/40-1, n)
	}
}

// broken is a socket with failing writes.
type broken struct {
	stream
	writes, closes int
}

func (b *broken) Write(p []byte) (int, error) { b.writes++; return 1, errors.New("pipe is gone") }
func (b *broken) Close() error                { b.closes++; return nil }

// A log line is written before a later answer, and never waits for the receiver.
func TestConn_Post_OrderKeptAndNeverBlocks(t *testing.T) {
	left, right := net.Pipe() // without a buffer: a write blocks until the read
	engine, module := boundary.NewConn(left, boundary.EngineSide), boundary.NewConn(right, boundary.ModuleSide)
	defer engine.Close()
	defer module.Close()
	const lines = 50
	for i := range int32(lines) {
		if !engine.Post(boundary.LogKind, &boundary.LogRequest{Line: i}) {
			t.Fatal("a line was not queued")
		}
	}
	go func() { _ = engine.Answer(boundary.PingKind, 1, nil) }()
	for i := range int32(lines) {
		var line boundary.LogRequest
		f, err := module.Read()
		if err == nil {
			err = f.Decode(&line)
		}
		if err != nil || f.Kind != boundary.LogKind || line.Line != i {
			t.Fatalf("frame %d: %s, %+v, %v", i, f.Kind, line, err)
		}
	}
	if f, err := module.Read(); err != nil || f.Kind != boundary.PingKind {
		t.Errorf("%+v, %v", f, err)
	}
	line := &boundary.LogRequest{Text: strings.Repeat("x", 10_000)}
	queued := 0
	for engine.Post(boundary.LogKind, line) {
		if queued++; queued > 2*boundary.PostMax/10_000 {
			t.Fatal("what is queued for a peer that does not read is not bounded")
		}
	}
	if queued < boundary.PostMax/10_000-1 {
		t.Errorf("only %d lines were queued", queued)
	}
}

// The receiver has part of a frame: no further frame may follow.
func TestConn_WriteFailed_NothingFollows(t *testing.T) {
	socket := &broken{}
	conn := boundary.NewConn(socket, boundary.EngineSide)
	for range 3 {
		if err := conn.Answer(boundary.PingKind, 1, nil); err == nil || !strings.Contains(err.Error(), "pipe is gone") {
			t.Error(err)
		}
	}
	if socket.writes != 1 || socket.closes != 1 {
		t.Errorf("%d writes and %d closes", socket.writes, socket.closes)
	}
}

// A too long answer is not sent, and the connection continues.
func TestConn_AnswerTooLong_GoesOn(t *testing.T) {
	left, right := net.Pipe()
	engine, module := boundary.NewConn(left, boundary.EngineSide), boundary.NewConn(right, boundary.ModuleSide)
	defer engine.Close()
	defer module.Close()
	long := &boundary.RunAnswer{Printed: make([]byte, boundary.FrameMax)}
	if err := engine.Answer(boundary.RunKind, 1, long); !errors.Is(err, boundary.ErrFormat) {
		t.Errorf("%v", err)
	}
	go func() { _ = engine.Answer(boundary.PingKind, 2, nil) }()
	if f, err := module.Read(); err != nil || f.Kind != boundary.PingKind || f.Number != 2 {
		t.Errorf("%+v, %v", f, err)
	}
}

// Sides of two builds refuse each other, also when the rest of hello differs.
func TestCheckPeer(t *testing.T) {
	hello := func(abi uint64, build string) boundary.Frame {
		w := boundary.Writer{}
		w.Begin(boundary.HelloKind, false, 1)
		w.Number(abi)
		w.Text(build)
		w.Number(99) // of another version
		b, _ := w.Finish()
		return boundary.Frame{Kind: boundary.HelloKind, Number: 1, Fields: b[16:]}
	}
	f := hello(boundary.ABIVersion, boundary.Build)
	if err := boundary.CheckPeer(&f); err != nil {
		t.Error(err)
	}
	for _, f := range []boundary.Frame{hello(boundary.ABIVersion+1, boundary.Build), hello(boundary.ABIVersion, "other")} {
		err := boundary.CheckPeer(&f)
		var differs *boundary.VersionError
		if !errors.As(err, &differs) || !strings.Contains(err.Error(), fmt.Sprintf("%q (boundary %d)", differs.Build, differs.ABI)) {
			t.Errorf("%v", err)
		}
	}
	f = boundary.Frame{Kind: boundary.PingKind, Number: 1}
	if err := boundary.CheckPeer(&f); !errors.Is(err, boundary.ErrFormat) {
		t.Errorf("ping: %v", err)
	}
	f = boundary.Frame{Kind: boundary.HelloKind, Number: 1}
	if err := boundary.CheckPeer(&f); !errors.Is(err, boundary.ErrFormat) {
		t.Errorf("an empty hello: %v", err)
	}
}
