package host

import (
	"fmt"
	"runtime"
	"strings"
)

// Logf formats a line and gives it to l with the place it is called from. A nil l drops it.
func Logf(l Logger, level Level, format string, args ...any) {
	LogDepth(l, 1, level, fmt.Sprintf(format, args...))
}

// LogDepth gives l a finished line with the place depth callers above its own caller, for helpers that log on behalf
// of their caller: 0 is the caller of LogDepth itself. A nil l drops it. Text
// from brokers, files and callers is escaped here and nowhere else.
func LogDepth(l Logger, depth int, level Level, text string) {
	if l == nil {
		return
	}
	var pcs [1]uintptr
	runtime.Callers(depth+2, pcs[:]) // 2: this function and runtime.Callers
	frame, _ := runtime.CallersFrames(pcs[:]).Next()
	l.Log(level, shortFile(frame.File), frame.Line, shortFunction(frame.Function), Printable(text)+limitWords(text))
}

// shortFile keeps a source file's last folder and name: enough to find it, and nothing of the machine that built it.
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
