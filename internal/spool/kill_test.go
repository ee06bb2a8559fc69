package spool

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// helperDir, in the environment, makes the test's program the process to kill.
const helperDir = "RESKAFKA_TEST_SPOOL_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(helperDir); dir != "" {
		if err := untilKilled(dir); err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// untilKilled appends and settles forever, and prints its progress.
func untilKilled(dir string) error {
	s, err := Open(dir, Options{Connection: connection, SegmentBytes: 32 << 10})
	if err != nil {
		return err
	}
	for n := 0; ; n++ {
		batch := batchOf("calls", n, n+1+n%7)
		first, err := s.Append("calls", batch)
		if err != nil {
			return err
		}
		fmt.Println("accepted", first, n, n+1+n%7)
		if n%3 == 0 {
			if err := s.Settle("calls", first-min(first-1, 100)); err != nil {
				return err
			}
		}
	}
}

// A process is killed during its work, several times on the same directory: every accepted record is there,
// in its place.
func TestKill9(t *testing.T) {
	dir := newDir(t)
	wanted := map[uint64]int{} // the record at each position
	next := uint64(1)
	for round := range 4 {
		accepted := killAfter(t, dir, 200+150*round)
		for _, a := range accepted {
			if a.first < next {
				t.Fatalf("position %d was given again", a.first)
			}
			for n := a.from; n < a.to; n++ {
				wanted[a.first+uint64(n-a.from)] = n
			}
			next = a.first + uint64(a.to-a.from)
		}
		s := open(t, dir, Options{SegmentBytes: 32 << 10})
		logs := s.Logs()
		if len(logs) != 1 || logs[0].Next < next || logs[0].First+100 > next {
			t.Fatalf("logs %v, next is %d", logs, next)
		}
		next = logs[0].Next
		records, positions, lost := readAll(t, s, "calls", logs[0].First)
		if lost > 0 || s.Usage().Damaged > 0 {
			t.Errorf("%d records are lost", lost)
		}
		for i, p := range positions {
			if n, known := wanted[p]; known && !sameRecord(records[i], numbered("calls", n)) {
				t.Errorf("another record stands at %d", p)
			}
		}
		closeSpool(t, s)
	}
}

type accepted struct {
	first    uint64
	from, to int
}

// killAfter runs the helper until it has printed count lines, kills the process, and returns everything
// printed.
func killAfter(t *testing.T, dir string, count int) []accepted {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), helperDir+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var all []accepted
	for lines := bufio.NewScanner(out); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) != 4 || fields[0] != "accepted" {
			if len(all) < count {
				t.Errorf("the helper says %q", lines.Text())
			}
			continue // the last line is not whole
		}
		first, _ := strconv.ParseUint(fields[1], 10, 64)
		from, _ := strconv.Atoi(fields[2])
		to, err := strconv.Atoi(fields[3])
		if err == nil && to > from {
			all = append(all, accepted{first, from, to})
		}
		if len(all) == count {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = cmd.Wait()
	if len(all) < count {
		t.Fatalf("the helper ended after %d lines", len(all))
	}
	return all
}
