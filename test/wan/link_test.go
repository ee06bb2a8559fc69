package wan

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"
)

// pair returns both ends of a connection through a link.
func pair(t *testing.T, oneWay time.Duration) (near, far *net.TCPConn) {
	t.Helper()
	broker, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { broker.Close() })
	link, err := New(oneWay)
	if err != nil {
		t.Fatal(err)
	}
	link.Use(broker.Addr().String())
	a, err := net.Dial("tcp", link.Address())
	if err != nil {
		t.Fatal(err)
	}
	b, err := broker.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		a.Close()
		b.Close()
		if err := link.Close(); err != nil {
			t.Error(err)
		}
	})
	return a.(*net.TCPConn), b.(*net.TCPConn)
}

// TestLink_EachDirection_DelaysBytes checks that no byte is early, and prints the measured link.
func TestLink_EachDirection_DelaysBytes(t *testing.T) {
	for _, oneWay := range []time.Duration{0, 25 * time.Millisecond, 50 * time.Millisecond} {
		q, err := Probe(oneWay, 5, 64<<20)
		if err != nil {
			t.Fatal(err)
		}
		if q.RoundTrip < 2*oneWay {
			t.Errorf("a round trip of %v on a link of %v each way", q.RoundTrip, oneWay)
		}
		t.Logf("%v each way: round trip %v, longest %v, %.0f MB/s", oneWay, q.RoundTrip, q.Longest, q.BytesPerSecond/1e6)
	}
}

// TestLink_NothingArrivesYet_TakesFurtherBytes checks that throughput does not depend on the delay: the sender
// is never blocked before the window is full.
func TestLink_NothingArrivesYet_TakesFurtherBytes(t *testing.T) {
	near, far := pair(t, 24*time.Hour)
	if _, err := near.Write(make([]byte, window)); err != nil {
		t.Fatal(err)
	}
	if err := far.SetReadDeadline(time.Now()); err != nil {
		t.Fatal(err)
	}
	if n, err := far.Read(make([]byte, 1)); n != 0 {
		t.Errorf("read %d bytes a day early, %v", n, err)
	}
}

// TestLink_ManyPackets_KeepsOrder checks the bytes of both directions, and the delayed end of each.
func TestLink_ManyPackets_KeepsOrder(t *testing.T) {
	near, far := pair(t, 2*time.Millisecond)
	want := make([]byte, 3<<20)
	for i := range want {
		want[i] = byte(i * 7 >> 8)
	}
	for _, way := range []struct{ from, to *net.TCPConn }{{near, far}, {far, near}} {
		go func() {
			for rest := want; len(rest) > 0; {
				n := min(len(rest), 1+len(rest)%5000)
				if _, err := way.from.Write(rest[:n]); err != nil {
					t.Error(err)
				}
				rest = rest[n:]
			}
			_ = way.from.CloseWrite()
		}()
		got, err := io.ReadAll(way.to)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d of %d bytes arrive, or others: %v", len(got), len(want), err)
		}
	}
}
