package client

import (
	"testing"
	"time"
)

// TestSnapshot_Unreachable_NeedsAFailure checks that brokers count as unreachable if a broker has failed and
// none is connected. They are reachable during the first attempt, at rest, and after a failure of an address
// no longer used by the cluster.
func TestSnapshot_Unreachable_NeedsAFailure(t *testing.T) {
	since := time.Unix(1795333900, 0)
	up, down := BrokerStatus{Connected: true, Since: since}, BrokerStatus{Since: since, Closed: true}
	left := BrokerStatus{Since: since, Connected: true, Closed: true} // with a connection unused since
	first, idle := BrokerStatus{Connecting: since}, BrokerStatus{Since: since, Idle: true}
	unneeded := BrokerStatus{Since: since, Closed: true, Unneeded: true}
	for _, test := range []struct {
		name    string
		brokers []BrokerStatus
		want    bool
	}{
		{"none", nil, false}, {"the first attempt", []BrokerStatus{first}, false}, {"down", []BrokerStatus{down}, true},
		{"up and down", []BrokerStatus{down, up}, false}, {"down, with a connection left", []BrokerStatus{left}, true},
		{"idle", []BrokerStatus{idle}, false},
		{"idle and down", []BrokerStatus{idle, down}, true}, {"unneeded", []BrokerStatus{unneeded}, false},
	} {
		if got := (Snapshot{Brokers: test.brokers}).Unreachable(); got != test.want {
			t.Errorf("%s: %t", test.name, got)
		}
	}
}
