package host

import (
	"fmt"
	"os"
	"runtime/debug"
	"strings"
)

// Guard, deferred, ends a panic where it stands: one on a goroutine that nobody catches would end the engine. It
// cannot mend what the panic interrupted. The line and the stack are in the log.
func Guard(l Logger, where string) {
	if r := recover(); r != nil {
		LogPanic(l, where, r)
	}
}

// LogPanic writes a recovered panic with the stack that led to it to the log and to standard error, which is there
// even when the log is not.
func LogPanic(l Logger, where string, recovered any) {
	text := fmt.Sprintf("the engine panicked in %s, this is a defect: %v", where, recovered)
	stack := string(debug.Stack())
	fmt.Fprintf(os.Stderr, "res_kafka: %s\n%s\n", text, stack)
	Logf(l, Error, "%s", text)
	for line := range strings.Lines(stack) {
		Logf(l, Error, "  %s", strings.ReplaceAll(strings.TrimRight(line, "\n"), "\t", "    "))
	}
}
