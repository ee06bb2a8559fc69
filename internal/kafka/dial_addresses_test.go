package kafka

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"reskafka/internal/dns"
	"reskafka/internal/host"
	"reskafka/test/nameserver"
	"reskafka/test/port"
)

// TestDial_SlowNameServer_LeavesConnectingItsTime gives the lookup longer than socket_timeout_ms: the two share no time.
func TestDial_SlowNameServer_LeavesConnectingItsTime(t *testing.T) {
	cluster := fakeBroker(t, kfake.SeedTopics(1, "t"))
	_, number, _ := net.SplitHostPort(cluster.ListenAddrs()[0])
	server := nameserver.Start(t, "127.0.0.1:0", func(q nameserver.Question) nameserver.Answer {
		a := nameserver.Honest("127.0.0.1")(q)
		a.After = 1200 * time.Millisecond
		return a
	})
	c := connection("kafka.example:" + number)
	c.SocketTimeout = time.Second
	p := open(t, c, nil, nil, func(tune *tuning) {
		tune.resolver = &dns.Resolver{Redirect: func(string) string { return server.Address }}
	})
	sendAll(t, p, numbered("t", 0, 3)...)
}

// TestDial_NameServerFails_LineNamesIt checks that the log tells which DNS server to look at.
func TestDial_NameServerFails_LineNamesIt(t *testing.T) {
	server := nameserver.Start(t, "127.0.0.1:0", func(nameserver.Question) nameserver.Answer {
		return nameserver.Answer{Code: nameserver.ServFail}
	})
	log := newLines()
	p := open(t, connection("kafka.example:9092"), log, nil, func(tune *tuning) {
		tune.resolver = &dns.Resolver{Redirect: func(string) string { return server.Address }}
	})
	p.Send(numbered("t", 0, 1), time.Now().Add(time.Hour), expectOutcomes(t, 1).add)
	line := log.waitFor(t, host.Warning, "broker kafka.example:9092 cannot be reached: host name lookup failed: DNS server ")
	if !strings.Contains(line.text, " answered SERVFAIL (see ") {
		t.Errorf("line %q", line.text)
	}
}

// TestDial_FirstAddressSwallowsPackets_NextIsTried connects to a host of which one address does not answer.
func TestDial_FirstAddressSwallowsPackets_NextIsTried(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	swallowed := make(chan struct{})
	d := &dialer{net: net.Dialer{ControlContext: func(ctx context.Context, _, address string, _ syscall.RawConn) error {
		if strings.HasPrefix(address, "127.0.0.2:") {
			<-ctx.Done()
			close(swallowed)
		}
		return ctx.Err()
	}}}
	addrs := []netip.Addr{netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("127.0.0.1")}
	conn, err := d.connectAny(t.Context(), "tcp", addrs, strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	<-swallowed // the other attempt ends with the first success
}

// TestDial_AllRefuse_ReturnsFirstError checks the error of a host at which nobody listens.
func TestDial_AllRefuse_ReturnsFirstError(t *testing.T) {
	free, err := port.Reserve()
	if err != nil {
		t.Fatal(err)
	}
	defer free.Close()
	_, number, _ := net.SplitHostPort(free.Address())
	addrs := []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.1")}
	if conn, err := (&dialer{}).connectAny(t.Context(), "tcp", addrs, number); conn != nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("%v, %v", conn, err)
	}
}

func TestAlternating(t *testing.T) {
	parse := func(texts ...string) (addrs []netip.Addr) {
		for _, text := range texts {
			addrs = append(addrs, netip.MustParseAddr(text))
		}
		return addrs
	}
	for _, test := range []struct{ in, want []netip.Addr }{
		{parse("::1", "::2", "::3", "10.0.0.1"), parse("::1", "10.0.0.1", "::2", "::3")},
		{parse("10.0.0.1", "::1", "::2", "::3"), parse("10.0.0.1", "::1", "::2", "::3")},
		{parse("10.0.0.1", "10.0.0.2", "::1", "::2"), parse("10.0.0.1", "::1", "10.0.0.2", "::2")},
		{parse("10.0.0.1"), parse("10.0.0.1")},
	} {
		if got := alternating(test.in); !slices.Equal(got, test.want) {
			t.Errorf("%v: %v, want %v", test.in, got, test.want)
		}
	}
}
