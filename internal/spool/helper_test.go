package spool

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"reskafka/internal/host"
	"reskafka/internal/record"
)

const connection = "eu-west"

// newDir returns a directory for the spool of connection.
func newDir(t *testing.T) string { return Dir(t.TempDir(), connection) }

// lines is a host.Logger that stores its lines.
type lines struct {
	mtx  sync.Mutex
	text []string
}

func (l *lines) Log(_ host.Level, _ string, _ int, _, text string) {
	l.mtx.Lock()
	defer l.mtx.Unlock()
	l.text = append(l.text, text)
}

// count returns the number of lines that contain part.
func (l *lines) count(part string) int {
	l.mtx.Lock()
	defer l.mtx.Unlock()
	n := 0
	for _, line := range l.text {
		if strings.Contains(line, part) {
			n++
		}
	}
	return n
}

func (l *lines) String() string {
	l.mtx.Lock()
	defer l.mtx.Unlock()
	return strings.Join(l.text, "\n")
}

// open opens a spool of the connection named by dir, or of "eu-west". The test's end closes and verifies the
// spool.
func open(t *testing.T, dir string, o Options) *Spool {
	t.Helper()
	if o.Connection == "" {
		o.Connection = connection
	}
	s, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if !t.Failed() {
			verify(t, dir)
		}
	})
	return s
}

func closeSpool(t *testing.T, s *Spool) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// numbered returns the nth record of a topic. Records differ in nil and empty parts.
func numbered(topic string, n int) *record.Record {
	r := &record.Record{Topic: topic, Accepted: time.Unix(1_700_000_000, int64(n))}
	r.Value = fmt.Appendf(nil, "%s %d %s", topic, n, strings.Repeat("v", n*37%300))
	switch n % 4 {
	case 0:
		r.Key = fmt.Appendf(nil, "key %d", n)
		r.Headers = []record.Header{{Name: "linkedid", Value: []byte("1.2")}, {Name: "null"}, {Name: "empty", Value: []byte{}}}
	case 1:
		r.Key = []byte{}
	case 2:
		r.Headers = []record.Header{{Name: "", Value: []byte("no name")}}
	}
	return r
}

func batchOf(topic string, from, to int) []*record.Record {
	var records []*record.Record
	for n := from; n < to; n++ {
		records = append(records, numbered(topic, n))
	}
	return records
}

func appendAll(t *testing.T, s *Spool, records ...*record.Record) uint64 {
	t.Helper()
	first, err := s.Append(records[0].Topic, records)
	if err != nil {
		t.Fatal(err)
	}
	return first
}

// readAll reads a log from a position on, in pieces, and says how many records are lost.
func readAll(t *testing.T, s *Spool, topic string, from uint64) (records []*record.Record, positions []uint64, lost uint64) {
	t.Helper()
	next := logNext(s, topic)
	for from < next {
		r, p, n, err := s.Read(topic, from, 7, 700)
		if err != nil {
			t.Fatal(err)
		}
		if n <= from {
			t.Fatalf("reading from %d gave next = %d", from, n)
		}
		lost += n - from - uint64(len(r))
		records, positions, from = append(records, r...), append(positions, p...), n
	}
	return records, positions, lost
}

func logNext(s *Spool, topic string) uint64 {
	for _, l := range s.Logs() {
		if l.Topic == topic {
			return l.Next
		}
	}
	return 0
}

func sameRecord(a, b *record.Record) bool {
	return a.Topic == b.Topic && reflect.DeepEqual(a.Key, b.Key) && reflect.DeepEqual(a.Value, b.Value) &&
		reflect.DeepEqual(a.Headers, b.Headers) && a.Accepted.Equal(b.Accepted)
}

func wantRecords(t *testing.T, got []*record.Record, want []*record.Record) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d records, want %d", len(got), len(want))
	}
	for i := range got {
		if !sameRecord(got[i], want[i]) {
			t.Fatalf("record %d is %+v, want %+v", i, got[i], want[i])
		}
	}
}

// segments returns the files of a topic's segments, in order.
func segments(t *testing.T, dir, topic string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, topicsName, element(topic), "*"+segmentEnd))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

var ours = regexp.MustCompile(`^(settled|[0-9]{20}\.seg.*)$`)

// onDisk returns the size of a spool's files, without the lock and foreign files.
func onDisk(t *testing.T, dir string) int64 {
	t.Helper()
	bytes := int64(0)
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().IsRegular() && ours.MatchString(info.Name()) {
			bytes += info.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return bytes
}

func wantUsage(t *testing.T, s *Spool, dir string) {
	t.Helper()
	if got, want := s.Usage().Bytes, onDisk(t, dir); got != want {
		t.Errorf("Usage says %d bytes, there are %d on the disk", got, want)
	}
}

// verify checks a closed spool for damage.
func verify(t *testing.T, dir string) {
	t.Helper()
	if wrong := damagesOf(t, dir); len(wrong) > 0 {
		t.Errorf("the verifier finds %v", wrong)
	}
}

// damagesOf returns the verifier's findings, except harmless ones.
func damagesOf(t *testing.T, dir string) []Damage {
	t.Helper()
	v, err := OpenView(dir)
	if err != nil {
		t.Fatal(err)
	}
	damages, _, err := v.Verify()
	if err != nil {
		t.Fatal(err)
	}
	var wrong []Damage
	for _, d := range damages {
		if !d.Harmless {
			wrong = append(wrong, d)
		}
	}
	return wrong
}

// filesBelow returns the files below a directory, which need not exist.
func filesBelow(t *testing.T, dir string) (files []string) {
	t.Helper()
	_ = filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			files = append(files, path)
		}
		return nil
	})
	return files
}
