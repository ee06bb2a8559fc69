// Package openssl puts OpenSSL's TLS server in front of a test's broker. Go's server cannot imitate some
// habits: RSA key exchange only, DHE only, unusual curves, weak signatures.
package openssl

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"reskafka/test/child"
)

// patience is a server's time to listen; only a failing test reaches the limit.
const patience = 15 * time.Second

// Run runs the openssl command with args in folder, and skips the test where there is no such command.
func Run(t *testing.T, folder string, args ...string) {
	t.Helper()
	path, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("skipped: the openssl command is not installed")
	}
	cmd := exec.Command(path, args...)
	cmd.Dir = folder
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("openssl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// Listen returns a function for kfake.ListenFn. Each connection gets its own s_server with args, which
// decrypts for the broker. Listen skips the test without the openssl command.
func Listen(t *testing.T, args ...string) func(network, address string) (net.Listener, error) {
	t.Helper()
	path, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("skipped: the openssl command is not installed")
	}
	return func(network, address string) (net.Listener, error) {
		inner, err := net.Listen(network, address)
		if err != nil {
			return nil, err
		}
		folder, err := os.MkdirTemp("", "s_server") // the path of a socket has at most 107 bytes
		if err != nil {
			inner.Close()
			return nil, err
		}
		t.Cleanup(func() { _ = os.RemoveAll(folder) })
		return &listener{Listener: inner, t: t, path: path, folder: folder, args: args}, nil
	}
}

type listener struct {
	net.Listener
	t      *testing.T
	path   string
	folder string
	args   []string
	count  int
}

// Accept implements net.Listener. The broker calls Accept from one goroutine.
func (l *listener) Accept() (net.Conn, error) {
	for {
		outer, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		l.count++
		socket := filepath.Join(l.folder, strconv.Itoa(l.count))
		if conn, err := l.serve(outer, socket); err == nil {
			return conn, nil
		} else {
			l.t.Logf("s_server: %v", err)
			outer.Close()
		}
	}
}

// serve starts an s_server for a connection and returns the decrypted side.
func (l *listener) serve(outer net.Conn, socket string) (net.Conn, error) {
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "broker"), os.NewFile(uintptr(pair[1]), "s_server")
	defer ours.Close()
	defer theirs.Close()
	cmd := exec.Command(l.path, append([]string{"s_server", "-quiet", "-naccept", "1", "-unix", socket}, l.args...)...)
	var words bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = theirs, theirs, &words
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	ended := make(chan struct{})
	if err := child.Start(cmd, func(error) { close(ended) }); err != nil {
		return nil, err
	}
	end := sync.OnceFunc(func() { _ = cmd.Process.Kill(); <-ended })
	l.t.Cleanup(end)
	encrypted, err := dial(socket, ended)
	if err != nil {
		end()
		return nil, fmt.Errorf("%w: %s", err, words.String())
	}
	plain, err := net.FileConn(ours)
	if err != nil {
		end()
		return nil, err
	}
	go carry(encrypted, outer)
	go carry(outer, encrypted)
	return &conn{Conn: plain, outer: outer, end: end}, nil
}

func dial(socket string, ended <-chan struct{}) (net.Conn, error) {
	for limit := time.Now().Add(patience); ; {
		c, err := net.Dial("unix", socket)
		if err == nil || time.Now().After(limit) {
			return c, err
		}
		select {
		case <-ended:
			return nil, err
		case <-time.After(2 * time.Millisecond):
		}
	}
}

func carry(to, from net.Conn) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			if _, err := to.Write(buffer[:n]); err != nil {
				break
			}
		}
		if err != nil {
			break
		}
	}
	to.Close()
	from.Close()
}

// conn is the decrypted side, with the addresses of the encrypted side.
type conn struct {
	net.Conn
	outer net.Conn
	end   func()
}

func (c *conn) LocalAddr() net.Addr  { return c.outer.LocalAddr() }
func (c *conn) RemoteAddr() net.Addr { return c.outer.RemoteAddr() }

// Close implements net.Conn. s_server ignores the end of its input.
func (c *conn) Close() error {
	err := c.Conn.Close()
	c.end()
	return err
}
