package produce

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"reskafka/internal/dns"
	"reskafka/internal/host"
	"reskafka/test/kafkatest"
	"reskafka/test/nameserver"
)

// TestDial_SlowNameServer_LeavesConnectingItsTime delays the lookup by more than socket_timeout_ms: lookup
// and connection have separate limits.
func TestDial_SlowNameServer_LeavesConnectingItsTime(t *testing.T) {
	cluster := kafkatest.Broker(t, kfake.SeedTopics(1, "t"))
	_, number, _ := net.SplitHostPort(cluster.ListenAddrs()[0])
	server := nameserver.Start(t, "127.0.0.1:0", func(q nameserver.Question) nameserver.Answer {
		a := nameserver.Honest("127.0.0.1")(q)
		a.After = 1200 * time.Millisecond
		return a
	})
	c := kafkatest.Connection("kafka.example:" + number)
	c.SocketTimeout = time.Second
	p := open(t, c, nil, nil, func(tune *tuning) {
		tune.resolver = &dns.Resolver{Redirect: func(string) string { return server.Address }}
	})
	kafkatest.SendAll(t, p, kafkatest.Numbered("t", 0, 3)...)
}

// TestDial_NameServerFails_LineNamesIt checks that the log names the failed DNS server.
func TestDial_NameServerFails_LineNamesIt(t *testing.T) {
	server := nameserver.Start(t, "127.0.0.1:0", func(nameserver.Question) nameserver.Answer {
		return nameserver.Answer{Code: nameserver.ServFail}
	})
	log := kafkatest.NewLines()
	p := open(t, kafkatest.Connection("kafka.example:9092"), log, nil, func(tune *tuning) {
		tune.resolver = &dns.Resolver{Redirect: func(string) string { return server.Address }}
	})
	p.Send(kafkatest.Numbered("t", 0, 1), time.Now().Add(time.Hour), kafkatest.ExpectOutcomes(t, 1).Add)
	line := log.WaitFor(t, host.Warning, "broker kafka.example:9092 cannot be reached: host name lookup failed: DNS server ")
	if !strings.Contains(line.Text, " answered SERVFAIL (see ") {
		t.Errorf("line %q", line.Text)
	}
}
