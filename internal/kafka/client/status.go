package client

import (
	"cmp"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/internal/metrics"
)

// Status is a client's knowledge of all brokers, for the console. The zero value is ready for use. A Status
// serves one client and is safe for concurrent use.
type Status struct {
	acknowledged atomic.Int64 // when a broker last acknowledged a record, ns since 1970; 0 = never
	retried      atomic.Uint64

	facts Facts // of the connection, set before the client is used

	mtx     sync.Mutex
	brokers map[string]*broker
	failure Failure
	failed  uint64
	refused uint64
	listed  map[string]bool // the cluster's latest list of broker addresses; nil = none yet

	lasting lasting
}

// Snapshot is a copy of a Status.
type Snapshot struct {
	Brokers      []BrokerStatus // by address
	LastError    Failure        // of any broker
	Failures     uint64         // failed connections and requests
	Acknowledged time.Time      // when a broker last acknowledged a record; zero = never
	Retried      uint64         // records handed back to be tried again, counted each time
	Refused      uint64         // impossible responses and record batches

	Topics map[string]Failure // why records of a topic wait, and since when; logged reasons only
}

// BrokerStatus is the state of a broker at one moment. A broker appears with the first connection attempt.
type BrokerStatus struct {
	Address     string // host:port
	NodeID      int32  // negative while the broker is known from the configuration only
	Connected   bool
	Connections int
	Since       time.Time // start of the state Connected; zero before the end of the first attempt
	Pending     string    // the running connection attempt in words; empty = none
	Connecting  time.Time // start of the running connection attempt; zero = none
	Closed      bool      // the last attempt to connect failed; a connection of before may still be open, unused
	Idle        bool      // not connected because nothing was to be sent, and not because anything failed
	Unneeded    bool      // not connected, and the cluster has given other addresses
	LastError   Failure
	Throttled   time.Time // end of the broker's throttling; zero = none
}

// Failure is an error with its time.
type Failure struct {
	Broker string    // host:port; empty = of the cluster
	Text   string    // in words; empty = none yet
	At     time.Time // zero = none yet
}

// broker is the mutable side of BrokerStatus.
type broker struct {
	node     int32
	since    time.Time
	failure  Failure
	conns    map[net.Conn]struct{}
	gone     map[net.Conn]struct{} // closed before kgo reported their opening
	answered bool                  // a request was answered since the last connect
	attempts map[int]time.Time     // running connection attempts, with their starts
	tried    int                   // attempts so far

	down       bool      // does not work at the moment
	downSince  time.Time // start of the failure
	downIn     stage     // stage that must succeed for a recovery
	downAsking kmsg.Key  // and the request
	downKey    string    // throttle key of the last failure
	told       bool      // a line about this time being down was logged
}

// Snapshot returns the present state.
func (s *Status) Snapshot() Snapshot {
	snap := Snapshot{Retried: s.retried.Load(), Topics: s.lasting.topics()}
	if at := s.acknowledged.Load(); at != 0 {
		snap.Acknowledged = time.Unix(0, at)
	}
	s.mtx.Lock()
	defer s.mtx.Unlock()
	snap.LastError, snap.Failures, snap.Refused = s.failure, s.failed, s.refused
	for address, b := range s.brokers {
		pending := ""
		if since := b.connecting(); !since.IsZero() {
			lasts := max(time.Since(since), 0).Truncate(time.Second)
			pending = s.facts.WithAddress(address, SentenceOf(stillConnecting, lasts.String())).String()
		}
		snap.Brokers = append(snap.Brokers, BrokerStatus{
			Address:     address,
			NodeID:      b.node,
			Connected:   len(b.conns) > 0,
			Connections: len(b.conns),
			Since:       b.since,
			Pending:     pending,
			Connecting:  b.connecting(),
			Closed:      b.down && b.downIn == connecting,
			Idle:        len(b.conns) == 0 && !b.since.IsZero() && !b.down,
			Unneeded:    s.unneeded(address, b),
			LastError:   b.failure,
			Throttled:   b.throttled(),
		})
	}
	slices.SortFunc(snap.Brokers, func(a, b BrokerStatus) int { return cmp.Compare(a.Address, b.Address) })
	return snap
}

