package engine

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"reskafka/internal/frame"
	"reskafka/internal/frame/frametest"
	"reskafka/internal/ingest"
	"reskafka/internal/record"
	"reskafka/test/kafkatest"
)

// fileSlab is a mapped file of the staging folder.
type fileSlab struct {
	memory []byte
	file   *os.File
}

func newFileSlab(t *testing.T) *fileSlab {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), "slabs"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	s := &fileSlab{file: file}
	s.cut(t, frame.SlabBytes)
	s.memory, err = syscall.Mmap(int(file.Fd()), 0, frame.SlabBytes, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Munmap(s.memory) })
	return s
}

func (s *fileSlab) cut(t *testing.T, size int64) {
	t.Helper()
	if err := s.file.Truncate(size); err != nil {
		t.Fatal(err)
	}
}

// TestLot_FileTruncated_RecordsLost verifies that the unread records of a truncated file are lost, and that a
// record already read keeps its bytes.
func TestLot_FileTruncated_RecordsLost(t *testing.T) {
	s := newFileSlab(t)
	var frames []byte
	for range 3 {
		frames = frametest.Append(frames, frametest.Frame{Topic: "t", Key: []byte("k"), Value: []byte("v"), Charge: 7,
			Fields: []frame.Field{frametest.Text("name", "value")}})
	}
	l := lotOf(s.memory[:copy(s.memory, frames)], "t")
	l.lasting = true
	records := kafkatest.Records(make([]record.Record, 3)...)
	if n := l.Read(records[:1]); n != 1 {
		t.Fatalf("read %d records", n)
	}
	s.cut(t, 0)
	if n := l.Read(records[1:]); n != 0 {
		t.Errorf("read %d records of a truncated file", n)
	}
	if frames, charge := l.gate.DoneFrames.Load(), l.gate.DoneCharge.Load(); frames != 2 || charge != 14 {
		t.Errorf("%d frames with a charge of %d were finished", frames, charge)
	}
	r := records[0]
	if string(r.Key) != "k" || string(r.Value) != "v" || len(r.Headers) != 1 || string(r.Headers[0].Value) != "value" {
		t.Errorf("the first record is %+v", r)
	}
	frame.Finish(r.Staged, r.Lasting)
}

// TestTake_FileTruncatedWhileRead_EngineLives verifies that the truncation of a durable slab, at any moment
// after its hand-over, costs the records in it and nothing else. A read of a missing page ended the engine.
func TestTake_FileTruncatedWhileRead_EngineLives(t *testing.T) {
	const rounds, each = 40, 100
	b := newBroker(t, kfake.SeedTopics(1, "t"))
	r := start(t, newLines())
	r.configure(section("one", b.address(), onDisk), section("two", b.address()))
	one, two := r.open("one"), r.open("two")
	for i := range rounds {
		s := newFileSlab(t)
		var frames []byte
		for range each {
			frames = frametest.Append(frames, frametest.Frame{AcceptedNS: time.Now().UnixNano(), Topic: "t", Value: make([]byte, 400), Charge: 1})
		}
		n := copy(s.memory, frames)
		one.HeldFrames.Add(each)
		one.HeldCharge.Add(each)
		r.Take(one.id, ingest.Range{Frames: s.memory[:n], Stays: true, Lasting: true})
		time.Sleep(time.Duration(i%8) * 50 * time.Microsecond)
		s.cut(t, int64(i%3)*int64(os.Getpagesize()))
		two.put(frametest.Frame{Topic: "t", Value: fmt.Append(nil, i)})
	}
	one.settled()
	two.settled()
	if c := r.status("one").Totals; c.Accepted != rounds*each {
		t.Errorf("account %+v", c)
	} else {
		t.Logf("%d of %d records were lost", dropped(c, notEncodable), c.Accepted)
	}
	if c := r.status("two").Totals; c.Acknowledged != rounds {
		t.Errorf("account of the other connection %+v", c)
	}
}
