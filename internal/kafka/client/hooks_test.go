package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/internal/host"
	"reskafka/test/kafkatest"
)

// watched are hooks with a stopped clock.
type watched struct {
	*Hooks
	t   *testing.T
	log *kafkatest.Lines
	at  time.Time
}

func watch(t *testing.T) *watched {
	w := &watched{t: t, log: kafkatest.NewLines(), at: time.Unix(1_700_000_000, 0)}
	w.Hooks = NewHooks(kafkatest.Connection(), "records wait", w.log, &Status{}, func() time.Time { return w.at })
	return w
}

var kafka1 = kgo.BrokerMetadata{NodeID: 1, Host: "kafka1", Port: 9092}

func (w *watched) connect(err error) { w.OnBrokerConnect(kafka1, 0, nil, err) }
func (w *watched) answer(key kmsg.Key, e error) {
	w.OnBrokerE2E(kafka1, int16(key), kgo.BrokerE2E{ReadErr: e})
}

// expect checks the lines of NOTICE and above since the last call.
func (w *watched) expect(want ...string) {
	w.t.Helper()
	var got []string
	for _, one := range w.log.Above(host.Notice) {
		got = append(got, one.Text)
	}
	w.log.All = nil
	if fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
		w.t.Fatalf("lines %q\nwant  %q", got, want)
	}
}

func dialError(port int, cause error) error {
	return &net.OpError{Op: "dial", Net: "tcp", Source: &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: port},
		Addr: &net.TCPAddr{IP: net.IPv4(10, 0, 0, 2), Port: 9092}, Err: os.NewSyscallError("connect", cause)}
}

// TestLinesOfAnOutage walks through an outage: a line at once, a line per 30 s, a line at the end.
func TestLinesOfAnOutage(t *testing.T) {
	w := watch(t)
	w.connect(nil)
	w.expect() // the normal case is silent
	for i := range 10 {
		w.connect(dialError(40000+i, syscall.ECONNREFUSED))
	}
	w.expect("connection my-kafka: broker kafka1:9092 cannot be reached: connection refused (see brokers; does a broker listen on that port?); records wait")
	w.at = w.at.Add(29 * time.Second)
	w.connect(dialError(50000, syscall.ECONNREFUSED))
	w.expect()
	w.connect(dialError(50001, syscall.EHOSTUNREACH)) // another cause is another line
	w.expect("connection my-kafka: broker kafka1:9092 cannot be reached: no route to host (see brokers; is the machine up and the network between right?); records wait")
	w.at = w.at.Add(time.Second)
	w.connect(dialError(50002, syscall.ECONNREFUSED))
	w.expect("connection my-kafka: broker kafka1:9092 cannot be reached: connection refused (see brokers; does a broker listen on that port?); records wait (11 attempts)")
	w.connect(dialError(50002, syscall.ECONNREFUSED))
	w.connect(dialError(50002, syscall.ECONNREFUSED))
	w.expect()
	w.connect(nil)
	w.expect("connection my-kafka: broker kafka1:9092 is back after 30s (2 more attempts failed)")
	w.connect(nil)
	w.expect()

	// Down and back again within the 30 s: neither is told.
	w.connect(dialError(1, syscall.ECONNREFUSED))
	w.connect(nil)
	w.expect()

	snap := w.status.Snapshot()
	if snap.Failures != 16 || snap.LastError.Text != "connection refused (see brokers; does a broker listen on that port?)" || !snap.LastError.At.Equal(w.at) {
		t.Errorf("status %+v", snap)
	}
}

// TestHooks_ClosedWithinRequest_NamesNoLength checks that the written part of a request is not reported as
// the request's length.
func TestHooks_ClosedWithinRequest_NamesNoLength(t *testing.T) {
	for _, one := range []struct {
		e2e  kgo.BrokerE2E
		want string
	}{
		{kgo.BrokerE2E{BytesWritten: 1_500_000, ReadErr: io.EOF}, "a request of 1500000 bytes"},
		{kgo.BrokerE2E{BytesWritten: 1 << 20, WriteErr: os.NewSyscallError("write", syscall.ECONNRESET)}, "a request of more than 1048576 bytes"},
	} {
		w := watch(t)
		w.OnBrokerE2E(kafka1, int16(kmsg.Produce), one.e2e)
		w.expect("connection my-kafka: broker kafka1:9092 does not answer: it closed the connection after " + one.want + " (see request_max_bytes); records wait")
	}
}

