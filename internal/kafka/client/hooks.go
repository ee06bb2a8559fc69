package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/internal/config"
	"reskafka/internal/host"
	"reskafka/internal/throttle"
)

// QuietTime is the time without further log lines for a broker's repeated failure of one cause, after the
// first line.
const QuietTime = 30 * time.Second

// stage is how far a request to a broker gets.
type stage int

const (
	connecting stage = iota // TCP, TLS, versions, login
	asking                  // a request and its answer
)

// Hooks watch one client's connections for the status and the log. kgo calls hooks from many goroutines and
// expects quick returns: at most a hook locks the status and writes a line.
type Hooks struct {
	name    string // the connection
	facts   Facts
	purpose string // the effect of a failure for the administrator: "records wait"

	log     host.Logger
	status  *Status
	lines   *throttle.Throttle
	now     func() time.Time
	closing atomic.Bool
	keys    sync.Map // by subject: the key of the last line in the throttle
	seen    seen
}

var (
	_ kgo.HookBrokerConnect    = (*Hooks)(nil)
	_ kgo.HookBrokerDisconnect = (*Hooks)(nil)
	_ kgo.HookBrokerE2E        = (*Hooks)(nil)
)

// NewHooks returns hooks for one client of connection c. purpose is the effect of a failure for the
// administrator, such as "records wait". log may be nil; status is for this client alone; now is the clock.
func NewHooks(c *config.Connection, purpose string, log host.Logger, status *Status, now func() time.Time) *Hooks {
	status.facts = FactsOf(c)
	return &Hooks{
		name: c.Name, facts: status.facts, purpose: purpose, log: log, status: status, now: now, lines: throttle.New(QuietTime, now),
	}
}

// Address returns a broker's address, host:port.
func Address(meta kgo.BrokerMetadata) string {
	return net.JoinHostPort(meta.Host, strconv.Itoa(int(meta.Port)))
}

// OnBrokerConnect implements kgo.HookBrokerConnect, called after TLS, the exchange of versions and the login.
func (h *Hooks) OnBrokerConnect(meta kgo.BrokerMetadata, _ time.Duration, conn net.Conn, err error) {
	defer host.Guard(h.log, "the account of a broker")
	addr := Address(meta)
	h.status.mtx.Lock()
	b := h.status.broker(addr, meta.NodeID)
	if err != nil {
		delete(b.gone, conn)
		h.status.mtx.Unlock()
		h.failed(addr, meta.NodeID, connecting, 0, DuringSetup(conn, err))
		return
	}
	if _, gone := b.gone[conn]; gone {
		delete(b.gone, conn)
	} else {
		if len(b.conns) == 0 {
			b.since = h.now()
		}
		b.conns[conn] = struct{}{}
	}
	b.answered = false
	h.status.mtx.Unlock()
	h.works(addr, meta.NodeID, connecting, 0)
}

// OnBrokerDisconnect implements kgo.HookBrokerDisconnect. kgo also calls it after a failed set-up, before
// OnBrokerConnect then.
func (h *Hooks) OnBrokerDisconnect(meta kgo.BrokerMetadata, conn net.Conn) {
	defer host.Guard(h.log, "the account of a broker")
	h.status.mtx.Lock()
	defer h.status.mtx.Unlock()
	b := h.status.broker(Address(meta), meta.NodeID)
	if _, open := b.conns[conn]; !open {
		b.gone[conn] = struct{}{}
		return
	}
	delete(b.conns, conn)
	if len(b.conns) == 0 {
		b.since = h.now()
	}
}

// OnBrokerE2E implements kgo.HookBrokerE2E.
func (h *Hooks) OnBrokerE2E(meta kgo.BrokerMetadata, key int16, e2e kgo.BrokerE2E) {
	defer host.Guard(h.log, "the account of a broker")
	if IsSetup(key) {
		return
	}
	if err := e2e.Err(); err != nil {
		if kmsg.Key(key) == kmsg.Produce && ConnectionLost(err) && e2e.BytesWritten >= LargeRequest {
			size := strconv.Itoa(e2e.BytesWritten)
			if e2e.WriteErr != nil { // the broker closed the connection before the request's end
				size = "more than " + size
			}
			err = WithSentence(err, closedAfterLarge, size)
		}
		h.failed(Address(meta), meta.NodeID, asking, kmsg.Key(key), err)
	} else {
		h.works(Address(meta), meta.NodeID, asking, kmsg.Key(key))
	}
}

// IsSetup reports whether a request belongs to the set-up of a connection.
func IsSetup(key int16) bool {
	switch kmsg.Key(key) {
	case kmsg.ApiVersions, kmsg.SASLHandshake, kmsg.SASLAuthenticate:
		return true
	}
	return false
}

