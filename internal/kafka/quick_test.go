package kafka

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// quickPair is a quick connection and its other end.
func quickPair(t *testing.T) (ours, other *net.TCPConn, q net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	a, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); a.Close() })
	return c.(*net.TCPConn), a.(*net.TCPConn), quick(c)
}

func TestQuickConnCarriesBytesOfAllLengths(t *testing.T) {
	_, other, q := quickPair(t)
	if _, ok := q.(*quickConn); !ok {
		t.Fatalf("a TCP connection is %T", q)
	}
	var sent bytes.Buffer
	for n := range 200 {
		sent.Write(bytes.Repeat([]byte{byte(n)}, 1+n*n%(3*quickMost)))
	}
	go func() { // more than the kernel holds, so that writing has to wait
		rest := sent.Bytes()
		for n := 1; len(rest) > 0; n += 997 {
			n := min(1+n%quickMost, len(rest))
			if wrote, err := q.Write(rest[:n]); wrote != n || err != nil {
				t.Errorf("writing %d bytes: %d, %v", n, wrote, err)
			}
			rest = rest[n:]
		}
	}()
	got := make([]byte, sent.Len())
	if _, err := io.ReadFull(other, got); err != nil || !bytes.Equal(got, sent.Bytes()) {
		t.Fatalf("the other end did not get what was written: %v", err)
	}
	go func() {
		_, _ = other.Write(got)
		_ = other.CloseWrite()
	}()
	if back, err := io.ReadAll(q); err != nil || !bytes.Equal(back, got) {
		t.Fatalf("%d of %d bytes came back: %v", len(back), len(got), err)
	}
}

func TestQuickConnFailsAsTheNetDoes(t *testing.T) {
	for name, do := range map[string]func(c net.Conn, other *net.TCPConn) error{
		"a read's deadline": func(c net.Conn, _ *net.TCPConn) error {
			_ = c.SetReadDeadline(time.Now().Add(time.Millisecond))
			_, err := c.Read(make([]byte, 10))
			return err
		},
		"a write's deadline": func(c net.Conn, _ *net.TCPConn) error {
			_ = c.SetWriteDeadline(time.Now().Add(20 * time.Millisecond))
			for {
				if _, err := c.Write(make([]byte, 1000)); err != nil {
					return err
				}
			}
		},
		"the other end is closed": func(c net.Conn, other *net.TCPConn) error {
			_ = other.Close()
			_, err := c.Read(make([]byte, 10))
			return err
		},
		"a reset": func(c net.Conn, other *net.TCPConn) error {
			_ = other.SetLinger(0)
			_ = other.Close()
			_, err := c.Read(make([]byte, 10))
			return err
		},
		"closed by us while reading": func(c net.Conn, _ *net.TCPConn) error {
			time.AfterFunc(time.Millisecond, func() { _ = c.Close() })
			_, err := c.Read(make([]byte, 10))
			return err
		},
		"writing when closed": func(c net.Conn, _ *net.TCPConn) error {
			_ = c.Close()
			_, err := c.Write([]byte("late"))
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			plain, otherOfPlain, _ := quickPair(t)
			_, otherOfQuick, q := quickPair(t)
			want, got := do(plain, otherOfPlain), do(q, otherOfQuick)
			for _, is := range []error{io.EOF, os.ErrDeadlineExceeded, net.ErrClosed} {
				if errors.Is(want, is) != errors.Is(got, is) {
					t.Errorf("%v, where the net says %v", got, want)
				}
			}
			w, wrapped := errors.AsType[*net.OpError](want)
			g, too := errors.AsType[*net.OpError](got)
			if wrapped != too || wrapped && (w.Op != g.Op || w.Timeout() != g.Timeout() || w.Err.Error() != g.Err.Error()) {
				t.Errorf("%v, where the net says %v", got, want)
			}
		})
	}
}
