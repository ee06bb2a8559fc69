package spool

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"reskafka/internal/record"
)

// segmentBytesOf makes a segment of records as Append does.
func segmentBytesOf(first uint64, records ...*record.Record) []byte {
	h := header{kind: kindTopic, first: first, connection: connection, topic: "calls"}
	b := h.append(nil)
	for i, r := range records {
		start := len(b)
		b = appendRecord(append(b, make([]byte, frameHead)...), r, 0)
		sealFrame(b[start:], first+uint64(i))
	}
	return b
}

func addSeeds(f *testing.F, add func([]byte)) {
	var small []*record.Record // small input is fuzzed faster
	for n := range 6 {
		r := numbered("calls", n)
		r.Value = r.Value[:n]
		small = append(small, r)
	}
	whole := segmentBytesOf(1, small...)
	add(whole)
	add(nil)
	add(whole[:50])
	add(whole[:len(whole)-5])
	for _, at := range []int{2, 9, 13, 30, 60, 64, 68, 73, 80, 200} {
		b := slices.Clone(whole)
		b[at] ^= 4
		add(b)
	}
	add(append(slices.Clone(whole), whole...))
	add(slices.Concat(whole, make([]byte, 50)))
	add(bytes.Repeat(marker, 50))
	add(segmentBytesOf(maxPosition-1, numbered("calls", 1), numbered("calls", 2)))
	huge := slices.Clone(whole)
	binary.LittleEndian.PutUint32(huge[68:], 0xffffffff)
	add(huge)
}

// For any bytes the scanner returns records with valid checksums, in the order of positions. Records and
// skipped parts together are the whole file. The decoding of records never panics.
func FuzzScanner(f *testing.F) {
	addSeeds(f, func(b []byte) { f.Add(b, uint16(0)) })
	f.Fuzz(func(t *testing.T, b []byte, window uint16) {
		h, size, err := parseHeader(b)
		if err == nil && (size > len(b) || !bytes.Equal(h.append(nil), b[:size])) {
			t.Errorf("header %+v is not what its %d bytes are", h, size)
		}
		parseCells(b)
		var s scanner
		s.window = int(window)
		s.begin(bytes.NewReader(b), int64(len(b)), 0, 1, maxPosition)
		at, low := int64(0), uint64(1)
		s.skipped = func(off, n int64) {
			if off != at || n <= 0 {
				t.Fatalf("skips %d bytes at %d, stands at %d", n, off, at)
			}
			at += n
		}
		for {
			r, ok := s.next()
			if !ok {
				break
			}
			if r.offset != at || r.position < low || r.position >= maxPosition {
				t.Fatalf("position %d at %d, want %d at %d", r.position, r.offset, low, at)
			}
			at, low = at+r.size(), r.position+1
			if record, err := parseRecord("calls", r.body); err == nil && recordSize(record) > int64(len(r.body)) {
				t.Errorf("a record of %d bytes was made of %d", recordSize(record), len(r.body))
			}
			if letter, err := parseLetter(r.body); err == nil && letterSize(&letter) > int64(len(r.body)) {
				t.Errorf("a letter of %d bytes was made of %d", letterSize(&letter), len(r.body))
			}
		}
		if at != int64(len(b)) {
			t.Errorf("stopped at %d of %d", at, len(b))
		}
	})
}

// With any content of a log's files, a spool opens, counts unreadable parts, and stores and returns records.
func FuzzOpen(f *testing.F) {
	cells := cell{1, 3, 9}.append(make([]byte, cellApart))
	addSeeds(f, func(b []byte) { f.Add(b, segmentBytesOf(9, numbered("calls", 8)), cells) })
	f.Add([]byte{}, []byte{}, []byte{})
	f.Fuzz(func(t *testing.T, first, second, settled []byte) {
		dir := newDir(t)
		topic := filepath.Join(dir, topicsName, "calls")
		if err := os.MkdirAll(topic, 0o700); err != nil {
			t.Fatal(err)
		}
		for name, b := range map[string][]byte{segmentName(1): first, segmentName(9): second, settledName: settled} {
			if err := os.WriteFile(filepath.Join(topic, name), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		s, err := Open(dir, Options{Connection: connection, Limits: Limits{Sync: SyncNone}})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = s.Close() }()
		for _, l := range s.Logs() {
			if l.Topic != "calls" || l.Next < l.First {
				t.Fatalf("log %v", l)
			}
			_, _, lost := readAll(t, s, l.Topic, l.First)
			if d := s.Usage().Damaged; d != lost {
				t.Errorf("%d are counted as damaged, %d are lost", d, lost)
			}
		}
		want := batchOf("calls", 100, 103)
		at, err := s.Append("calls", want)
		if errors.Is(err, errPositions) {
			return // only a purpose-made segment gets there
		}
		if err != nil {
			t.Fatal(err)
		}
		got, _, lost := readAll(t, s, "calls", at)
		wantRecords(t, got, want)
		if lost != 0 {
			t.Errorf("%d of the new ones are lost", lost)
		}
		closeSpool(t, s)
		s2, err := Open(dir, Options{Connection: connection, Limits: Limits{Sync: SyncNone}})
		if err != nil {
			t.Fatal(err)
		}
		got, _, _ = readAll(t, s2, "calls", at)
		wantRecords(t, got, want)
		closeSpool(t, s2)
	})
}
