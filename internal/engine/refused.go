package engine

import (
	"fmt"
	"math"
	"strings"
	"time"

	"reskafka/internal/config"
	"reskafka/internal/host"
	"reskafka/internal/metrics"
	"reskafka/internal/throttle"
)

// Reason is the cause of a refused call to produce, before its record existed: enum resk_refusal of
// boundary/messages.h.
type Reason uint32

// The reasons, in the order of the enum.
const (
	Closed Reason = iota + 1
	TooLong
	FullFrames
	FullCharge
	NoMemory
	BadTopic
	BadArgument
)

// refusals has each reason in a word or two for counters, and in a sentence for the log.
var refusals = map[Reason]struct{ name, text string }{
	Closed:      {"closed", "the connection has no producer now, is no longer in kafka.conf, or Kafka is disabled or being unloaded"},
	TooLong:     {"too large", "larger than message_max_bytes"},
	FullFrames:  {"queue full", "queue_buffering_max_messages records are waiting already"},
	FullCharge:  {"queue full", "queue_buffering_max_kbytes are waiting already"},
	NoMemory:    {"no memory", "no memory is left"},
	BadTopic:    {"bad topic", fmt.Sprintf("a topic's name has 1 to %d letters, digits, dots, underscores and hyphens", config.TopicLengthMax)},
	BadArgument: {"bad argument", "the calling module passed NULL where a value is needed, or delivery reports that it has ended"},
}

// Refused counts and logs refused calls to produce, throttled: for each connection and reason a line at once
// and then ever fewer. id 0 = no connection. sample is the topic of the first call.
func (e *Engine) Refused(id uint64, reason Reason, count uint64, sample string) {
	e.living.RLock()
	defer e.living.RUnlock()
	if e.ended {
		return
	}
	said, ok := refusals[reason]
	if !ok {
		said.name, said.text = "other", fmt.Sprintf("reason %d", reason)
	}
	name := "(none)"
	if c := e.byID(id); c != nil {
		name = c.name
		c.mtx.Lock()
		c.counts.AddFor(metrics.RecordsRefused, said.name, int(count))
		c.mtx.Unlock()
	}
	suppressed, ok := e.allow(e.refused, throttleKey(name, said.text), int(min(count, math.MaxInt32)))
	if !ok {
		return
	}
	host.Logf(e.log, host.Error, "connection '%s': refused %d record(s), topic '%s': %s", name, count+uint64(suppressed), sample, said.text)
}

// throttleKey is the throttles' key of a subject of a connection. tellRest splits it.
func throttleKey(connection, what string) string { return connection + "\x00" + what }

// allow is AllowN of a throttle. Suppressed events are logged soon after the last event of their kind.
func (e *Engine) allow(t *throttle.Throttle, key string, n int) (suppressed int, ok bool) {
	if suppressed, ok = t.AllowN(key, n); !ok {
		select {
		case e.heldBack <- struct{}{}:
		default:
		}
	}
	return suppressed, ok
}

// tellRestNowAndThen logs the throttles' suppressed events in intervals, because the next event may never
// come. The loop also checks the shared memory, sets the collector's policy, and cleans up after earlier
// runs, until Stop.
func (e *Engine) tellRestNowAndThen() {
	defer close(e.rested)
	defer host.Guard(e.log, "the log's throttle")
	ticker := time.NewTicker(logEvery)
	defer ticker.Stop()
	tune := time.NewTimer(tuneAfter)
	defer tune.Stop()
	rest := time.NewTimer(time.Hour)
	defer rest.Stop()
	for {
		select {
		case <-tune.C:
			tuneCollector()
		case <-ticker.C:
			e.checkStage()
		case <-e.heldBack:
			rest.Reset(e.restDue())
		case <-rest.C:
			e.tellRest((*throttle.Throttle).Due)
			rest.Reset(e.restDue())
		case <-e.staging.settled:
			e.configuring.Lock()
			e.sweep()
			e.configuring.Unlock()
		case <-e.rest:
			e.tellRest((*throttle.Throttle).Flush)
			return
		}
	}
}

// restDue is when the throttles next have something to log.
func (e *Engine) restDue() time.Duration { return min(e.refused.Wait(), e.dropped.Wait()) }

// tellRest logs the suppressed events of the throttles since the last line: all, or those due.
func (e *Engine) tellRest(of func(*throttle.Throttle) []throttle.Suppressed) {
	tell := func(rest []throttle.Suppressed, format string) {
		for _, r := range rest {
			name, what, ok := strings.Cut(r.Key, "\x00")
			if !ok { // the throttle had to make room
				name, what = "(several)", "for more causes than the log can keep apart"
			}
			host.Logf(e.log, host.Error, format, name, r.Count, what)
		}
	}
	tell(of(e.refused), "connection '%s': refused %d more record(s): %s")
	tell(of(e.dropped), "connection '%s': %d more record(s) %s")
}
