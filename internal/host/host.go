// Package host is the engine's view of its PBX: the destination of log lines, and the PBX's identity.
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

// System is the identity of the running PBX, for the headers of records.
type System struct {
	EntityID string // Asterisk's EID, in the form of ast_eid_to_str
	Name     string // systemname of asterisk.conf; may be empty
	Version  string // Asterisk's version
	Hostname string
	SpoolDir string // Asterisk's directory for spools; empty = not known

	// StageFolder is the folder of shared memory already used by Asterisk's process, created by a previous
	// engine; empty = none yet.
	StageFolder string

	MemoryBytes int64  // memory limit of the process; 0 = unknown
	MemoryBy    string // source of the limit
}

// Logger logs a line without a trailing newline. file, line and function name the place in our source. Log is
// safe for concurrent use and must not block for long.
type Logger interface {
	Log(level Level, file string, line int, function, text string)
}
