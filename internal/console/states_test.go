package console

import (
	"strconv"
	"testing"
	"time"

	"reskafka/internal/metrics"
)

// TestStates_EachState_IsToldApart guards that a broker that swallows packets is not shown as unused, that an
// idle connection and an unneeded address are no failures, and that neither hides a failure.
func TestStates_EachState_IsToldApart(t *testing.T) {
	now := time.Now()
	before := func(d time.Duration) time.Time { return now.Add(-d) }
	up := BrokerState{Connected: true, Since: before(time.Hour), LastError: "of yesterday"}
	down := BrokerState{Since: before(time.Minute), LastError: "refused"}
	first := BrokerState{Connecting: before(5 * time.Second)}
	again := BrokerState{Connecting: before(2 * time.Second), Since: before(time.Minute), LastError: "refused"}
	idle := BrokerState{Idle: true, Since: before(3 * time.Minute), LastError: "of yesterday"}
	waking := BrokerState{Idle: true, Connecting: before(4 * time.Second), Since: before(time.Minute)}
	unneeded := BrokerState{Unneeded: true, Since: before(time.Minute), LastError: "refused"}
	const elsewhere = "not needed: the cluster is reached by other addresses"
	for _, test := range []struct {
		name   string
		states []BrokerState
		state  string
		each   []string
	}{
		{"none", nil, "not used yet", nil},
		{"up", []BrokerState{up}, "connected", []string{"connected for 1h0m"}},
		{"down", []BrokerState{down}, "not connected for 1m0s", []string{"not connected for 1m0s: refused"}},
		{"first attempt", []BrokerState{first}, "connecting for 5s", []string{"connecting for 5s"}},
		{"another attempt", []BrokerState{again}, "not connected for 1m0s", []string{"not connected for 1m0s: refused"}},
		{"idle", []BrokerState{idle}, "idle", []string{"idle for 3m0s"}},
		{"after a rest", []BrokerState{waking}, "connecting for 4s", []string{"connecting for 4s"}},
		{"up and idle", []BrokerState{up, idle}, "connected", []string{"connected for 1h0m", "idle for 3m0s"}},
		{"up and down", []BrokerState{up, down}, "connected to 1 of 2", []string{"connected for 1h0m", "not connected for 1m0s: refused"}},
		{"idle and down", []BrokerState{idle, down}, "not connected for 1m0s", []string{"idle for 3m0s", "not connected for 1m0s: refused"}},
		{"up and another that is not needed", []BrokerState{up, unneeded}, "connected", []string{"connected for 1h0m", elsewhere}},
		{"down and another that is not needed", []BrokerState{down, unneeded}, "not connected for 1m0s",
			[]string{"not connected for 1m0s: refused", elsewhere}},
	} {
		v := metrics.Of("c")
		for i, s := range test.states {
			if s.Connected {
				v.In(metrics.Broker, strconv.Itoa(i)).Add(metrics.BrokerConnected, 1)
			}
		}
		if got := stateOf(test.states, v, now); got != test.state {
			t.Errorf("%s: the connection is %q, want %q", test.name, got, test.state)
		}
		for i, s := range test.states {
			if got := s.text(now); got != test.each[i] {
				t.Errorf("%s: broker %d is %q, want %q", test.name, i, got, test.each[i])
			}
		}
	}
}
