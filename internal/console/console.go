// Package console has every CLI command: words, help, completion and output. Asterisk's CLI learns the
// commands from this table, so a new command needs no C.
//
// A command renders a snapshot from Env and changes nothing itself. The output is plain text, a line for each
// row, and safe for a terminal: control characters in names and errors are escaped. Passwords are already
// hidden.
package console

import (
	"context"
	"slices"
	"strings"
	"time"
)

// Command is a CLI command.
type Command struct {
	Words   string // typed words: fixed words only, arguments follow
	Summary string // a line for `core show help`
	Usage   string // syntax and effect, shown by `core show help <words>` and for a wrong call

	// Waits is set for a command that waits for a broker or writes to the disk. Asterisk's CLI waits longer for its
	// output.
	Waits bool

	// Complete returns the possible words after the complete words before, which include the command's own,
	// for the typed prefix word. It may be nil.
	Complete func(env Env, before []string, word string) []string

	// Run returns the command's output. args are all typed words, including the command's own. ok = false
	// asks for the usage. It blocks no longer than Env.
	Run func(env Env, args []string) (text string, ok bool)
}

// Commands lists every command, in the order of hello's answer.
var Commands = []Command{
	showStatus,
	showConnection,
	showConsumers,
	showConsumer,
	consumerSkip,
	testSend,
	showSpool,
	spoolRetry,
	spoolPurge,
	topicCreate,
}

// Env is the engine's side of commands. Its answers are snapshots owned by the caller. Safe for concurrent
// use.
type Env interface {
	// Enabled reports whether kafka.conf has [general] enabled = yes.
	Enabled() bool
	// Connections lists the connections in the order of kafka.conf.
	Connections() []ConnectionStatus
	// Connection returns the connection with this name, in any case.
	Connection(name string) (ConnectionStatus, bool)
	// LeftOut returns the error of a connection with this name left out because of kafka.conf.
	LeftOut(name string) (why string, ok bool)
	// Consumers lists the connections with a group_id, in the order of kafka.conf.
	Consumers() []ConsumerStatus
	// SkipBatch has the consumer of a connection go on behind the unreadable batch of a partition, and returns the offset where.
	SkipBatch(name, topic string, partition int32) (int64, error)
	// TestSend sends a message and returns after the broker's acknowledgement (nil) or a final failure (the
	// cause). A nil key is no key. It blocks for request_timeout_ms at most.
	TestSend(ctx context.Context, name, topic, message string, key *string) error
	// CreateTopic creates a missing topic and reports whether it did. The brokers choose partitions or
	// replicas for 0. It blocks for request_timeout_ms and two seconds at most.
	CreateTopic(ctx context.Context, name, topic string, partitions, replication int) (created bool, err error)
	// Spools returns the state of each connection's files on disk, in the order of kafka.conf.
	Spools() []SpoolStatus
	// Spool returns the state for the connection with this name.
	Spool(name string) (SpoolStatus, bool)
	// RetrySpool requeues the dead letters of a connection, and ends the wait of every topic with a later
	// retry: of one topic, or of all topics for "". After an error, the finished part stays and is in the
	// result.
	RetrySpool(name, topic string) (RetryResult, error)
	// PurgeSpool deletes a connection's records on disk, of one topic, or of all topics for "". The records
	// count as dropped; records in flight to a broker may still arrive. Errors as for RetrySpool.
	PurgeSpool(name, topic string) (PurgeResult, error)
	// Now is the reference time of ages.
	Now() time.Time
}

// arguments returns the words after the command's own words, or nil if those are incomplete.
func arguments(words string, args []string) []string {
	n := len(strings.Fields(words))
	if len(args) < n {
		return nil
	}
	return args[n:]
}

// candidates returns the offered words that begin with word, in any case, without repetitions. A word that
// the command line would split is left out: its completion would not be a working command.
func candidates(word string, offered ...string) []string {
	var out []string
	for _, o := range offered {
		if len(o) >= len(word) && strings.EqualFold(o[:len(word)], word) && typable(o) && !slices.Contains(out, o) {
			out = append(out, o)
		}
	}
	return out
}

// typable reports whether Asterisk's command line reads text unchanged as one word.
func typable(text string) bool {
	return text != "" && printable(text) == text && !strings.ContainsAny(text, " \"\\")
}

// completeConnection is the completion of a command with a connection as its only argument.
func completeConnection(words string) func(env Env, before []string, word string) []string {
	return func(env Env, before []string, word string) []string {
		rest := arguments(words, before)
		if rest == nil || len(rest) > 0 {
			return nil
		}
		return candidates(word, connectionNames(env)...)
	}
}

func connectionNames(env Env) []string {
	var names []string
	for _, c := range env.Connections() {
		names = append(names, c.Name)
	}
	return names
}

// noConnection is the answer to an unknown connection.
func noConnection(env Env, name string) string {
	if !env.Enabled() {
		return Failure(disabledText)
	}
	text := "No connection named " + printable(name)
	if why, ok := env.LeftOut(name); ok {
		text += ", it is left out: " + printable(why)
	}
	return Failure(text + "\n")
}

// Failure is the output of a failed command. Its first word never changes: asterisk -rx exits with 0 in any
// case, so scripts check this word. An empty list is no failure.
func Failure(text string) string { return "Error: " + text }

// noConnections answers when kafka.conf has none.
const noConnections = "No connections: kafka.conf has no section with type = connection\n"

const disabledText = "Kafka is disabled ([general] enabled = no in kafka.conf)\n"
