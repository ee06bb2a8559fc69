package spool

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"reskafka/internal/record"
)

// laid is the spool of the corruption tests: 100 records of one topic in several segments.
type laid struct {
	t     *testing.T
	dir   string
	files []string
}

const laidRecords = 100

func lay(t *testing.T) *laid {
	dir := newDir(t)
	s := open(t, dir, Options{SegmentBytes: 5 << 10})
	for n := 0; n < laidRecords; n += 5 {
		appendAll(t, s, batchOf("calls", n, n+5)...)
	}
	if err := s.Settle("calls", 2); err != nil { // creates the file
		t.Fatal(err)
	}
	closeSpool(t, s)
	l := &laid{t: t, dir: dir, files: segments(t, dir, "calls")}
	if len(l.files) < 4 {
		t.Fatalf("only %d segments", len(l.files))
	}
	return l
}

// frames returns the places of a segment's records.
func (l *laid) frames(file string) []frame {
	l.t.Helper()
	b := l.read(file)
	var s scanner
	s.begin(bytes.NewReader(b), int64(len(b)), 0, 1, maxPosition)
	var frames []frame
	for {
		f, ok := s.next()
		if !ok {
			return frames
		}
		frames = append(frames, frame{f.position, f.offset, bytes.Clone(f.body)})
	}
}

func (l *laid) read(file string) []byte {
	l.t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		l.t.Fatal(err)
	}
	return b
}

func (l *laid) write(file string, b []byte) {
	l.t.Helper()
	if err := os.WriteFile(file, b, 0o600); err != nil {
		l.t.Fatal(err)
	}
}

// change rewrites a segment.
func (l *laid) change(file string, f func([]byte) []byte) { l.write(file, f(l.read(file))) }

// flip flips a bit at a place of the nth record of a file, and returns the record's position.
func (l *laid) flip(file string, n, at int) uint64 {
	f := l.frames(file)[n]
	l.change(file, func(b []byte) []byte {
		b[int(f.offset)+at] ^= 0x10
		return b
	})
	return f.position
}

func (l *laid) last() string { return l.files[len(l.files)-1] }

// positionsOf returns the positions of all records of a file.
func (l *laid) positionsOf(file string) []uint64 {
	var p []uint64
	for _, f := range l.frames(file) {
		p = append(p, f.position)
	}
	return p
}

