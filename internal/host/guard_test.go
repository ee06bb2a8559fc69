package host

import (
	"strings"
	"testing"
)

type lines []string

func (l *lines) Log(_ Level, _ string, _ int, _, text string) { *l = append(*l, text) }

func breaks(l Logger) {
	defer Guard(l, "a test")
	var nothing *lines
	nothing.Log(0, "", 0, "", "")
}

func TestGuard(t *testing.T) {
	var log lines
	breaks(&log)
	breaks(nil)
	if len(log) < 3 || !strings.Contains(log[0], "panicked in a test") || !strings.Contains(log[0], "nil pointer") {
		t.Fatalf("logged %q", log)
	}
	if !strings.Contains(strings.Join(log, "\n"), "host.breaks") {
		t.Errorf("no stack: %q", log)
	}
}
