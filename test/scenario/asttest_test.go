package scenario

import (
	"encoding/xml"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// astTestConf has the connections of test/modules/test_res_kafka.c. Tests of reloads rewrite the included
// file.
const astTestConf = `
[base](!)
type = connection
brokers = %BROKER%
auto_offset_reset = earliest
auto_commit_interval_ms = 200

[test_other](base)
group_id = asttest-%ID%-other

[test_manual](base)
group_id = asttest-%ID%-manual
enable_auto_commit = no

[test_hasty](base)
group_id = asttest-%ID%-hasty
session_timeout_ms = 6000
max_poll_interval_ms = 6000

[test_race](base)
group_id = asttest-%ID%-race

; The embedded broker may wait for this long for nobody, after a member left while it waited for its share.
[test_often](base)
group_id = asttest-%ID%-often
session_timeout_ms = 10000
max_poll_interval_ms = 10000

[test_groupless](base)

[test_small](base)
message_max_bytes = 1000

[test_nobody](base)
brokers = 127.0.0.1:1
queue_buffering_max_messages = 10
durability = memory

[test_spooling](test_nobody)
durability = overflow

[test_hopeless](test_nobody)
message_timeout_ms = 1000

[test](base)
group_id = asttest-%ID%
#include test_res_kafka.conf
`

// astTestsAtLeast is the module's number of tests. A test no longer registered is missed here.
const astTestsAtLeast = 52

const astCategory = "/res/kafka/"

// astResult is one test in Asterisk's report, in JUnit's format.
type astResult struct {
	Name    string `xml:"name,attr"`
	Class   string `xml:"classname,attr"`
	Failure *struct {
		Text string `xml:",chardata"`
	} `xml:"failure"`
	Skipped *struct{} `xml:"skipped"`
}

// TestASTTest runs the tests of test_res_kafka.so in Asterisk's own test framework, each as a subtest. Tests
// run one by one, because a console command may take a minute.
func TestASTTest(t *testing.T) { everywhere(t, astTests) }

func astTests(t *testing.T, on kind) {
	w := newWorld(t, options{
		on:      on,
		modules: []string{"res_kafka", "test_res_kafka"},
		files:   map[string]string{"kafka.conf": astTestConf, "test_res_kafka.conf": "client_id = tests\n"},
	})
	names := w.astTests()
	if len(names) < astTestsAtLeast {
		t.Errorf("%d tests are registered, want at least %d: %s", len(names), astTestsAtLeast, strings.Join(names, " "))
	}
	for _, name := range names {
		ended := true
		t.Run(name, func(t *testing.T) {
			counted(t, on)
			ended = w.astTest(t, name)
		})
		if !ended {
			t.Fatalf("%s has not ended, and Asterisk runs no other test beside it", name)
		}
	}
	if count := w.cli("module show like res_kafka.so"); !regexp.MustCompile(`(?m)^res_kafka\.so .* 1 +Running`).MatchString(count) {
		t.Errorf("handles are left over:\n%s", count)
	}
}

// astTests returns the names of the tests in the category, in their order.
func (w *world) astTests() []string {
	w.Helper()
	var names []string
	for line := range strings.Lines(w.cli("test show registered category %s", astCategory)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == astCategory {
			names = append(names, fields[1])
		}
	}
	return names
}

// astTest runs one test and reads the result from Asterisk's report. The return value is false if the test
// has not ended.
func (w *world) astTest(t *testing.T, name string) bool {
	t.Helper()
	before := len(w.pbx.LogLines())
	printed, err := w.pbx.CLI("test execute category " + astCategory + " name " + name)
	if err != nil {
		t.Errorf("%v\n%s", err, strings.Join(w.pbx.LogLines()[before:], "\n"))
		return false
	}
	path := filepath.Join(w.dir, "report.xml")
	_ = os.Remove(path)
	w.cli("test generate results xml %s", path)
	result, err := astReport(path, name)
	switch {
	case err != nil:
		t.Errorf("%v\n%s", err, printed)
	case result.Failure != nil:
		t.Errorf("%s\n%s", strings.TrimSpace(result.Failure.Text), strings.Join(w.pbx.LogLines()[before:], "\n"))
	case result.Skipped != nil || !regexp.MustCompile(`(?i)pass`).MatchString(printed):
		t.Errorf("it did not pass:\n%s", printed)
	}
	return true
}

// astReport finds one test in Asterisk's report.
func astReport(path, name string) (astResult, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return astResult{}, err
	}
	var report struct {
		Results []astResult `xml:"testcase"`
		Suites  []struct {
			Results []astResult `xml:"testcase"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal(text, &report); err != nil {
		return astResult{}, fmt.Errorf("parsing %s: %w\n%s", path, err, text)
	}
	for _, suite := range report.Suites {
		report.Results = append(report.Results, suite.Results...)
	}
	for _, result := range report.Results {
		if result.Name == name {
			return result, nil
		}
	}
	return astResult{}, fmt.Errorf("%s says nothing of %s", path, name)
}
