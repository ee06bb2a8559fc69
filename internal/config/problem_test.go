package config

import (
	"strings"
	"testing"
)

func TestProblemIsOneLine(t *testing.T) {
	for want, p := range map[string]Problem{
		"kafka.conf:42: [billing] acks = 7 is out of range": {
			File: "kafka.conf", Line: 42, Section: "billing", Option: "acks", Value: "7", Text: "is out of range",
		},
		"kafka.conf: [billing] type is missing": {
			File: "kafka.conf", Section: "billing", Option: "type", Text: "is missing",
		},
		"kafka.conf:3: [a?b] is there twice": {File: "kafka.conf", Line: 3, Section: "a\nb", Text: "is there twice"},
		"kafka.conf:3: [a] debug = ?[31m? is wrong": {
			File: "kafka.conf", Line: 3, Section: "a", Option: "debug", Value: "\x1b[31m\u2028", Text: "is wrong",
		},
	} {
		if got := p.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	long := Problem{File: "f", Option: "o", Value: strings.Repeat("é", 300), Text: "is long"}.String()
	if want := "f: o = " + strings.Repeat("é", 200) + "… is long"; long != want {
		t.Errorf("got %q", long)
	}
}

// The severities matter to the caller: a single error refuses everything, warnings alone refuse nothing.
func TestHasErrors(t *testing.T) {
	if HasErrors(nil) || HasErrors([]Problem{{Severity: Warning}}) {
		t.Error("a warning counts as an error")
	}
	if !HasErrors([]Problem{{Severity: Warning}, {Severity: Error}}) {
		t.Error("an error does not count")
	}
}