var attempted = regexp.MustCompile(`\((\d+) (?:more )?attempts`)

// TestLinesOfALongOutage checks that a day without the broker takes some thirty lines, and that the lines
// count every attempt.
func TestLinesOfALongOutage(t *testing.T) {
	w := watch(t)
	const attempts = 24 * 360
	for i := range attempts {
		w.connect(dialError(i, syscall.ECONNREFUSED))
		w.at = w.at.Add(10 * time.Second)
	}
	w.connect(nil)
	told, all := 0, w.log.Above(host.Notice)
	for _, one := range all {
		n := 1
		if count := attempted.FindStringSubmatch(one.Text); count != nil {
			n, _ = strconv.Atoi(count[1])
		} else if strings.Contains(one.Text, "is back") {
			n = 0
		}
		told += n
	}
	// At 0 and 30 s, 1.5, 3.5, 8.5, 18.5 and 48.5 minutes, 108.5 and each hour from then on; and the end.
	if len(all) != 31 || told != attempts {
		t.Errorf("%d lines tell of %d attempts, want 31 of %d", len(all), told, attempts)
	}
}

// TestLinesOfASilentBroker has a broker that connects but accepts no records.
func TestLinesOfASilentBroker(t *testing.T) {
	w := watch(t)
	silent := &net.OpError{Op: "read", Net: "tcp", Err: os.ErrDeadlineExceeded}
	w.connect(nil)
	w.answer(kmsg.Metadata, nil)
	w.answer(kmsg.Produce, silent)
	w.expect("connection my-kafka: broker kafka1:9092 does not answer: timed out (see socket_timeout_ms; does the broker hang, or the network lose packets?); records wait")
	w.connect(nil)
	w.answer(kmsg.Metadata, nil)
	w.expect() // no sign of accepted records
	w.at = w.at.Add(3 * time.Second)
	w.answer(kmsg.Produce, nil)
	w.expect("connection my-kafka: broker kafka1:9092 is back after 3s")

	w.answer(kmsg.Metadata, io.EOF)
	w.expect("connection my-kafka: broker kafka1:9092 does not answer: it closed the connection before it answered; records wait")
	w.answer(kmsg.Produce, nil)
	w.expect("connection my-kafka: broker kafka1:9092 is back after 0s")

	// The connect hook logs failures of the set-up, and our own closes are no failures.
	w.answer(kmsg.ApiVersions, io.EOF)
	w.answer(kmsg.SASLAuthenticate, io.EOF)
	w.answer(kmsg.Produce, context.Canceled)
	w.answer(kmsg.Produce, &net.OpError{Op: "read", Err: net.ErrClosed})
	w.connect(kgo.ErrClientClosed)
	w.expect()

	// The first request after a connect ends the connection, as on a listener with logins.
	w.connect(nil)
	w.answer(kmsg.Metadata, io.EOF)
	w.expect("connection my-kafka: broker kafka1:9092 does not answer: it closed the connection at once" +
		" (is its listener's security_protocol sasl_plaintext?); records wait")
}

// TestEndOfReporting checks that a close reports no failure and loses no count.
func TestEndOfReporting(t *testing.T) {
	w := watch(t)
	for range 3 {
		w.connect(dialError(1, syscall.ECONNREFUSED))
	}
	w.expect("connection my-kafka: broker kafka1:9092 cannot be reached: connection refused (see brokers; does a broker listen on that port?); records wait")
	w.Close()
	w.connect(dialError(1, syscall.ECONNREFUSED))
	w.Close()
	want := "connection my-kafka: closing; 2 more attempts failed since the last line: broker kafka1:9092 connection refused (see brokers; does a broker listen on that port?)"
	if got := w.log.Above(host.Debug); len(got) != 1 || got[0].Text != want {
		t.Errorf("lines %v", got)
	}
	w.expect()
}