// corruptions are possible events for the files. corrupt executes an event and returns the lost positions,
// without records never accepted.
var corruptions = []struct {
	name    string
	corrupt func(l *laid) []uint64
	told    string // in a log line; empty = none is needed
	aside   bool   // something is kept in damaged/ in the end
}{
	{"nothing", func(*laid) []uint64 { return nil }, "", false},
	{"torn last record", func(l *laid) []uint64 {
		l.change(l.last(), func(b []byte) []byte { return append(b, b[l.frames(l.last())[0].offset:][:25]...) })
		return nil
	}, "the last 25 bytes", false},
	{"a few bytes behind the last record", func(l *laid) []uint64 {
		l.change(l.last(), func(b []byte) []byte { return append(b, "rubbish"...) })
		return nil
	}, "the last 7 bytes", false},
	{"zeros behind the last record", func(l *laid) []uint64 {
		l.change(l.last(), func(b []byte) []byte { return append(b, make([]byte, 10_000)...) })
		return nil
	}, "the last 10000 bytes", false},
	{"last record cut short after it was accepted", func(l *laid) []uint64 {
		p := l.positionsOf(l.last())
		l.change(l.last(), func(b []byte) []byte { return b[:len(b)-3] })
		return p[len(p)-1:]
	}, "damaged", true},
	{"bit in a body", func(l *laid) []uint64 { return []uint64{l.flip(l.files[1], 3, frameHead+30)} }, "damaged at byte", true},
	{"bit in a length", func(l *laid) []uint64 { return []uint64{l.flip(l.files[1], 3, 8)} }, "damaged at byte", true},
	{"high bit in a length", func(l *laid) []uint64 { return []uint64{l.flip(l.files[1], 3, 11)} }, "damaged at byte", true},
	{"bit in a marker", func(l *laid) []uint64 { return []uint64{l.flip(l.files[1], 3, 1)} }, "damaged at byte", true},
	{"bit in a checksum", func(l *laid) []uint64 { return []uint64{l.flip(l.files[1], 3, 5)} }, "damaged at byte", true},
	{"bit in a position", func(l *laid) []uint64 { return []uint64{l.flip(l.files[1], 3, 12)} }, "damaged at byte", true},
	{"bit in the first record", func(l *laid) []uint64 { return []uint64{l.flip(l.files[2], 0, frameHead+1)} }, "damaged at byte", true},
	{"bits in two neighbours", func(l *laid) []uint64 {
		return []uint64{l.flip(l.files[1], 4, 2), l.flip(l.files[1], 3, 9)} // from the back: frames finds valid records only
	}, "2 records are lost", true},
	{"bit in the very last record", func(l *laid) []uint64 {
		n := len(l.frames(l.last())) - 1
		return []uint64{l.flip(l.last(), n, frameHead+12)}
	}, "damaged at byte", true},
	{"bit in a record of the last segment", func(l *laid) []uint64 { return []uint64{l.flip(l.last(), 0, frameHead+12)} }, "damaged at byte", true},
	{"bit in a segment's header", func(l *laid) []uint64 {
		l.change(l.files[1], func(b []byte) []byte { b[22] ^= 1; return b })
		return nil
	}, "the header is damaged", true},
	{"bit in the last segment's header", func(l *laid) []uint64 {
		l.change(l.last(), func(b []byte) []byte { b[3] ^= 1; return b })
		return nil
	}, "the header is damaged", true},
	{"bit in the version", func(l *laid) []uint64 {
		l.change(l.files[1], func(b []byte) []byte { b[8] ^= 2; return b })
		return nil
	}, "the header is damaged", true},
	{"later version", func(l *laid) []uint64 {
		p := l.positionsOf(l.files[1])
		l.change(l.files[1], func(b []byte) []byte {
			b[8] = version + 1
			return resealHeader(b)
		})
		return p
	}, fmt.Sprintf("it has version %d of the format", version+1), true},
	{"cut in the middle of a segment", func(l *laid) []uint64 {
		f := l.frames(l.files[1])
		l.change(l.files[1], func(b []byte) []byte { return b[:f[4].offset+9] })
		return l.positionsFrom(f, 4)
	}, "damaged at byte", true},
	{"cut between two records of a segment", func(l *laid) []uint64 {
		f := l.frames(l.files[1])
		l.change(l.files[1], func(b []byte) []byte { return b[:f[4].offset] })
		return l.positionsFrom(f, 4)
	}, "ends too early", false},
	{"page of zeros", func(l *laid) []uint64 {
		f := l.frames(l.files[1])
		l.change(l.files[1], func(b []byte) []byte { clear(b[f[3].offset+5 : f[8].offset+5]); return b })
		return l.positionsFrom(f[:9], 3)
	}, "damaged at byte", true},
	{"segment of zeros", func(l *laid) []uint64 {
		p := l.positionsOf(l.files[1])
		l.change(l.files[1], func(b []byte) []byte { clear(b); return b })
		return p
	}, "the header is damaged", true},
	{"last segment of zeros", func(l *laid) []uint64 {
		p := l.positionsOf(l.last())
		l.change(l.last(), func(b []byte) []byte { clear(b); return b })
		return p
	}, "the header is damaged", true},
	{"last segment of zeros behind its header", func(l *laid) []uint64 {
		f := l.frames(l.last())
		l.change(l.last(), func(b []byte) []byte { clear(b[f[0].offset:]); return b })
		return l.positionsFrom(f, 0)
	}, "damaged at byte", true},
	{"missing segment", func(l *laid) []uint64 {
		p := l.positionsOf(l.files[2])
		l.remove(l.files[2])
		return p
	}, "missing", false},
	{"missing first segment", func(l *laid) []uint64 {
		p := l.positionsOf(l.files[0])
		l.remove(l.files[0])
		return p[1:] // the first is settled
	}, "missing", false},
	{"missing last segment", func(l *laid) []uint64 {
		p := l.positionsOf(l.last())
		l.remove(l.last())
		return p
	}, "ends too early", false},
	{"no segment left", func(l *laid) []uint64 {
		for _, f := range l.files {
			l.remove(f)
		}
		return positions(2, laidRecords+1)
	}, "the records from 2 to 100 are missing", false},
	{"empty segment", func(l *laid) []uint64 {
		p := l.positionsOf(l.files[2])
		l.write(l.files[2], nil)
		return p
	}, "is empty", false},
	{"empty last segment, as a killed process leaves it", func(l *laid) []uint64 {
		l.write(filepath.Join(filepath.Dir(l.last()), segmentName(laidRecords+1)), nil)
		return nil
	}, "is empty", false},
	{"half a header, as a killed process leaves it", func(l *laid) []uint64 {
		l.write(filepath.Join(filepath.Dir(l.last()), segmentName(laidRecords+1)), l.read(l.last())[:20])
		return nil
	}, "the header is not complete", true},
	{"header and half a record, as a killed process leaves it", func(l *laid) []uint64 {
		h := header{kind: kindTopic, first: laidRecords + 1, connection: connection, topic: "calls"}
		l.write(filepath.Join(filepath.Dir(l.last()), segmentName(laidRecords+1)), append(h.append(nil), l.read(l.last())[100:115]...))
		return nil
	}, "the last 15 bytes", false},
	{"copied segment", func(l *laid) []uint64 {
		l.write(filepath.Join(filepath.Dir(l.last()), segmentName(laidRecords+50)), l.read(l.files[1]))
		return nil
	}, "is a copy of", true},
	{"renamed segment", func(l *laid) []uint64 {
		if err := os.Rename(l.files[1], filepath.Join(filepath.Dir(l.last()), segmentName(5000))); err != nil {
			l.t.Fatal(err)
		}
		return nil
	}, "was renamed", false},
	{"segment of another topic", func(l *laid) []uint64 {
		h := header{kind: kindTopic, first: 500, connection: connection, topic: "other"}
		l.write(filepath.Join(filepath.Dir(l.last()), segmentName(500)), h.append(nil))
		return nil
	}, `topic "other"`, true},
	{"segment written twice over", func(l *laid) []uint64 {
		l.change(l.files[1], func(b []byte) []byte { return append(b, b...) })
		return nil
	}, "damaged at byte", true},
	{"rubbish between two records", func(l *laid) []uint64 {
		f := l.frames(l.files[1])[5]
		l.change(l.files[1], func(b []byte) []byte { return slices.Insert(b, int(f.offset), bytes.Repeat(marker, 300)...) })
		return nil
	}, "damaged at byte", true},
	{"record whose fields make no sense", func(l *laid) []uint64 {
		f := l.frames(l.files[1])[5]
		l.change(l.files[1], func(b []byte) []byte {
			frame := b[f.offset:][:f.size()]
			binary.LittleEndian.PutUint16(frame[frameHead+17:], 0xffff)
			sealFrame(frame, f.position)
			return b
		})
		return []uint64{f.position}
	}, "fields do not fit", true},
	{"foreign files", func(l *laid) []uint64 {
		topic := filepath.Dir(l.last())
		l.write(filepath.Join(topic, "core"), []byte("x"))
		l.write(filepath.Join(topic, "1.seg"), []byte("x"))
		l.write(filepath.Join(topic, "0000000000000000001.seg"), []byte("x"))
		l.write(filepath.Join(l.dir, topicsName, "notes.txt"), []byte("x"))
		l.write(filepath.Join(l.dir, "README"), []byte("x"))
		if err := os.MkdirAll(filepath.Join(topic, "folder", "deep"), 0o700); err != nil {
			l.t.Fatal(err)
		}
		return nil
	}, "does not belong there", false},
	{"one cell damaged", func(l *laid) []uint64 {
		l.change(filepath.Join(filepath.Dir(l.last()), settledName), func(b []byte) []byte {
			return append(bytes.Repeat([]byte{7}, cellSize), b[cellSize:]...)
		})
		return nil
	}, "", false},
}

