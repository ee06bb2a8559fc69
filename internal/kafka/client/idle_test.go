package client

import (
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/test/kafkatest"
)

// tcpPair returns both ends of a TCP connection, which the test's end closes.
func tcpPair(t *testing.T) (ours, theirs *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	other, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(); other.Close() })
	return conn.(*net.TCPConn), other.(*net.TCPConn)
}

// TestUsage_EndedConnection_IsSeenBeforeWriting guards acks = 0: a request on an ended connection is lost,
// even with unread bytes before the end, as with TLS.
func TestUsage_EndedConnection_IsSeenBeforeWriting(t *testing.T) {
	for name, end := range map[string]func(*net.TCPConn){
		"FIN":              func(c *net.TCPConn) { c.Close() },
		"FIN behind bytes": func(c *net.TCPConn) { _, _ = c.Write([]byte("unread")); c.Close() },
		"RST":              func(c *net.TCPConn) { _ = c.SetLinger(0); c.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			client, server := tcpPair(t)
			u := &usage{limit: time.Hour, socket: socketOf(client)}
			u.last.Store(int64(-LookAfter))
			if err := u.writing(); err != nil {
				t.Fatalf("a connection that is there: %v", err)
			}
			end(server)
			for until := time.Now().Add(kafkatest.Patience); !u.gone() && time.Now().Before(until); {
				time.Sleep(time.Millisecond)
			}
			u.last.Store(int64(-LookAfter))
			if err := u.writing(); !EndedIdle(err) || !errors.Is(err, errGone) || !Expected(err) {
				t.Errorf("an ended one: %v", err)
			}
			u.touch()
			if err := u.writing(); err != nil {
				t.Errorf("one in use: %v", err) // the end is a failure, and is reported
			}
		})
	}
}

// TestUsage_SilentConnection_IsRenewed checks that connections_max_idle_ms runs on the monotonic clock from
// the last byte in either direction, and that only the end of an idle connection is no failure of the broker.
func TestUsage_SilentConnection_IsRenewed(t *testing.T) {
	client, _ := tcpPair(t)
	u := &usage{limit: time.Minute, socket: socketOf(client)}
	u.last.Store(int64(time.Since(started) - time.Minute))
	if err := u.writing(); !errors.Is(err, errIdleTooLong) {
		t.Errorf("idle for a minute: %v", err)
	}
	u.last.Store(int64(time.Since(started) - time.Minute))
	_ = u.read(1, nil)
	if err := u.writing(); err != nil {
		t.Errorf("read just now: %v", err)
	}
	reset := &net.OpError{Op: "read", Err: syscall.ECONNRESET}
	if err := u.read(0, reset); EndedIdle(err) {
		t.Error("the end of a connection in use is taken for that of an idle one")
	}
	u.last.Store(int64(time.Since(started) - 2*LookAfter))
	if err := u.writing(); err != nil {
		t.Fatal(err)
	}
	if err := u.read(0, reset); !EndedIdle(err) || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("an end that crosses the first request after a rest: %v", err)
	}
	u.bound(7 * time.Second)
	_ = u.socket.Control(func(fd uintptr) {
		if ms, err := syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout); err != nil || ms != 7000 {
			t.Errorf("bytes may stay unacknowledged for %d ms: %v", ms, err)
		}
	})
}

// TestUsage_RefusedResponseAfterRest_IsReported checks that a response refused by this side does not count as
// an idle connection's end, which is not reported.
func TestUsage_RefusedResponseAfterRest_IsReported(t *testing.T) {
	for _, one := range []struct {
		err  error
		idle bool
	}{
		{io.EOF, true},
		{&refusedResponse{kmsg.FindCoordinator, errors.New("it has too many tags")}, false},
	} {
		u := &usage{}
		u.rested.Store(true)
		if err := u.read(0, one.err); EndedIdle(err) != one.idle || Expected(err) != one.idle || !errors.Is(err, one.err) {
			t.Errorf("%v became %v", one.err, err)
		}
	}
}
