package main

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// events of go test -json, in the form of Go 1.26.
const (
	passing = `{"Action":"start","Package":"reskafka/a"}
{"Action":"run","Package":"reskafka/a","Test":"TestOne"}
{"Action":"output","Package":"reskafka/a","Test":"TestOne","Output":"=== RUN   TestOne\n"}
{"Action":"run","Package":"reskafka/a","Test":"TestOne/x"}
{"Action":"run","Package":"reskafka/a","Test":"TestOne/y"}
{"Action":"pass","Package":"reskafka/a","Test":"TestOne/x","Elapsed":0.1}
{"Action":"pass","Package":"reskafka/a","Test":"TestOne/y","Elapsed":0.1}
{"Action":"pass","Package":"reskafka/a","Test":"TestOne","Elapsed":0.2}
{"Action":"run","Package":"reskafka/a","Test":"TestTwo"}
{"Action":"output","Package":"reskafka/a","Test":"TestTwo","Output":"    a_test.go:3: no kcat\n"}
{"Action":"skip","Package":"reskafka/a","Test":"TestTwo","Elapsed":0}
{"Action":"output","Package":"reskafka/a","Output":"note: of all\n"}
{"Action":"output","Package":"reskafka/a","Output":"other\n"}
{"Action":"pass","Package":"reskafka/a","Elapsed":0.3}
`
	failing = `{"Action":"run","Package":"reskafka/b","Test":"TestOne"}
{"Action":"run","Package":"reskafka/b","Test":"TestOne/x"}
{"Action":"output","Package":"reskafka/b","Test":"TestOne/x","Output":"    b_test.go:9: got 1, want 2\n"}
{"Action":"output","Package":"reskafka/b","Test":"TestOne/x","Output":"    --- FAIL: TestOne/x (0.00s)\n"}
{"Action":"fail","Package":"reskafka/b","Test":"TestOne/x","Elapsed":0}
{"Action":"fail","Package":"reskafka/b","Test":"TestOne","Elapsed":0}
{"Action":"fail","Package":"reskafka/b","Elapsed":0.1}
`
	broken = `{"ImportPath":"reskafka/c [reskafka/c.test]","Action":"build-output","Output":"# reskafka/c\n"}
{"ImportPath":"reskafka/c [reskafka/c.test]","Action":"build-output","Output":"c.go:4:2: undefined: x\n"}
{"ImportPath":"reskafka/c [reskafka/c.test]","Action":"build-fail"}
{"Action":"start","Package":"reskafka/c"}
{"Action":"output","Package":"reskafka/c","Output":"FAIL\treskafka/c [build failed]\n"}
{"Action":"fail","Package":"reskafka/c","Elapsed":0,"FailedBuild":"reskafka/c [reskafka/c.test]"}
`
	panicking = `{"Action":"run","Package":"reskafka/d","Test":"TestOne"}
{"Action":"output","Package":"reskafka/d","Test":"TestOne","Output":"panic: oh\n"}
{"Action":"output","Package":"reskafka/d","Output":"exit status 2\n"}
{"Action":"fail","Package":"reskafka/d","Elapsed":0}
`
)

func tallyOf(input string) (status int, printed string) {
	var out bytes.Buffer
	at := time.Unix(0, 0)
	status = run([]io.Reader{strings.NewReader(input)}, &out, func() time.Time { return at })
	return status, out.String()
}

func TestTally(t *testing.T) {
	cases := []struct {
		name, input string
		status      int
		last        string   // the closing line
		shown       []string // among the rest
	}{
		{"go pass", passing, 0, "2 passed, 0 failed, 1 skipped", []string{"skip  a TestTwo: a_test.go:3: no kcat", "  note: of all\n"}},
		{"go fail", failing, 1, "0 passed, 1 failed, 0 skipped", []string{"FAIL  b TestOne/x", "got 1, want 2"}},
		{"go build", passing + broken, 1, "2 passed, 1 failed, 1 skipped", []string{"c.go:4:2: undefined: x"}},
		{"go panic", passing + panicking, 1, "2 passed, 1 failed, 1 skipped", []string{"panic: oh", "exit status 2"}},
		{"lines", "ok a b\nnot ok c - why\nskip d: no\nother { text\n", 1, "1 passed, 1 failed, 1 skipped",
			[]string{"ok    a b", "FAIL  c - why", "skip  d: no", "other { text"}},
		{"nothing", "", 1, "0 passed, 0 failed, 0 skipped", []string{"Nothing passed."}},
		{"only skips", "skip a: b\n", 1, "0 passed, 0 failed, 1 skipped", nil},
		{"no newline at the end", "ok a\nok b", 0, "2 passed, 0 failed, 0 skipped", nil},
		{"status alone", "ok x\n# part p\nok a\n# end p 2\n", 1, "2 passed, 1 failed, 0 skipped",
			[]string{"p: ended with status 2"}},
		{"status with its failure", "# part p\nok a\nnot ok b\n# end p 2\n", 1, "1 passed, 1 failed, 0 skipped",
			[]string{"  p: b\n"}},
		{"status after another part's failure", "# part p\nnot ok b\n# end p 1\n# part q\nok a\n# end q 1\n", 1,
			"1 passed, 2 failed, 0 skipped", []string{"q: ended with status 1"}},
		{"cut off", "# part p\nok a\n", 1, "1 passed, 1 failed, 0 skipped", []string{"p: did not come to its end"}},
		{"braces that are no event", "ok a\n{\"x\": 1}\n{ not json\n", 0, "1 passed, 0 failed, 0 skipped",
			[]string{`{"x": 1}`, "{ not json"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			status, printed := tallyOf(c.input)
			if status != c.status || !strings.HasSuffix(printed, "\n"+c.last+"\n") {
				t.Errorf("status %d, want %d with the line %q; printed\n%s", status, c.status, c.last, printed)
			}
			for _, want := range c.shown {
				if !strings.Contains(printed, want) {
					t.Errorf("%q is missing in\n%s", want, printed)
				}
			}
		})
	}
}

// A parallel part is shown after the others, with a separate duration, and delays no other part.
func TestPartsBesideOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, toFirst := io.Pipe()
		second, toSecond := io.Pipe()
		go func() {
			fmt.Fprint(toSecond, "# part b\nok x\n")
			time.Sleep(5 * time.Second)
			fmt.Fprint(toSecond, "not ok y\n# end b 1\n# part cut\n")
			toSecond.Close()
			time.Sleep(time.Second)
			fmt.Fprint(toFirst, "# part a\nok z\n")
			time.Sleep(7 * time.Second)
			fmt.Fprint(toFirst, "# end a 0\n")
			toFirst.Close()
		}()
		var out bytes.Buffer
		if status := run([]io.Reader{first, second}, &out, time.Now); status != 1 {
			t.Errorf("status %d", status)
		}
		rest := out.String()
		for _, want := range []string{"== a\n", "== a took 7.0 s\n", "== b\n", "== b took 5.0 s\n", "7.0 s  a\n", "5.0 s  b\n",
			"13.0 s  in all\n", "  b: y\n", "  cut: did not come to its end\n", "2 passed, 2 failed, 0 skipped\n"} {
			_, after, found := strings.Cut(rest, want)
			if !found {
				t.Errorf("%q is missing, or not where it belongs, in\n%s", want, out.String())
				continue
			}
			rest = after
		}
	})
}