// positions returns the numbers from from up to to, exclusive.
func positions(from, to uint64) []uint64 {
	var p []uint64
	for ; from < to; from++ {
		p = append(p, from)
	}
	return p
}

func (l *laid) positionsFrom(frames []frame, n int) []uint64 {
	var p []uint64
	for _, f := range frames[n:] {
		p = append(p, f.position)
	}
	return p
}

func (l *laid) remove(file string) {
	if err := os.Remove(file); err != nil {
		l.t.Fatal(err)
	}
}

// After any event, undamaged records are read, lost records are counted, and the spool continues.
func TestCorruption(t *testing.T) {
	for _, c := range corruptions {
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			l := lay(t)
			lost := c.corrupt(l)
			if told := damagesOf(t, l.dir); (len(lost) > 0) != (countLost(told) > 0) || len(lost) != countLost(told) {
				t.Errorf("lost %v, the verifier says %v", lost, told)
			}
			var log lines
			s := open(t, l.dir, Options{Log: &log, SegmentBytes: 5 << 10})
			var want []*record.Record
			for p := uint64(2); p <= laidRecords; p++ {
				if !slices.Contains(lost, p) {
					want = append(want, numbered("calls", int(p)-1))
				}
			}
			for range 2 { // a loss counts once
				var got []*record.Record
				if next := logNext(s, "calls"); next != 0 {
					got, _, _ = readAll(t, s, "calls", 2)
				}
				wantRecords(t, got, want)
				if d := s.Usage().Damaged; d != uint64(len(lost)) {
					t.Errorf("%d records are counted as damaged, %d are", d, len(lost))
				}
			}
			if c.told != "" && log.count(c.told) == 0 || c.told == "" && log.count("") > 0 {
				t.Errorf("want a line with %q, have\n%s", c.told, &log)
			}
			if n := log.count(""); n > 8 {
				t.Errorf("%d lines", n)
			}
			wantUsage(t, s, l.dir)
			goOn(t, s, l, c.aside)
		})
	}
}

