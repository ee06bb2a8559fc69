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
// and passes every other line on. A line that begins with "note: ", printed by a Go package outside of its tests, is shown
// when the package has passed. Of Go's tests those are counted that have no tests below them.
package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"time"
)

func main() {
	os.Exit(run(os.Stdin, os.Stdout, time.Now))
}

// run tallies what it reads until its end and returns the process's exit status.
func run(in io.Reader, out io.Writer, now func() time.Time) int {
	t := newTally(out, now)
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			t.line(line)
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			t.fail("reading the results: " + err.Error())
			break
		}
	}
	return t.close()
}

// printf writes to the terminal; there is nobody to tell when that fails.
func (t *tally) printf(format string, args ...any) {
	_, _ = fmt.Fprintf(t.out, format, args...)
}