func TestConnectionCount(t *testing.T) {
	w := watch(t)
	state := func() BrokerStatus { return w.status.Snapshot().Brokers[0] }
	one, two := &Conn{}, &Conn{silence: 1}
	w.OnBrokerConnect(kafka1, 0, one, nil)
	opened := w.at
	w.at = w.at.Add(time.Second)
	w.OnBrokerConnect(kafka1, 0, two, nil)
	if s := state(); !s.Connected || s.Connections != 2 || !s.Since.Equal(opened) || s.NodeID != 1 || s.Address != "kafka1:9092" {
		t.Errorf("%+v", s)
	}
	w.OnBrokerDisconnect(kafka1, one)
	w.OnBrokerDisconnect(kafka1, two)
	if s := state(); s.Connected || !s.Since.Equal(w.at) {
		t.Errorf("%+v", s)
	}
	// A connection with a failed set-up is closed first and reported afterwards.
	w.OnBrokerDisconnect(kafka1, one)
	w.OnBrokerConnect(kafka1, 0, one, io.EOF)
	// So is a successful connection to an abandoned broker.
	w.OnBrokerDisconnect(kafka1, two)
	w.OnBrokerConnect(kafka1, 0, two, nil)
	if s := state(); s.Connected || len(w.status.brokers["kafka1:9092"].gone) != 0 {
		t.Errorf("%+v", s)
	}
	// The address from the configuration belongs to the same broker, and its number stays known.
	w.OnBrokerConnect(kgo.BrokerMetadata{NodeID: -1 << 31, Host: "kafka1", Port: 9092}, 0, one, nil)
	if snap := w.status.Snapshot(); len(snap.Brokers) != 1 || snap.Brokers[0].NodeID != 1 {
		t.Errorf("%+v", snap.Brokers)
	}
}

func TestCause(t *testing.T) {
	read := func(err error) error {
		return &net.OpError{Op: "read", Net: "tcp", Source: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 38514},
			Addr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9092}, Err: err}
	}
	handshake := func(err error) error { return &net.OpError{Op: "dial", Err: &HandshakeError{err: err}} }
	for _, test := range []struct {
		err  error
		want string
	}{
		{dialError(1, syscall.ECONNREFUSED), "connection refused (does a broker listen on that port?)"},
		{read(os.NewSyscallError("read", syscall.ECONNRESET)), "connection reset by the broker"},
		{read(os.ErrDeadlineExceeded), "timed out (see socket_timeout_ms; does the broker hang, or the network lose packets?)"},
		{fmt.Errorf("unable to dial: %w", &net.OpError{Op: "dial", Err: context.DeadlineExceeded}), "timed out (does it hang, or does a firewall drop packets?)"},
		{&net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: "kafka9", IsNotFound: true}}, "host name not found (can this machine resolve the name?)"},
		{&net.DNSError{Err: "no such host", Name: "kafka9", Server: "10.0.0.2", IsNotFound: true}, "host name not found by DNS server 10.0.0.2 (can this machine resolve the name?)"},
		{&net.DNSError{Err: "DNS server 10.0.0.2 did not answer", Name: "kafka9", IsTimeout: true}, "host name lookup timed out: DNS server 10.0.0.2 did not answer (see /etc/resolv.conf)"},
		{&net.DNSError{Err: "read udp 10.0.0.1:40001->10.0.0.2:53: refused", Name: "kafka9"}, "host name lookup failed: read udp 10.0.0.2:53: refused (see /etc/resolv.conf)"},
		{fmt.Errorf("%w: Authentication failed: Invalid username or password", kerr.SaslAuthenticationFailed), "SASL: unknown user or wrong password, the broker does not tell which; the broker says: Authentication failed: Invalid username or password (see sasl_username and sasl_password; write a semicolon in the password as \\;)"},
		{kerr.UnsupportedSaslMechanism, "SASL: the broker does not offer the mechanism of sasl_mechanisms (the broker's sasl.enabled.mechanisms lists its own)"},
		{read(errors.New("strange")), "read tcp 127.0.0.1:9092: strange"},
		{errors.New("read tcp [::1]:38514->[::1]:9092: strange"), "read tcp [::1]:9092: strange"},
		{handshake(errors.New("tls: first record strange")), "TLS: tls: first record strange (see security_protocol)"},
		{handshake(tls.RecordHeaderError{Msg: "first record does not look like a TLS handshake"}),
			"TLS: the broker does not speak TLS on this port (is its listener's security_protocol plaintext or sasl_plaintext?)"},
		{handshake(context.DeadlineExceeded), "TLS: the handshake timed out (does the broker speak TLS on this port? does a firewall in between stop TLS?)"},
		{handshake(io.EOF), "TLS: the broker closed the connection during the handshake (is its listener's security_protocol plaintext or sasl_plaintext?)"},
	} {
		if got := Describe(test.err).String(); got != test.want {
			t.Errorf("%v: %q, want %q", test.err, got, test.want)
		}
	}
}
