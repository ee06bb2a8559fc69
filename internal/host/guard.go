package host

import (
	"fmt"
	"os"
	"runtime/debug"
	"strings"
)

// Guard, deferred, recovers a panic: an uncaught panic of a goroutine would end the engine. The interrupted
// work stays incomplete. The log has a line and the stack.
func Guard(l Logger, where string) {
	if r := recover(); r != nil {
		LogPanic(l, where, r)
	}
}

// LogPanic writes a recovered panic with its stack to the log and to standard error, which works even without
// the log.
func LogPanic(l Logger, where string, recovered any) {
	text := fmt.Sprintf("the engine panicked in %s, this is a defect: %v", where, recovered)
	stack := string(debug.Stack())
	fmt.Fprintf(os.Stderr, "res_kafka: %s\n%s\n", text, stack)
	Logf(l, Error, "%s", text)
	for line := range strings.Lines(stack) {
		Logf(l, Error, "  %s", strings.ReplaceAll(strings.TrimRight(line, "\n"), "\t", "    "))
	}
}
