package spool

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"reskafka/internal/record"
)

func TestWhatIsAppendedIsRead(t *testing.T) {
	dir := Dir(filepath.Join(t.TempDir(), "below"), connection)
	began := time.Now()
	s := open(t, dir, Options{SegmentBytes: 8 << 10})
	var want []*record.Record
	for n := 0; n < 300; n += 10 {
		b := batchOf("calls", n, n+10)
		if first := appendAll(t, s, b...); first != uint64(n)+1 {
			t.Fatalf("the batch stands at %d, want %d", first, n+1)
		}
		want = append(want, b...)
	}
	for range 2 { // before and after closing
		got, positions, lost := readAll(t, s, "calls", 1)
		wantRecords(t, got, want)
		if lost > 0 || positions[0] != 1 || positions[299] != 300 {
			t.Errorf("lost %d, positions %v", lost, positions)
		}
		if n := len(segments(t, dir, "calls")); n < 5 {
			t.Errorf("%d segments", n)
		}
		wantUsage(t, s, dir)
		if u := s.Usage(); len(u.Logs) != 1 || u.Logs[0].Oldest.Before(began) || u.Logs[0].Oldest.After(time.Now()) || u.Damaged != 0 {
			t.Errorf("usage %+v", u)
		}
		closeSpool(t, s)
		s = open(t, dir, Options{})
	}
}

func TestReadFromTheMiddle(t *testing.T) {
	s := open(t, newDir(t), Options{SegmentBytes: 16 << 10})
	want := batchOf("calls", 0, 500)
	appendAll(t, s, want...)
	for _, from := range []uint64{500, 1, 77, 250, 251, 3, 499} {
		r, p, next, err := s.Read("calls", from, 1, 0)
		if err != nil || len(r) != 1 || p[0] != from || next != from+1 || !sameRecord(r[0], want[from-1]) {
			t.Errorf("from %d: %v, positions %v, next %d, %v", from, r, p, next, err)
		}
	}
	if r, _, next, err := s.Read("calls", 501, 10, 1000); len(r) != 0 || next != 501 || err != nil {
		t.Errorf("at the end: %d records, next %d, %v", len(r), next, err)
	}
	if r, _, next, err := s.Read("unknown", 1, 10, 1000); len(r) != 0 || next != 1 || err != nil {
		t.Errorf("unknown topic: %d records, next %d, %v", len(r), next, err)
	}
	r, _, next, err := s.Read("calls", 1, 1000, 1000)
	weights := 0
	for _, r := range r {
		weights += r.Weight()
	}
	if err != nil || weights > 1000 || next != uint64(len(r))+1 || len(r) < 3 {
		t.Errorf("%d records of %d bytes, next %d, %v", len(r), weights, next, err)
	}
}

func TestSettledRecordsDoNotComeAgain(t *testing.T) {
	dir := newDir(t)
	s := open(t, dir, Options{SegmentBytes: 8 << 10})
	appendAll(t, s, batchOf("calls", 0, 300)...)
	before := len(segments(t, dir, "calls"))
	if err := s.Settle("calls", 200); err != nil {
		t.Fatal(err)
	}
	closeSpool(t, s)
	if after := len(segments(t, dir, "calls")); after >= before || after == 0 {
		t.Errorf("%d segments, there were %d", after, before)
	}
	s = open(t, dir, Options{})
	if logs := s.Logs(); len(logs) != 1 || logs[0] != (Log{Topic: "calls", First: 200, Next: 301}) {
		t.Fatalf("logs %v", logs)
	}
	got, _, lost := readAll(t, s, "calls", 200)
	wantRecords(t, got, batchOf("calls", 199, 300))
	if lost != 0 {
		t.Errorf("lost %d", lost)
	}
	wantUsage(t, s, dir)
}

func TestPositionsGoOnWhenAllIsSettled(t *testing.T) {
	dir := newDir(t)
	for round := range uint64(3) {
		s := open(t, dir, Options{})
		if logs := s.Logs(); len(logs) != 0 {
			t.Errorf("logs %v", logs)
		}
		if first := appendAll(t, s, batchOf("calls", 0, 10)...); first != 10*round+1 {
			t.Errorf("round %d begins at %d", round, first)
		}
		if err := s.Settle("calls", 10*round+11); err != nil {
			t.Fatal(err)
		}
		closeSpool(t, s)
		if left := segments(t, dir, "calls"); len(left) > 0 {
			t.Errorf("left %v", left)
		}
	}
}

