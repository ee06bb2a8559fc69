package boundary_test

import (
	"net"
	"os"
	"syscall"
	"testing"

	"reskafka/internal/boundary"
)

// pair returns both ends of a socket pair, for module and engine.
func pair(b *testing.B) (module, engine *boundary.Conn) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		b.Fatal(err)
	}
	end := func(fd int, side boundary.Side) *boundary.Conn {
		file := os.NewFile(uintptr(fd), "socket")
		defer file.Close()
		socket, err := net.FileConn(file)
		if err != nil {
			b.Fatal(err)
		}
		return boundary.NewConn(socket, side)
	}
	return end(fds[0], boundary.ModuleSide), end(fds[1], boundary.EngineSide)
}

// Cost of a request and its answer, with both ends in this process.
func BenchmarkConn_RoundTrip(b *testing.B) {
	module, engine := pair(b)
	defer module.Close()
	go func() {
		defer engine.Close()
		for {
			f, err := engine.Read()
			var commit boundary.CommitRequest
			if err != nil || f.Decode(&commit) != nil {
				return
			}
			if engine.Answer(f.Kind, f.Number, &boundary.CommitAnswer{}) != nil {
				return
			}
		}
	}()
	b.ReportAllocs()
	for b.Loop() {
		if err := module.Request(boundary.CommitKind, 1, &boundary.CommitRequest{ID: 1, Current: true}); err != nil {
			b.Fatal(err)
		}
		f, err := module.Read()
		var answer boundary.CommitAnswer
		if err == nil {
			err = f.Decode(&answer)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}

// Cost of encoding a batch: 500 messages of 300 bytes with a header each.
func BenchmarkWriter_Messages(b *testing.B) {
	m := boundary.Received{Topic: "billing.calls", Partition: 3, Offset: 1 << 40, TimestampMS: 1_700_000_000_000,
		Key: make([]byte, 16), Value: make([]byte, 300), Headers: []boundary.Header{{Name: "entity_id", Value: make([]byte, 17)}}}
	var w boundary.Writer
	b.ReportAllocs()
	for b.Loop() {
		w.Begin(boundary.NextKind, true, 1)
		w.Count(500)
		for i := range int64(500) {
			m.Offset++
			m.Partition = int32(i)
			m.Put(&w)
		}
		frame, err := w.Finish()
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(int64(len(frame)))
	}
}
