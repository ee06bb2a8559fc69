// Command tally reads what the parts of `make test` print, shows it as it comes, counts, and ends with one line:
//
//	N passed, N failed, N skipped
//
// Its exit status is 1 when anything failed, or when nothing passed at all. scripts/test feeds it. It understands
//
//	# part NAME            a part of the run begins
//	# end NAME STATUS      it has ended; a status other than 0 without a failed test is a failure itself
//	ok NAME                one test passed
//	not ok NAME            one test failed
//	skip NAME: WHY         one test was skipped
//	{...}                  an event of `go test -json`
//
// and passes every other line on. Arguments name further files to read, /dev/fd/N for a pipe: what parts print that run beside
// those of stdin. They are shown after stdin, one after the other, but read as they come; a part takes the time between its
// lines' coming. A line that begins with "note: ", printed by a Go package outside of its tests, is shown
// when the package has passed. Of Go's tests those are counted that have no tests below them.
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

// run tallies what it reads until the end of every input and returns the process's exit status.
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

// printf writes to the terminal; there is nobody to tell when that fails.
func (t *tally) printf(format string, args ...any) {
	_, _ = fmt.Fprintf(t.out, format, args...)
}