// Settlements are written without a further call, and their space is freed, also without other activity.
func TestSettlingNeedsNoFurtherCall(t *testing.T) {
	dir := newDir(t)
	s := open(t, dir, Options{SegmentBytes: 8 << 10})
	appendAll(t, s, batchOf("calls", 0, 100)...)
	if err := s.Settle("calls", 101); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, topicsName, "calls", settledName)
	wait(t, "what is settled is written", func() bool {
		b, _ := os.ReadFile(path)
		c, ok := parseCells(b)
		return ok && c.settled == 101 && c.next == 101
	})
	wait(t, "the segments are gone", func() bool { return len(segments(t, dir, "calls")) == 0 })
	wait(t, "the count is right", func() bool { return s.Usage().Bytes == cellsBytes })
	s.mtx.Lock()
	defer s.mtx.Unlock()
	if s.tidy.timer != nil || s.cells.timer != nil {
		t.Error("a timer runs while there is nothing to do")
	}
}

func wait(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waiting until %s", what)
		}
	}
}

func TestASpoolIsUsedOnce(t *testing.T) {
	dir := newDir(t)
	s := open(t, dir, Options{})
	_, err := Open(dir, Options{Connection: connection})
	var locked *LockedError
	if !errors.As(err, &locked) || locked.PID != os.Getpid() || locked.Dir != dir {
		t.Errorf("opening again: %v", err)
	}
	if v, err := OpenView(dir); err != nil || !v.InUse || v.PID != os.Getpid() {
		t.Errorf("in use: %+v, %v", v, err)
	}
	closeSpool(t, s)
	if v, err := OpenView(dir); err != nil || v.InUse {
		t.Errorf("in use after Close: %+v, %v", v, err)
	}
	if _, err := s.Append("calls", batchOf("calls", 0, 1)); !errors.Is(err, errClosed) {
		t.Errorf("appending to a closed spool: %v", err)
	}
	closeSpool(t, open(t, dir, Options{}))
}

