package kafka

import (
	"fmt"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"

	"reskafka/internal/config"
	"reskafka/internal/host"
)

// logger takes the client library's own lines to the debug log. What an administrator has to know is logged by hooks
// and by the outbox in words of ours, so nothing of it goes higher.
type logger struct {
	name  string
	log   host.Logger
	level kgo.LogLevel
}

// newLogger passes on warnings; a connection with `debug` set everything. The library knows no contexts as librdkafka
// does, so any one of them turns on all of it.
func newLogger(c *config.Connection, log host.Logger) *logger {
	level := kgo.LogLevelWarn
	if len(c.Debug) > 0 {
		level = kgo.LogLevelDebug
	}
	return &logger{name: c.Name, log: log, level: level}
}

// Level implements kgo.Logger.
func (l *logger) Level() kgo.LogLevel { return l.level }

// Log implements kgo.Logger.
func (l *logger) Log(level kgo.LogLevel, message string, pairs ...any) {
	if l.log == nil || level > l.level {
		return
	}
	var text strings.Builder
	fmt.Fprintf(&text, "connection %s: kgo %s: %s", l.name, strings.ToLower(level.String()), message)
	for i := 0; i+1 < len(pairs); i += 2 {
		fmt.Fprintf(&text, "; %v: %v", pairs[i], pairs[i+1])
	}
	host.LogDepth(l.log, 0, host.Debug, text.String())
}
