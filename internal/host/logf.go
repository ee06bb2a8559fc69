package host

import (
	"fmt"
	"runtime"
	"strings"
)

// Logf formats a line and passes it to l with the caller's file and line. A nil l drops the line.
func Logf(l Logger, level Level, format string, args ...any) {
	LogDepth(l, 1, level, fmt.Sprintf(format, args...))
}

// LogDepth passes a finished line to l, with the file and line of the caller at depth: 0 is the caller of
// LogDepth. For helpers with a log line of their caller. A nil l drops the line. Text from brokers, files and
// callers is escaped only here.
func LogDepth(l Logger, depth int, level Level, text string) {
	if l == nil {
		return
	}
	var pcs [1]uintptr
	runtime.Callers(depth+2, pcs[:]) // 2: this function and runtime.Callers
	frame, _ := runtime.CallersFrames(pcs[:]).Next()
	l.Log(level, shortFile(frame.File), frame.Line, shortFunction(frame.Function), Printable(text)+limitWords(text))
}

// shortFile returns a source file's last folder and name: enough to find the file, without the build
// machine's paths.
func shortFile(path string) string {
	slash := strings.LastIndexByte(path, '/')
	if slash < 0 {
		return path
	}
	return path[strings.LastIndexByte(path[:slash], '/')+1:]
}

// shortFunction takes import path and package off a function's name: "reskafka/internal/kafka/client.(*Hooks).lost" is
// "Hooks.lost".
func shortFunction(name string) string {
	name = name[strings.LastIndexByte(name, '/')+1:]
	_, name, _ = strings.Cut(name, ".")
	return strings.NewReplacer("(*", "", "(", "", ")", "").Replace(name)
}
