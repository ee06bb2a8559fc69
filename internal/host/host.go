// Package host is the engine's view of the PBX that started it: where log lines go, and who the PBX is.
package host

// Level is the severity of a log line, in Asterisk's own steps.
type Level int32

// The levels, in the order of boundary/messages.h.
const (
	Debug Level = iota
	Notice
	Warning
	Error
)

// System is the identity of the running PBX, as records carry it in their headers.
type System struct {
	EntityID string // Asterisk's EID, as ast_eid_to_str prints it
	Name     string // systemname of asterisk.conf; may be empty
	Version  string // Asterisk's version
	Hostname string
	SpoolDir string // Asterisk's directory for spools; empty = not known

	// StageFolder is the folder of shared memory that Asterisk's process uses already, made by an engine that is gone; empty =
	// none yet.
	StageFolder string

	MemoryBytes int64  // that the process may have; 0 = not known
	MemoryBy    string // what limits it
}

// Logger takes one finished log line without a trailing newline. file, line and function name the place in our source. It may be
// called from any goroutine and must not block for long.
type Logger interface {
	Log(level Level, file string, line int, function, text string)
}
