// Package console holds every CLI command: its words, its help, its completion and the text it prints. Asterisk's CLI
// knows a command by what this table says of it, so another one needs no C.
//
// A command renders a snapshot that Env gives and touches nothing itself. What it prints is plain text, a line for a
// row, and can always be shown on a terminal: whatever bytes a name or an error holds, control characters come out
// escaped. Passwords arrive here already hidden.
package console

import (
	"context"
	"slices"
	"strings"
	"time"
)

// Command is one CLI command.
type Command struct {
	Words   string // what is typed: fixed words only, arguments follow them
	Summary string // one line, for `core show help`
	Usage   string // how to call it and what it does, shown by `core show help <words>` and for a wrong call

	// Complete gives what may stand after the words before, all of those complete and the command's own among
	// them, when word has been typed of it. It may be nil.
	Complete func(env Env, before []string, word string) []string

	// Run gives what the command prints. args is all that was typed, the command's own words included. ok = false
	// asks for the usage to be shown. It blocks for no longer than Env does.
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

// Env is what commands see of the engine. Its answers are snapshots that belong to the caller. Safe for use by
// several goroutines.
type Env interface {
	// Enabled says whether kafka.conf has [general] enabled = yes.
	Enabled() bool
	// Connections lists the connections in the order of kafka.conf.
	Connections() []ConnectionStatus
	// Connection finds the connection of that name, in any case.
	Connection(name string) (ConnectionStatus, bool)
	// LeftOut finds the connection of that name that is left out for an error in kafka.conf, and gives the error.
	LeftOut(name string) (why string, ok bool)
	// Consumers lists the connections that have a group_id, in the order of kafka.conf.
	Consumers() []ConsumerStatus
	// SkipBatch has the consumer of a connection go on behind the unreadable batch of a partition, and returns the offset where.
	SkipBatch(name, topic string, partition int32) (int64, error)
	// TestSend sends one message and returns once the broker has acknowledged it (nil) or it is clear that it
	// will not (why). A nil key is no key. It blocks for request_timeout_ms at most.
	TestSend(ctx context.Context, name, topic, message string, key *string) error
	// CreateTopic creates a topic and reports whether it did, or false for one that is there. 0 partitions or replicas leave the
	// number to the brokers. It blocks for request_timeout_ms and two seconds at most.
	CreateTopic(ctx context.Context, name, topic string, partitions, replication int) (created bool, err error)
	// Spools tells of what each connection has on disk, in the order of kafka.conf.
	Spools() []SpoolStatus
	// Spool tells it of the connection of that name.
	Spool(name string) (SpoolStatus, bool)
	// RetrySpool makes the dead letters of a connection records again, and ends the wait of every topic that is to be
	// tried again later: of one topic, or with an empty one of all. With an error, what was done before it stays done and is in the result.
	RetrySpool(name, topic string) (RetryResult, error)
	// PurgeSpool throws away what a connection has on disk, of one topic, or with an empty one of all. The records count as dropped; what is on its way to a broker
	// already may still arrive. With an error, as RetrySpool.
	PurgeSpool(name, topic string) (PurgeResult, error)
	// Now is the time that ages are counted from.
	Now() time.Time
}

// arguments gives what follows the command's own words, or nil when not even those are all there.
func arguments(words string, args []string) []string {
	n := len(strings.Fields(words))
	if len(args) < n {
		return nil
	}
	return args[n:]
}

// candidates gives those of the offered words that begin with word, in any case, each once. One that the command line
// would take apart again is left out: completing it would not give a command that works.
func candidates(word string, offered ...string) []string {
	var out []string
	for _, o := range offered {
		if len(o) >= len(word) && strings.EqualFold(o[:len(word)], word) && typable(o) && !slices.Contains(out, o) {
			out = append(out, o)
		}
	}
	return out
}

// typable says whether Asterisk's command line takes text as one word, as it stands.
func typable(text string) bool {
	return text != "" && printable(text) == text && !strings.ContainsAny(text, " \"\\")
}

// completeConnection is the completion of a command whose only argument is a connection.
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

// noConnection answers a name that no connection has.
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

// Failure is the output of a command that could not do what it was asked for. Its first word never changes: asterisk -rx
// exits with 0 whatever a command prints, so scripts look at that word. A list that is empty is no failure.
func Failure(text string) string { return "Error: " + text }

// noConnections answers when kafka.conf has none.
const noConnections = "No connections: kafka.conf has no section with type = connection\n"

const disabledText = "Kafka is disabled ([general] enabled = no in kafka.conf)\n"