// failed books a failure of a broker and logs it, the first of its cause at once. request counts for asking
// only.
func (h *Hooks) failed(addr string, node int32, in stage, request kmsg.Key, err error) {
	if h.closing.Load() || Expected(err) {
		return
	}
	h.seen.add(err)
	now := h.now()
	h.status.mtx.Lock()
	b := h.status.broker(addr, node)
	if in == asking {
		err = h.facts.DuringRequest(b.answered, err)
	}
	why := h.facts.WithAddress(addr, Describe(err))
	h.status.fail(b, addr, why.String(), now)
	if _, refused := errors.AsType[*refusedResponse](err); refused {
		h.status.refused++
	}
	if !b.down {
		b.down, b.downSince, b.told = true, now, false
	}
	b.downIn, b.downAsking, b.downKey = in, request, "broker "+addr+" "+why.Key()
	suppressed, ok := h.lines.Allow(b.downKey)
	b.told = b.told || ok
	h.status.mtx.Unlock()
	if !ok {
		return
	}
	what := "cannot be reached"
	if in == asking {
		what = "does not answer"
	}
	h.status.lasting.takeInherited() // this line reports it again
	host.Logf(h.log, host.Warning, "connection %s: broker %s %s: %s; %s%s", h.name, addr, what, why, h.purpose, inAttempts(suppressed))
}

// noticedThrottle is the shortest logged pause. A broker with a quota asks for shorter ones all the time.
const noticedThrottle = time.Second

// throttled implements ResponseObserver.
func (h *Hooks) throttled(addr string, pause time.Duration) {
	if pause < noticedThrottle {
		return
	}
	level, why := host.Notice, SentenceOf(pauseAsked)
	if pause > maxThrottle {
		level, why = host.Warning, SentenceOf(pauseCut, maxThrottle.String(), maxThrottle.String())
	}
	h.Log(level, addr, why, "; asked for: "+pause.Round(time.Second).String())
}

// refusedBatch implements ResponseObserver.
func (h *Hooks) refusedBatch(addr string, err error) {
	h.status.mtx.Lock()
	h.status.refused++
	h.status.mtx.Unlock()
	h.Log(host.Warning, addr, Describe(err), "")
}

// Log logs a sentence about a broker, the first at once.
func (h *Hooks) Log(level host.Level, addr string, why Sentence, more string) {
	if h.closing.Load() {
		return
	}
	if suppressed, ok := h.lines.Allow("broker " + addr + " " + why.Key()); ok {
		host.Logf(h.log, level, "connection %s: broker %s: %s%s%s", h.name, addr, why, more, times(suppressed))
	}
}

// times returns the number of failures behind a line, if more than one.
func times(suppressed int) string {
	if suppressed == 0 {
		return ""
	}
	return fmt.Sprintf(" (%d times)", suppressed+1)
}

// AddressOf returns the address of a broker by its number, or the number before any connection.
func (h *Hooks) AddressOf(node int32) string {
	h.status.mtx.Lock()
	defer h.status.mtx.Unlock()
	for addr, b := range h.status.brokers {
		if b.node == node {
			return addr
		}
	}
	return strconv.Itoa(int(node))
}

// inAttempts returns the number of attempts behind a line, if more than one.
func inAttempts(suppressed int) string {
	if suppressed == 0 {
		return ""
	}
	return fmt.Sprintf(" (%d attempts)", suppressed+1)
}

// SetLastError sets the last error of the status and counts a failure.
func (h *Hooks) SetLastError(text string) {
	h.status.mtx.Lock()
	defer h.status.mtx.Unlock()
	h.status.failure = Failure{Text: text, At: h.now()}
	h.status.failed++
}

// Report books an answer of the brokers that keeps records waiting, and logs the first answer of a cause at
// once. about is the subject, repeated by Recovered at the end of the trouble.
func (h *Hooks) Report(about string, err error) {
	if h.closing.Load() || Expected(err) {
		return
	}
	why := Describe(err)
	text := about + ": " + why.String()
	h.SetLastError(text)
	h.status.lasting.began(about, why.String(), h.now())
	key := about + ": " + why.Key()
	suppressed, ok := h.lines.Allow(key)
	if !ok {
		return
	}
	h.keys.Store(about, key)
	level := host.Warning
	if IsVerdict(err, OnTopic) || IsVerdict(err, OnTime) {
		level = host.Error
	}
	host.Logf(h.log, level, "connection %s: %s; %s%s", h.name, text, h.purpose, inAttempts(suppressed))
}

