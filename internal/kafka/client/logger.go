package client

import (
	"fmt"
	"regexp"
	"strings"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"

	"reskafka/internal/config"
	"reskafka/internal/host"
)

// Logger writes the contexts of the option debug to the debug log: the client library's lines, and our lines
// where the library is silent. Hooks and the outbox log all facts for administrators in their own words, so
// no line of the Logger has a higher level. Methods are safe for concurrent use.
type Logger struct {
	name     string
	log      host.Logger
	contexts map[string]bool
}

// NewLogger also writes the connection's settings, for the context conf.
func NewLogger(c *config.Connection, log host.Logger) *Logger {
	l := &Logger{name: c.Name, log: log, contexts: map[string]bool{}}
	for _, context := range c.Debug {
		l.contexts[context] = true
	}
	if l.Enabled("conf") {
		for _, setting := range c.Settings() {
			l.Logf("conf", "%s: %s", setting.Label, setting.Value)
		}
	}
	return l
}

// Enabled reports whether lines of a context are written, for callers with expensive lines.
func (l *Logger) Enabled(context string) bool {
	return l.log != nil && (l.contexts[context] || l.contexts["all"])
}

// Logf writes a line of ours about an enabled context.
func (l *Logger) Logf(context, format string, args ...any) {
	if l.Enabled(context) {
		host.LogDepth(l.log, 1, host.Debug, fmt.Sprintf("connection %s: %s: ", l.name, context)+fmt.Sprintf(format, args...))
	}
}

// Level implements kgo.Logger.
func (l *Logger) Level() kgo.LogLevel {
	if len(l.contexts) > 0 {
		return kgo.LogLevelDebug
	}
	return kgo.LogLevelWarn
}

// Log implements kgo.Logger. The library's warnings are written in any context.
func (l *Logger) Log(level kgo.LogLevel, message string, pairs ...any) {
	context := contextOf(message)
	if l.log == nil || level > kgo.LogLevelWarn && !l.Enabled(context) {
		return
	}
	var text strings.Builder
	fmt.Fprintf(&text, "connection %s: %s: %s", l.name, context, message)
	for i := 0; i+1 < len(pairs); i += 2 {
		fmt.Fprintf(&text, "; %v: %v", pairs[i], pairs[i+1])
	}
	host.LogDepth(l.log, 0, host.Debug, text.String())
}

// contextOf finds the context of a line of the library, which has levels only.
func contextOf(message string) string {
	for _, c := range contexts {
		if c.lines().MatchString(message) {
			return c.name
		}
	}
	return "generic"
}

// contexts are librdkafka's contexts, with the beginnings of the library's lines for each. The first match
// counts. Of the missing contexts, admin, conf and generic have lines of ours; config warns about the others.
var contexts = []struct {
	name  string
	lines func() *regexp.Regexp
}{
	{"protocol", begins(`(wrote|read) [A-Z][A-Za-z]+ v\d`)},
	{"feature", begins(`issuing api versions`, `unable to request api versions`, `broker does not know our ApiVersions`,
		`ApiVersions response`, `read from broker received EOF during api versions`, `broker cannot handle any produce`)},
	{"security", begins(`.*\bsasl\b`, `issuing SASL`)},
	{"broker", begins(`opening connection`, `connection `, `unable to open connection`, `unable to use the seeds`,
		`read from broker`, `reaped connections`, `retrying request`, `broker is throttling`, `broker rejected our`,
		`OnRebootstrap`, `sharded request`, `unable to shard`, `prepared to issue find coordinator`, `produce acks==0`)},
	{"assignor", begins(`balanc`, `fetching metadata for all group topics`, `metadata resp in balance`, `BalanceRacks`,
		`unable to log `, `\S+ could not find broker-chosen balancer`, `joined as leader but unable to balance`)},
	{"topic", begins(`producing to a new topic`, `done waiting on metadata for new topic`, `new topic metadata wait`,
		`moving (producing|consuming) partition`, `metadata refresh (new|topic partition)`, `regex consumer`,
		`consumer regular expressions`, `metadata has a new ID for a topic`)},
	{"metadata", begins(`metadata `, `immediate metadata`)},
	{"eos", begins(`.*\bproducer (id|ID|epoch)\b`, `.*idempotent`, `fatal InitProducerID`, `batch errored`,
		`(rewinding|resetting) produce sequence`, `received unexpected duplicate sequence`)},
	{"queue", begins(`retry batch`, `transitioned sinks`, `blocking Produce`, `Produce block`, `flush`, `unlingered`,
		`(client|produce) ctx canceled while blocked`)},
	{"msg", begins(`produced$`, `produce `, `batch in a produce`, `the first record in`, `random error while producing`,
		`broker did not reply to all topics`, `broker erroneously replied`, `broker replied with .*AddPartitions`, `a merged batch`)},
	{"consumer", begins(`beginning autocommit`, `fetching offsets`, `fetch offsets`, `updated (un)?committed`, `(in )?default commit`,
		`skipping autocommit`, `autocommitting`, `(in|left) CommitOffsets`, `waiting for prior commit`, `issuing commit`,
		`offset commit`, `received an OffsetCommit`, `broker replied to our OffsetCommit`, `unable to commit`,
		`broker returned .* in OffsetFetch`, `injecting fake fetch`, `assigning partitions`)},
	{"fetch", begins(`fetch `, `handled `, `assign requires loading offsets`, `offsets to load`, `session failed with SessionID`,
		`received SessionID`, `resetting fetch session`, `topic id issues`, `broker returned `, `batch decompresses`,
		`received OFFSET_OUT_OF_RANGE`, `redirecting follower`)},
	{"cgrp", begins(`entering `, `group `, `beginning to manage the group`, `tried to leave group`, `leaving `, `eager consumer`,
		`cooperative consumer`, `(consumer )?calling onRevoke`, `new group session`, `beginning heartbeat`, `forced rejoin`,
		`heartbeat`, `join`, `sync`, `member was assigned`, `(not )?grabb(ed|ing) `, `(un)?blocking commits`)},
}

// begins compiles on first use, which never happens without `debug`: all expressions take half a millisecond
// at Asterisk's start.
func begins(alternatives ...string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^(?:` + strings.Join(alternatives, "|") + `)`)
	})
}