func countLost(damages []Damage) int {
	n := 0
	for _, d := range damages {
		n += int(d.Records)
	}
	return n
}

// goOn appends to a damaged spool, settles everything and opens the spool again.
func goOn(t *testing.T, s *Spool, l *laid, aside bool) {
	t.Helper()
	more := batchOf("calls", 1000, 1040)
	first := appendAll(t, s, more...)
	if first != laidRecords+1 {
		t.Errorf("goes on at %d", first)
	}
	got, _, lost := readAll(t, s, "calls", first)
	wantRecords(t, got, more)
	if lost > 0 {
		t.Errorf("of the new ones %d are lost", lost)
	}
	if err := s.Settle("calls", first+20); err != nil {
		t.Fatal(err)
	}
	closeSpool(t, s)
	if kept := filesBelow(t, filepath.Join(l.dir, damagedName)); (len(kept) > 0) != aside {
		t.Errorf("set aside: %v", kept)
	}
	var log lines
	s = open(t, l.dir, Options{Log: &log})
	got, _, lost = readAll(t, s, "calls", first+20)
	wantRecords(t, got, more[20:])
	if lost > 0 || log.count("damaged") > 0 || log.count("missing") > 0 {
		t.Errorf("opened again: %d lost\n%s", lost, &log)
	}
	if n := s.Usage().SetAside; (n > 0) != aside {
		t.Errorf("%d set aside", n)
	}
	wantUsage(t, s, l.dir)
}

