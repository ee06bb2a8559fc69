package main

import (
	"io"
	"strconv"
	"strings"
	"time"
)

// tally is the state of a run.
type tally struct {
	out      io.Writer
	now      func() time.Time
	started  time.Time
	packages map[string]*goPackage

	passed, skipped int
	failures        []string
	parts           []part
	inPart          bool
}

// part is a part of the run, for the summary.
type part struct {
	name           string
	started        time.Time
	took           time.Duration
	failuresBefore int
}

func newTally(out io.Writer, now func() time.Time) *tally {
	return &tally{out: out, now: now, started: now(), packages: map[string]*goPackage{}}
}

// line handles a line and its time of arrival.
func (t *tally) line(line string, at time.Time) {
	text := strings.TrimRight(line, "\r\n")
	switch word, rest, _ := strings.Cut(text, " "); {
	case strings.HasPrefix(text, "# part "):
		t.beginPart(strings.TrimPrefix(text, "# part "), at)
	case strings.HasPrefix(text, "# end "):
		t.endPart(strings.TrimPrefix(text, "# end "), at)
	case strings.HasPrefix(text, "{") && t.goEvent(text):
	case strings.HasPrefix(text, "not ok "):
		t.printf("  FAIL  %s\n", strings.TrimPrefix(text, "not ok "))
		t.fail(strings.TrimPrefix(text, "not ok "))
	case word == "ok" && rest != "":
		t.passed++
		t.printf("  ok    %s\n", rest)
	case word == "skip" && rest != "":
		t.skipped++
		t.printf("  skip  %s\n", rest)
	default:
		t.printf("  %s\n", text)
	}
}

// fail counts a shown failure, for the list at the end.
func (t *tally) fail(name string) {
	if t.inPart {
		name = t.parts[len(t.parts)-1].name + ": " + name
	}
	t.failures = append(t.failures, name)
}

func (t *tally) beginPart(name string, at time.Time) {
	t.parts = append(t.parts, part{name: name, started: at, failuresBefore: len(t.failures)})
	t.inPart = true
	t.printf("== %s\n", name)
}

func (t *tally) endPart(text string, at time.Time) {
	if !t.inPart {
		return
	}
	p := &t.parts[len(t.parts)-1]
	p.took = at.Sub(p.started)
	status := text[strings.LastIndexByte(text, ' ')+1:]
	if status != "0" && len(t.failures) == p.failuresBefore {
		t.printf("  FAIL  ended with status %s\n", status)
		t.fail("ended with status " + status)
	}
	t.inPart = false
	t.printf("== %s took %s\n\n", p.name, seconds(p.took))
}

// endInput is told when an input has ended.
func (t *tally) endInput() {
	if t.inPart {
		t.fail("did not come to its end")
	}
	t.inPart = false
}

// close prints the summary and returns the exit status.
func (t *tally) close() int {
	for _, p := range t.parts {
		t.printf("%10s  %s\n", seconds(p.took), p.name)
	}
	t.printf("%10s  in all\n", seconds(t.now().Sub(t.started)))
	if len(t.failures) > 0 {
		t.printf("\nFailed:\n")
	}
	for _, failure := range t.failures {
		t.printf("  %s\n", failure)
	}
	if t.passed == 0 {
		t.printf("\nNothing passed.\n")
	}
	t.printf("\n%d passed, %d failed, %d skipped\n", t.passed, len(t.failures), t.skipped)
	if len(t.failures) > 0 || t.passed == 0 {
		return 1
	}
	return 0
}

func seconds(d time.Duration) string {
	return strconv.FormatFloat(d.Seconds(), 'f', 1, 64) + " s"
}
