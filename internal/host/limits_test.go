package host

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
)

type lastLine struct{ text string }

func (l *lastLine) Log(_ Level, _ string, _ int, _, text string) { l.text = text }

// TestLogf_TooManyOpenFiles_NamesLimit verifies that a line about a kernel's limit names the remedy.
func TestLogf_TooManyOpenFiles_NamesLimit(t *testing.T) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	var l lastLine
	Logf(&l, Error, "opening the spool: %v", fmt.Errorf("open x: %w", syscall.EMFILE))
	if want := fmt.Sprintf("RLIMIT_NOFILE of the engine is %d, raise maxfiles", limit.Cur); !strings.Contains(l.text, want) {
		t.Errorf("the line is %q, want %q in it", l.text, want)
	}
	Logf(&l, Error, "opening the spool: %v", syscall.ENOENT)
	if strings.Contains(l.text, "RLIMIT") {
		t.Errorf("the line is %q, which has nothing to do with a limit", l.text)
	}
}