// resealHeader puts the checksum of a segment's header right.
func resealHeader(b []byte) []byte {
	size := binary.LittleEndian.Uint32(b[12:])
	binary.LittleEndian.PutUint32(b[size-4:], checksum(b[:size-4]))
	return b
}

// Both cells lost: records come again instead of being lost, with a log line.
func TestNothingSaysWhatIsSettled(t *testing.T) {
	l := lay(t)
	l.write(filepath.Join(filepath.Dir(l.last()), settledName), []byte("neither of the two"))
	if told := damagesOf(t, l.dir); len(told) != 1 {
		t.Errorf("the verifier says %v", told)
	}
	var log lines
	s := open(t, l.dir, Options{Log: &log})
	got, _, _ := readAll(t, s, "calls", 1)
	wantRecords(t, got, batchOf("calls", 0, laidRecords))
	if log.count("may be sent again") != 1 {
		t.Errorf("log: %s", &log)
	}
	if err := s.Settle("calls", 50); err != nil {
		t.Fatal(err)
	}
}

// The end of a log without any settled record: the loss of accepted records is counted and logged, after an
// orderly end or a kill. Bytes behind the accepted records are the rest of an interrupted write.
func TestEndOfALogThatNothingWasSettledOf(t *testing.T) {
	for name, killed := range map[string]bool{"closed": false, "killed": true} {
		t.Run(name, func(t *testing.T) {
			dir := newDir(t)
			s := open(t, dir, Options{})
			appendAll(t, s, batchOf("calls", 0, 10)...)
			if killed {
				wait(t, "the file that says how far the log reaches", func() bool {
					b, err := os.ReadFile(filepath.Join(dir, topicsName, "calls", settledName))
					c, ok := parseCells(b)
					return err == nil && ok && c.next == 11
				})
				copied := newDir(t)
				if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
					t.Fatal(err)
				}
				dir = copied
			}
			closeSpool(t, s)
			l := &laid{t: t, dir: dir, files: segments(t, dir, "calls")}
			frames := l.frames(l.last())
			l.change(l.last(), func(b []byte) []byte { return b[:frames[8].offset+30] })

			var log lines
			s = open(t, dir, Options{Log: &log})
			got, _, lost := readAll(t, s, "calls", 1)
			wantRecords(t, got, batchOf("calls", 0, 8))
			if lost != 2 || s.Usage().Damaged != 2 {
				t.Errorf("%d are passed, %d are counted", lost, s.Usage().Damaged)
			}
			if told := fmt.Sprintf("%s is damaged at byte %d, for 30 bytes: 2 records are lost", filepath.Base(l.last()), frames[8].offset); log.count(told) != 1 {
				t.Errorf("want a line with %q, have\n%s", told, &log)
			}
			if err := s.Settle("calls", 11); err != nil {
				t.Fatal(err)
			}

			appendAll(t, s, batchOf("calls", 10, 20)...)
			closeSpool(t, s)
			l.files = segments(t, dir, "calls")
			half := l.read(l.last())
			l.change(l.last(), func(b []byte) []byte { return append(b, half[len(half)-100:]...) })
			log = lines{}
			s = open(t, dir, Options{Log: &log})
			got, _, lost = readAll(t, s, "calls", 11)
			wantRecords(t, got, batchOf("calls", 10, 20))
			if lost != 0 || s.Usage().Damaged != 0 || log.count("a write that was interrupted") != 1 {
				t.Errorf("of what was not accepted %d are passed, %d are counted\n%s", lost, s.Usage().Damaged, &log)
			}
			if err := s.Settle("calls", 21); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// Bytes in the form of records inside a damaged record are not taken for records.
func TestRecordsInsideOfADamagedRecord(t *testing.T) {
	dir := newDir(t)
	s := open(t, dir, Options{})
	forged := numbered("calls", 1)
	var inside []byte
	for p := uint64(2); p < 5; p++ {
		start := len(inside)
		inside = append(inside, make([]byte, frameHead)...)
		inside = appendRecord(inside, numbered("forged", int(p)), 0)
		sealFrame(inside[start:], p)
	}
	forged.Value = inside
	appendAll(t, s, forged)
	want := batchOf("calls", 1, 10)
	appendAll(t, s, want...)
	closeSpool(t, s)
	l := &laid{t: t, dir: dir, files: segments(t, dir, "calls")}
	l.change(l.last(), func(b []byte) []byte { b[100] ^= 1; return b })
	s = open(t, dir, Options{})
	got, _, lost := readAll(t, s, "calls", 1)
	wantRecords(t, got, want)
	if lost != 1 {
		t.Errorf("%d lost", lost)
	}
	if err := s.Settle("calls", 11); err != nil {
		t.Fatal(err)
	}
}

// Damage in the dead letters costs the damaged letters only.
func TestDamagedDeadLetters(t *testing.T) {
	dir := newDir(t)
	s := open(t, dir, Options{})
	for n := range 20 {
		if _, err := s.Bury([]record.DeadLetter{{Record: numbered("calls", n), Reason: "expired"}}); err != nil {
			t.Fatal(err)
		}
	}
	closeSpool(t, s)
	l := &laid{t: t, dir: dir}
	l.flip(filepath.Join(dir, deadName, segmentName(1)), 7, 40)
	s = open(t, dir, Options{})
	letters, _, forget, err := s.Exhume(100)
	for err == nil && len(letters) < 19 {
		more, _, f, e := s.Exhume(100)
		if forget, err = f, e; len(more) <= len(letters) {
			break
		}
		letters = more
	}
	if err != nil || len(letters) != 19 || s.Usage().Damaged != 1 {
		t.Fatalf("%d letters, %d damaged, %v", len(letters), s.Usage().Damaged, err)
	}
	if err := forget(); err != nil {
		t.Fatal(err)
	}
	wait(t, "the damaged file is set aside", func() bool { return s.Usage().SetAside == 1 })
}

// Files set aside have a limit too, except files of a later version.
func TestWhatIsSetAsideIsBounded(t *testing.T) {
	dir := newDir(t)
	const limit = 256 << 10
	s := open(t, dir, Options{Limits: Limits{MaxBytes: limit}})
	h := header{kind: kindTopic, first: 1 << 40, connection: connection, topic: "calls"}
	later := h.append(nil)
	later[8]++
	for n := 0; n < 3000; n += 100 {
		first := appendAll(t, s, batchOf("calls", n, n+100)...)
		s.mtx.Lock() // segments settled in an earlier turn are removed by a timer
		for _, file := range segments(t, dir, "calls") {
			l := &laid{t: t, dir: dir}
			l.change(file, func(b []byte) []byte { clear(b[100:110]); return b })
		}
		s.mtx.Unlock()
		if n == 1000 {
			closeSpool(t, s)
			(&laid{t: t}).write(filepath.Join(dir, topicsName, "calls", segmentName(1<<40)), resealHeader(later))
			s = open(t, dir, Options{Limits: Limits{MaxBytes: limit}})
		}
		readAll(t, s, "calls", first)
		if err := s.Settle("calls", first+100); err != nil {
			t.Fatal(err)
		}
	}
	closeSpool(t, s)
	bytes, kept := int64(0), false
	v, err := OpenView(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range v.SetAside() {
		bytes += a.Bytes
		kept = kept || strings.HasSuffix(a.Name, laterEnd)
	}
	if bytes > limit/partOfLimit || bytes == 0 || !kept {
		t.Errorf("%d bytes are set aside; the later version's file is there: %v", bytes, kept)
	}
}