// ReportUnsent books a request that failed inside the library, before the write or after the answer, and logs
// the failure. No other hook gets such a failure. The result reports whether err is such a failure.
func (h *Hooks) ReportUnsent(about string, err error) bool {
	if err == nil || Expected(err) || errors.Is(err, context.DeadlineExceeded) || strings.Contains(err.Error(), ConnectionDied) || errors.Is(err, errEndedHere) || h.saw(err) {
		return false
	}
	if _, answered := errors.AsType[*answer](err); answered || err.Error() == unknownBroker {
		return false
	}
	h.Report(about, err)
	return true
}

// ConnectionDied is the text of the client's unexported error for a request on a connection closed by the
// client.
const ConnectionDied = "the broker connection has died and the request will be retried on a new connection"

// AskingForTopics is the subject of a metadata request that fails before the write.
const AskingForTopics = "asking for topics"

// unknownBroker is the text of the client's unexported error for a broker outside the cluster. A request for
// the partitions' new leaders is on its way then.
const unknownBroker = "unknown broker"

// seen has the last failures from the hooks.
type seen struct {
	mtx  sync.Mutex
	last [16]error
	next int
}

func (s *seen) add(err error) {
	s.mtx.Lock()
	defer s.mtx.Unlock()
	s.last[s.next%len(s.last)] = err
	s.next++
}

// saw reports whether hooks have heard of a failure.
func (h *Hooks) saw(err error) bool {
	h.seen.mtx.Lock()
	defer h.seen.mtx.Unlock()
	return slices.ContainsFunc(h.seen.last[:], func(known error) bool {
		return known != nil && (errors.Is(err, known) || errors.Is(known, err))
	})
}

// Recovered ends the trouble of a subject, with a log line if there was one.
func (h *Hooks) Recovered(about string) {
	if was, ok := h.status.lasting.ended(about); ok {
		if key, known := h.keys.LoadAndDelete(about); known {
			h.lines.Forget(key.(string))
		}
		h.sayGone(about, was)
	}
}

func (h *Hooks) sayGone(about string, was trouble) {
	host.Logf(h.log, host.Notice, "connection %s: %s works again after %s; it was: %s",
		h.name, about, h.now().Sub(was.since).Round(time.Millisecond), was.text)
}

// SetCluster stores the brokers' addresses from the cluster's list, and drops other addresses.
func (h *Hooks) SetCluster(answer *kmsg.MetadataResponse) {
	if len(answer.Brokers) == 0 {
		return
	}
	var lines []string
	h.status.mtx.Lock()
	h.status.listed = make(map[string]bool, len(answer.Brokers))
	for i := range answer.Brokers {
		b := &answer.Brokers[i]
		h.status.listed[net.JoinHostPort(b.Host, strconv.Itoa(int(b.Port)))] = true
	}
	for addr, b := range h.status.brokers {
		if !h.status.unneeded(addr, b) || len(b.attempts) > 0 {
			continue
		}
		if b.down && b.told {
			h.lines.Forget(b.downKey)
			lines = append(lines, addr)
		}
		b.down = false
		if b.node >= 0 { // its address changed, or the broker left the cluster
			delete(h.status.brokers, addr)
		}
	}
	h.status.mtx.Unlock()
	for _, addr := range lines {
		host.Logf(h.log, host.Notice, "connection %s: broker %s is not needed any more: the cluster is reached by other addresses", h.name, addr)
	}
}

// works books that a broker reached the stage, and logs the return of the broker after a logged absence.
// After a failure to answer one kind of request, the return is an answer of the same kind, or accepted
// records.
func (h *Hooks) works(addr string, node int32, in stage, request kmsg.Key) {
	now := h.now()
	if in == asking {
		if about, was := h.status.lasting.takeInherited(); about != "" {
			h.sayGone(about, was)
		}
	}
	h.status.mtx.Lock()
	b := h.status.broker(addr, node)
	if in == asking {
		b.answered = true
	}
	proves := in > b.downIn || in == b.downIn && (in == connecting || request == b.downAsking || request == kmsg.Produce)
	if !b.down || !proves {
		h.status.mtx.Unlock()
		return
	}
	b.down = false
	told, since, suppressed := b.told, b.downSince, 0
	if told {
		suppressed = h.lines.Forget(b.downKey)
	}
	h.status.mtx.Unlock()
	if !told {
		return
	}
	attempts := ""
	if suppressed > 0 {
		attempts = fmt.Sprintf(" (%d more attempts failed)", suppressed)
	}
	host.Logf(h.log, host.Notice, "connection %s: broker %s is back after %s%s",
		h.name, addr, now.Sub(since).Round(time.Millisecond), attempts)
}

// Close stops reporting and logs how many lines were left out.
func (h *Hooks) Close() {
	if h.closing.Swap(true) {
		return
	}
	for _, rest := range h.lines.Flush() {
		host.Logf(h.log, host.Debug, "connection %s: closing; %d more attempts failed since the last line: %s",
			h.name, rest.Count, rest.Key)
	}
}