// SetAcknowledged notes when a broker last acknowledged a record.
func (s *Status) SetAcknowledged(at time.Time) { s.acknowledged.Store(at.UnixNano()) }

// AddRetried counts retried records.
func (s *Status) AddRetried(records int) { s.retried.Add(uint64(records)) }

// HasTroubles reports whether a logged trouble is not over.
func (s *Status) HasTroubles() bool { return s.lasting.some.Load() }

// HasTrouble reports whether a logged trouble about the subject is not over.
func (s *Status) HasTrouble(about string) bool { return s.lasting.has(about) }

// BeginTrouble notes a logged trouble. Hooks.Recovered logs its end.
func (s *Status) BeginTrouble(about, text string, now time.Time) { s.lasting.began(about, text, now) }

// EndTrouble forgets a trouble without a line.
func (s *Status) EndTrouble(about string) { s.lasting.ended(about) }

// Collect adds the numbers to v.
func (s Snapshot) Collect(v *metrics.Values) {
	v.Add(metrics.ResponsesRefused, s.Refused)
	v.AddTime(metrics.LastError, s.LastError.At)
	for _, b := range s.Brokers {
		switch at := v.In(metrics.Broker, b.Address); {
		case b.Connected:
			at.Add(metrics.BrokerConnected, 1)
		case !b.Unneeded:
			at.Add(metrics.BrokerConnected, 0)
		}
	}
}

// Unreachable reports whether a connection attempt has failed and no broker works.
func (s Snapshot) Unreachable() bool {
	failed := false
	for _, b := range s.Brokers {
		switch {
		case b.Unneeded:
		case b.Closed:
			failed = true
		case b.Connected:
			return false
		}
	}
	return failed
}

// Pending describes the longest running connection attempt; empty = none.
func (s Snapshot) Pending() string {
	text, since := "", time.Time{}
	for _, b := range s.Brokers {
		if b.Pending != "" && (text == "" || b.Connecting.Before(since)) {
			text, since = "broker "+b.Address+": "+b.Pending, b.Connecting
		}
	}
	return text
}

// broker returns the state of an address. Caller must hold mtx.
func (s *Status) broker(address string, node int32) *broker {
	b := s.brokers[address]
	if b == nil {
		if s.brokers == nil {
			s.brokers = map[string]*broker{}
		}
		b = &broker{node: node, conns: map[net.Conn]struct{}{}, gone: map[net.Conn]struct{}{}, attempts: map[int]time.Time{}}
		s.brokers[address] = b
	}
	if node >= 0 {
		b.node = node
	}
	return b
}

// connecting returns the start of the oldest running connection attempt.
func (b *broker) connecting() (since time.Time) {
	for _, at := range b.attempts {
		if since.IsZero() || at.Before(since) {
			since = at
		}
	}
	return since
}

// throttled is the end of the longest pause on a connection; zero = there is none.
func (b *broker) throttled() time.Time {
	longest := time.Duration(0)
	for conn := range b.conns {
		if c, ok := conn.(*Conn); ok {
			longest = max(longest, c.ThrottledFor())
		}
	}
	if longest == 0 {
		return time.Time{}
	}
	return time.Now().Add(longest)
}

// unneeded reports whether an address is no longer used: the cluster has listed other addresses. Caller must
// hold mtx.
func (s *Status) unneeded(address string, b *broker) bool {
	return s.listed != nil && !s.listed[address] && len(b.conns) == 0
}

// attempt notes the start of a connection attempt at an address. over ends the attempt and is idempotent.
func (s *Status) attempt(address string) (over func()) {
	s.mtx.Lock()
	defer s.mtx.Unlock()
	b := s.broker(address, -1)
	b.tried++
	number := b.tried
	b.attempts[number] = time.Now()
	return func() {
		s.mtx.Lock()
		defer s.mtx.Unlock()
		delete(b.attempts, number)
	}
}

// fail notes a failure. The caller holds mtx.
func (s *Status) fail(b *broker, address, text string, now time.Time) {
	b.failure = Failure{Broker: address, Text: text, At: now}
	s.failure = b.failure
	s.failed++
	if len(b.conns) == 0 && b.since.IsZero() {
		b.since = now
	}
}
