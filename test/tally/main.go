// Command tally reads the output of the parts of `make test`, shows the lines on arrival, counts, and ends
// with a line:
//
//	N passed, N failed, N skipped
//
// The exit status is 1 after any failure, or without any passed test. scripts/test is the source of stdin.
// The input has lines
//
//	# part NAME            a part of the run begins
//	# end NAME STATUS      the part has ended; a status other than 0 without a failed test counts as a failure
//	ok NAME                a test passed
//	not ok NAME            a test failed
//	skip NAME: WHY         a test was skipped
//	{...}                  an event of `go test -json`
//
// and every other line is passed on. Arguments name further inputs, /dev/fd/N for a pipe: the output of
// parallel parts. Further inputs are read on arrival and shown after stdin, one after another; a part's
// duration is the time between the arrivals of the first and last line. A line beginning with "note: ",
// printed by a Go package outside of all tests, is shown after the package has passed. Go tests with subtests
// are not counted, only the subtests.
package main

import (
	"fmt"
	"io"
	"os"
	"time"
)

func main() {
	inputs := []io.Reader{os.Stdin}
	for _, path := range os.Args[1:] {
		file, err := os.Open(path)
		if err != nil {
			fmt.Fprintln(os.Stderr, "tally:", err)
			os.Exit(1)
		}
		inputs = append(inputs, file)
	}
	os.Exit(run(inputs, os.Stdout, time.Now))
}

// run tallies every input to its end and returns the process's exit status.
func run(inputs []io.Reader, out io.Writer, now func() time.Time) int {
	t := newTally(out, now)
	var all []*lines
	for _, in := range inputs {
		all = append(all, follow(in, now))
	}
	for _, in := range all {
		for line, more := in.next(); more; line, more = in.next() {
			t.line(line.text, line.at)
		}
		if in.err != nil {
			t.fail("reading the results: " + in.err.Error())
		}
		t.endInput()
	}
	return t.close()
}

// printf writes to the terminal; no channel is left for an error.
func (t *tally) printf(format string, args ...any) {
	_, _ = fmt.Fprintf(t.out, format, args...)
}
