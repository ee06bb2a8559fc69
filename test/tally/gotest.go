package main

import (
	"encoding/json"
	"strings"
	"time"
)

// slow is the shortest duration of a passed test with its own line.
const slow = time.Second

// goEvent is a line of `go test -json` (go doc test2json).
type goEvent struct {
	Action      string
	Package     string
	ImportPath  string // of build-output and build-fail, instead of Package
	Test        string
	Elapsed     float64 // seconds
	Output      string
	FailedBuild string // in the failure of a package: the ImportPath of the failed build
}

// goPackage is the state of a package, or of a build, during its tests.
type goPackage struct {
	tests           map[string]*goTest // running or run, by full name
	output          []string           // not of any test
	passed, skipped int
	failed          int
}

// goTest is a test or subtest.
type goTest struct {
	output   []string
	hasTests bool
	failed   bool // the test or a test below
}

// goEvent handles a line in the form of an event; false means another line.
func (t *tally) goEvent(text string) bool {
	var event goEvent
	if err := json.Unmarshal([]byte(text), &event); err != nil || event.Action == "" {
		return false
	}
	name := event.Package
	if name == "" {
		name = event.ImportPath
	}
	p := t.packages[name]
	if p == nil {
		p = &goPackage{tests: map[string]*goTest{}}
		t.packages[name] = p
	}
	switch {
	case event.Action == "output" || event.Action == "build-output":
		p.keep(event)
	case event.Test != "":
		t.testEvent(p, event)
	default:
		t.packageEvent(p, event)
	}
	return true
}

// keep stores a line of output for a failure of its test. Progress lines of the testing package are left out.
func (p *goPackage) keep(event goEvent) {
	line := strings.TrimRight(event.Output, "\n")
	for _, prefix := range []string{"=== ", "--- ", "PASS", "FAIL", "ok  \t", "coverage:", "-test.shuffle"} {
		if strings.HasPrefix(strings.TrimLeft(line, " "), prefix) {
			return
		}
	}
	if event.Test == "" {
		p.output = append(p.output, line)
		return
	}
	test := p.test(event.Test)
	test.output = append(test.output, line)
}

func (p *goPackage) test(name string) *goTest {
	test := p.tests[name]
	if test == nil {
		test = &goTest{}
		p.tests[name] = test
	}
	return test
}

// parent returns the test of a subtest, or nil for a top-level test.
func (p *goPackage) parent(name string) *goTest {
	if slash := strings.LastIndexByte(name, '/'); slash > 0 {
		return p.test(name[:slash])
	}
	return nil
}

func (t *tally) testEvent(p *goPackage, event goEvent) {
	test, parent := p.test(event.Test), p.parent(event.Test)
	title := shortPackage(event.Package) + " " + event.Test
	took := time.Duration(event.Elapsed * float64(time.Second))
	switch event.Action {
	case "run":
		if parent != nil {
			parent.hasTests = true
		}
		return
	case "pass":
		if !test.hasTests {
			p.passed++
			t.passed++
		}
		if parent == nil && took >= slow {
			t.printf("  pass  %s (%s)\n", title, seconds(took))
		}
	case "skip":
		p.skipped++
		t.skipped++
		t.printf("  skip  %s: %s\n", title, strings.Join(trimmed(test.output), " "))
	case "fail":
		if parent != nil {
			parent.failed = true
		}
		// A test that failed only because of a subtest has been counted with the subtest.
		if !test.failed {
			p.failed++
			t.fail(title)
			t.printf("  FAIL  %s (%s)\n", title, seconds(took))
		}
		t.indented(test.output)
	default:
		return
	}
	test.output = nil
}

func (t *tally) packageEvent(p *goPackage, event goEvent) {
	title := shortPackage(event.Package)
	took := seconds(time.Duration(event.Elapsed * float64(time.Second)))
	switch event.Action {
	case "fail":
		t.packageFailed(p, event, title)
	case "pass":
		t.printf("  ok    %-28s %8s  %d passed", title, took, p.passed)
		if p.skipped > 0 {
			t.printf(", %d skipped", p.skipped)
		}
		t.printf("\n")
		for _, line := range p.output {
			if strings.HasPrefix(line, "note: ") {
				t.printf("  %s\n", line)
			}
		}
	case "skip":
		// No test files.
	default:
		return
	}
	delete(t.packages, event.Package)
}

// packageFailed shows failures without a test: a build, a panic, a TestMain, a time limit.
func (t *tally) packageFailed(p *goPackage, event goEvent, title string) {
	if p.failed == 0 {
		t.fail(title)
	}
	t.printf("  FAIL  %-28s %8s  %d passed, %d failed\n", title,
		seconds(time.Duration(event.Elapsed*float64(time.Second))), p.passed, p.failed)
	t.indented(p.output)
	for _, test := range p.tests {
		// Tests running at the end of the process.
		t.indented(test.output)
	}
	if build := t.packages[event.FailedBuild]; build != nil {
		t.indented(build.output)
		build.output = nil
	}
}

func (t *tally) indented(lines []string) {
	for _, line := range lines {
		t.printf("        %s\n", line)
	}
}

func trimmed(lines []string) []string {
	out := make([]string, 0, len(lines))
	for _, line := range lines {
		out = append(out, strings.TrimSpace(line))
	}
	return out
}

// shortPackage leaves out the module's name.
func shortPackage(path string) string {
	return strings.TrimPrefix(path, "reskafka/")
}
