package client

import (
	"fmt"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/internal/host"
)

// TestLinesOfDays simulates a broker away for three days, with an attempt every second. Each attempt fails in
// a random way, from another port, and some almost succeed. Each cause has at most a line in 30 seconds, and
// no changing text creates new causes.
func TestLinesOfDays(t *testing.T) {
	w := watch(t)
	port := func(i int) int { return 1024 + i%60000 }
	failures := []func(i int){
		func(i int) { w.connect(dialError(port(i), syscall.ECONNREFUSED)) },
		func(i int) { w.connect(dialError(port(i), syscall.EHOSTUNREACH)) },
		func(i int) {
			w.connect(&net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Name: "kafka1", Server: "10.0.0.9:53",
				Err: fmt.Sprintf("read udp 10.0.0.1:%d->10.0.0.9:53: read: no route to host", port(i))}})
		},
		func(i int) {
			w.connect(&net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Name: "kafka1", IsTimeout: true,
				Err: fmt.Sprintf("read udp 10.0.0.1:%d->10.0.0.9:53: i/o timeout", port(i))}})
		},
		func(int) { w.connect(io.EOF) },
		func(int) { w.connect(kerr.SaslAuthenticationFailed) },
		func(int) { w.connect(nil); w.answer(kmsg.Metadata, io.EOF) },
		func(i int) {
			w.connect(nil)
			w.answer(kmsg.Produce, &net.OpError{Op: "read", Net: "tcp", Source: &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: port(i)},
				Addr: &net.TCPAddr{IP: net.IPv4(10, 0, 0, 2), Port: 9092}, Err: syscall.ECONNRESET})
		},
	}
	const seconds = 3 * 24 * 3600
	for i := range seconds {
		failures[i/7%len(failures)](i)
		w.at = w.at.Add(time.Second)
	}
	said := map[string]int{}
	for _, one := range w.log.Above(host.Warning) {
		said[cutAttempts(one.Text)]++
	}
	if len(said) == 0 || len(said) > len(failures) {
		t.Errorf("%d causes of %d: %v", len(said), len(failures), said)
	}
	most := int(seconds*time.Second/QuietTime) + 1
	for text, n := range said {
		if n > most {
			t.Errorf("%d lines in %d s: %s", n, seconds, text)
		}
	}
	if back := len(w.log.Above(host.Notice)) - len(w.log.Above(host.Warning)); back > len(failures)*most {
		t.Errorf("it was back %d times", back)
	}
}

// cutAttempts takes the count off a line.
func cutAttempts(text string) string {
	for i := len(text) - 1; i > 0; i-- {
		if text[i] == '(' && text[len(text)-1] == ')' {
			var n int
			if _, err := fmt.Sscanf(text[i:], "(%d attempts)", &n); err == nil {
				return text[:i-1]
			}
			break
		}
	}
	return text
}