func TestFilesArePrivate(t *testing.T) {
	dir := newDir(t)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	s := open(t, dir, Options{})
	appendAll(t, s, batchOf("calls", 0, 3)...)
	if err := s.Settle("calls", 2); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Bury([]record.DeadLetter{{Record: numbered("calls", 1), Reason: "too large"}}); err != nil {
		t.Fatal(err)
	}
	closeSpool(t, s)
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		want := os.FileMode(0o600)
		if info.IsDir() {
			want = 0o700
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s has mode %o", path, info.Mode().Perm())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A link in the place of a file of ours leads nowhere.
func TestLinksAreNotFollowed(t *testing.T) {
	dir, target := newDir(t), filepath.Join(t.TempDir(), "target")
	if err := os.WriteFile(target, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	topic := filepath.Join(dir, topicsName, "calls")
	if err := os.MkdirAll(topic, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{segmentName(1), settledName} {
		if err := os.Symlink(target, filepath.Join(topic, name)); err != nil {
			t.Fatal(err)
		}
	}
	s := open(t, dir, Options{})
	appendAll(t, s, batchOf("calls", 0, 3)...)
	got, _, _ := readAll(t, s, "calls", 1)
	wantRecords(t, got, batchOf("calls", 0, 3))
	if err := s.Settle("calls", 2); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err == nil {
		t.Error("a link in the place of the settled file was written through")
	}
	if b, _ := os.ReadFile(target); string(b) != "precious" {
		t.Errorf("the link's target is %q", b)
	}
}

func TestAFullSpoolRefusesAndDropsTheOldest(t *testing.T) {
	dir := newDir(t)
	const limit = 256 << 10
	s := open(t, dir, Options{Limits: Limits{MaxBytes: limit}})
	appendAll(t, s, batchOf("other", 0, 10)...)
	n := 0
	var err error
	for ; err == nil; n += 50 {
		_, err = s.Append("calls", batchOf("calls", n, n+50))
	}
	n -= 50
	if !errors.Is(err, ErrFull) {
		t.Fatal(err)
	}
	if used := s.Usage().Bytes; used > limit || used < limit-20<<10 {
		t.Errorf("full with %d bytes of %d", used, limit)
	}
	topic, before, ok := s.DropOldest()
	if !ok || topic != "calls" || before < 10 || before > uint64(n)/2 {
		t.Fatalf("dropped %s up to %d of %d, %v", topic, before, n, ok)
	}
	wantUsage(t, s, dir)
	got, _, lost := readAll(t, s, "calls", before)
	wantRecords(t, got, batchOf("calls", int(before)-1, n))
	if lost != 0 || s.Usage().Damaged != 0 {
		t.Errorf("lost %d", lost)
	}
	if first := appendAll(t, s, batchOf("calls", n, n+50)...); first != uint64(n)+1 {
		t.Errorf("goes on at %d, want %d", first, n+1)
	}
	for range 1000 {
		if _, _, ok = s.DropOldest(); !ok {
			break
		}
	}
	if ok || len(s.Logs()) != 0 {
		t.Error("there is always something to drop")
	}
	s.Configure(Limits{MaxBytes: 1})
	if _, err := s.Append("calls", batchOf("calls", 0, 1)); !errors.Is(err, ErrFull) {
		t.Errorf("with a limit of one byte: %v", err)
	}
}

// A need for space frees settled records at once.
func TestRoomComesBackWhenItIsNeeded(t *testing.T) {
	s := open(t, newDir(t), Options{Limits: Limits{MaxBytes: 256 << 10}})
	for n := 0; n < 20_000; n += 100 {
		first := appendAll(t, s, batchOf("calls", n, n+100)...)
		if err := s.Settle("calls", first+100); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDeadLetters(t *testing.T) {
	dir := newDir(t)
	s := open(t, dir, Options{})
	at := time.Unix(1_700_000_100, 7)
	if letters, _, _, err := s.Exhume(10); len(letters) != 0 || err != nil {
		t.Errorf("at first: %v, %v", letters, err)
	}
	for n := range 10 {
		letter := record.DeadLetter{Record: numbered("calls", n), Reason: "too large", Cause: "MESSAGE_TOO_LARGE", At: at}
		if _, err := s.Bury([]record.DeadLetter{letter, letter}[:1+n%2]); err != nil {
			t.Fatal(err)
		}
	}
	closeSpool(t, s)
	s = open(t, dir, Options{})
	if dead := s.Usage().Dead; dead != 15 {
		t.Errorf("%d dead letters", dead)
	}
	letters, _, forget, err := s.Exhume(4)
	if err != nil || len(letters) != 4 {
		t.Fatal(letters, err)
	}
	for i, n := range []int{0, 1, 1, 2} {
		l := letters[i]
		if !sameRecord(l.Record, numbered("calls", n)) || l.Reason != "too large" || l.Cause != "MESSAGE_TOO_LARGE" || !l.At.Equal(at) {
			t.Errorf("letter %d is %+v", i, l)
		}
	}
	if again, _, _, _ := s.Exhume(1); len(again) != 1 || !sameRecord(again[0].Record, letters[0].Record) {
		t.Error("without forgetting, the oldest is not the same")
	}
	if err := forget(); err != nil {
		t.Fatal(err)
	}
	if next, _, _, _ := s.Exhume(1); len(next) != 1 || !sameRecord(next[0].Record, numbered("calls", 3)) {
		t.Error("what was forgotten comes again")
	}
	closeSpool(t, s)
	if dead := open(t, dir, Options{}).Usage().Dead; dead != 11 {
		t.Errorf("%d dead letters", dead)
	}
}

func TestDeadLettersAreBounded(t *testing.T) {
	const limit = 1 << 20
	s := open(t, newDir(t), Options{Limits: Limits{MaxBytes: limit}})
	for n := range 2000 {
		if _, err := s.Bury([]record.DeadLetter{{Record: numbered("calls", n), Reason: "expired", At: time.Now()}}); err != nil {
			t.Fatal(err)
		}
	}
	u := s.Usage()
	if u.Bytes > limit/partOfLimit+cellsBytes || u.Dead < 300 || u.Dead > 1000 {
		t.Errorf("%d dead letters in %d bytes", u.Dead, u.Bytes)
	}
	letters, _, _, err := s.Exhume(2000)
	if err != nil || uint64(len(letters)) != u.Dead || !sameRecord(letters[len(letters)-1].Record, numbered("calls", 1999)) {
		t.Errorf("%d letters, %v", len(letters), err)
	}
	if there := s.DeadLog(); there.Next != 2001 || there.Next-there.First != u.Dead || letters[0].Position != there.First {
		t.Errorf("positions %+v of %d dead letters, the first read at %d", there, u.Dead, letters[0].Position)
	}
	huge := numbered("calls", 1)
	huge.Value = make([]byte, limit)
	if _, err := s.Bury([]record.DeadLetter{{Record: huge}}); !errors.Is(err, ErrFull) {
		t.Errorf("burying what does not fit: %v", err)
	}
}

func TestManyTopicsNeedFewOpenFiles(t *testing.T) {
	dir := newDir(t)
	s := open(t, dir, Options{})
	topics := 3 * maxOpenFiles
	for round := range 2 {
		for i := range topics {
			topic := "topic-" + string(rune('a'+i%26)) + string(rune('a'+i/26))
			first := appendAll(t, s, numbered(topic, 2*round), numbered(topic, 2*round+1))
			if err := s.Settle(topic, first+1); err != nil {
				t.Fatal(err)
			}
		}
	}
	s.mtx.Lock()
	n := len(s.open.files)
	s.mtx.Unlock()
	if n > maxOpenFiles {
		t.Errorf("%d files are open", n)
	}
	closeSpool(t, s)
	s = open(t, dir, Options{})
	if logs := s.Logs(); len(logs) != topics || logs[0] != (Log{Topic: "topic-aa", First: 4, Next: 5}) {
		t.Errorf("%d logs, the first is %v", len(logs), logs[0])
	}
}

func TestNames(t *testing.T) {
	long := ""
	for range 300 {
		long += "é/"
	}
	for _, name := range []string{"a", "eu-west_1.x", ".", "..", ".hidden", "a/b", "../../etc", "über", "a b%", "%41", "%~", long[:160], "", "con\x00trol"} {
		dir := Dir("/spool", name)
		if filepath.Dir(dir) != "/spool" || len(filepath.Base(dir)) > 255 || filepath.Base(dir)[0] == '.' {
			t.Errorf("%q is kept in %q", name, dir)
		}
		if back, ok := Connection(dir); len(name) < 80 && (back != name || !ok) {
			t.Errorf("%q in %q comes back as %q", name, dir, back)
		}
	}
	if e := element(long); len(e) > 255 {
		t.Errorf("a long name makes %d bytes", len(e))
	}
	for _, foreign := range []string{"a b", "%4", "%zz", ".x", "%61"} {
		if name, ok := nameOf(foreign); ok {
			t.Errorf("%q is taken for the directory of %q", foreign, name)
		}
	}
}

// A topic with a name too long for a directory is found by the headers of its segments.
func TestTopicsWithLongNames(t *testing.T) {
	dir := newDir(t)
	topic := ""
	for range 200 {
		topic += "ü"
	}
	for round := range 3 {
		s := open(t, dir, Options{})
		if first := appendAll(t, s, numbered(topic, round)); first != uint64(round)+1 {
			t.Errorf("round %d stands at %d", round, first)
		}
		if round == 1 {
			if err := s.Settle(topic, 3); err != nil {
				t.Fatal(err)
			}
		} else if len(s.Logs()) != 1 {
			t.Errorf("logs %v", s.Logs())
		}
		closeSpool(t, s)
	}
}

func TestList(t *testing.T) {
	root := t.TempDir()
	if found, err := List(filepath.Join(root, "missing")); len(found) != 0 || err != nil {
		t.Errorf("nothing there: %v, %v", found, err)
	}
	for i, name := range []string{"a/b", "empty", "full", "only dead"} {
		s := open(t, Dir(root, name), Options{Connection: name})
		if i == 0 || i == 2 {
			appendAll(t, s, numbered("calls", 1))
		}
		if i == 3 {
			_, _ = s.Bury([]record.DeadLetter{{Record: numbered("calls", 1)}})
		}
		closeSpool(t, s)
	}
	if err := os.Mkdir(filepath.Join(root, "foreign"), 0o700); err != nil {
		t.Fatal(err)
	}
	found, err := List(root)
	if err != nil || len(found) != 4 {
		t.Fatalf("found %v, %v", found, err)
	}
	for _, f := range found {
		if f.Dir != Dir(root, f.Connection) || f.Records != (f.Connection == "a/b" || f.Connection == "full") || f.Dead != (f.Connection == "only dead") {
			t.Errorf("found %+v", f)
		}
	}
}
