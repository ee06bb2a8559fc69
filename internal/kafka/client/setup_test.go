package client

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// scripted is a connection with a scripted peer.
type scripted struct {
	net.Conn
	io.Reader
}

func (c scripted) Read(p []byte) (int, error)  { return c.Reader.Read(p) }
func (c scripted) Write(p []byte) (int, error) { return len(p), nil }

// frame puts the length in front of body.
func frame(body []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
}

// request returns the beginning of a request with this key.
func request(key kmsg.Key) []byte {
	return frame(binary.BigEndian.AppendUint16(nil, uint16(key.Int16())))
}

// TestLoginIsOverheard checks that a broker's mechanisms are found at any split of the answer. Other answers
// pass unchanged, and later bytes are not read.
func TestLoginIsOverheard(t *testing.T) {
	refusal := kmsg.NewPtrSASLHandshakeResponse()
	refusal.ErrorCode, refusal.SupportedMechanisms = kerr.UnsupportedSaslMechanism.Code, []string{"SCRAM-SHA-512", "GSSAPI"}
	accepted := kmsg.NewPtrSASLHandshakeResponse()
	accepted.SupportedMechanisms = []string{"PLAIN"}
	answer := func(resp *kmsg.SASLHandshakeResponse) []byte { return frame(resp.AppendTo([]byte{0, 0, 0, 7})) }
	for name, test := range map[string]struct {
		key  kmsg.Key
		wire []byte
		want string
	}{
		"refused":        {kmsg.SASLHandshake, append(answer(refusal), answer(accepted)...), "GSSAPI, SCRAM-SHA-512"},
		"accepted":       {kmsg.SASLHandshake, append(answer(accepted), answer(refusal)...), ""},
		"another answer": {kmsg.ApiVersions, answer(refusal), ""},
		"cut short":      {kmsg.SASLHandshake, answer(refusal)[:12], ""},
		"garbage":        {kmsg.SASLHandshake, frame([]byte{0, 0, 0, 7, 0, 33, 0xff, 0xff, 0xff, 0xf0}), ""},
		"endless":        {kmsg.SASLHandshake, append([]byte{0x7f, 0xff, 0xff, 0xff}, answer(refusal)...), ""},
		"empty":          {kmsg.SASLHandshake, append([]byte{0, 0, 0, 0}, answer(refusal)...), ""},
	} {
		for _, size := range []int{1, 5, 1000} {
			s := &setup{Facts: Facts{mechanism: "PLAIN"}}
			conn := &loginConn{Conn: scripted{Reader: bytes.NewReader(test.wire)}, setup: s}
			if _, err := conn.Write(request(test.key)); err != nil {
				t.Fatal(err)
			}
			var got bytes.Buffer
			if _, err := io.CopyBuffer(struct{ io.Writer }{&got}, conn, make([]byte, size)); err != nil || !bytes.Equal(got.Bytes(), test.wire) {
				t.Errorf("%s by %d: %v, read %x of %x", name, size, err, got.Bytes(), test.wire)
			}
			text, _ := loginCause(kerr.UnsupportedSaslMechanism, s)
			if offers := strings.Contains(text.String(), "but "+test.want+" ("); offers != (test.want != "") {
				t.Errorf("%s by %d: %q", name, size, text)
			}
		}
	}
}

// TestCauseOfACutConnection checks the guesses about a connection that ends silently during its set-up.
func TestCauseOfACutConnection(t *testing.T) {
	reset := &net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", syscall.ECONNRESET)}
	for _, test := range []struct {
		facts Facts
		asked bool
		err   error
		want  string
	}{
		{Facts{protocol: "plaintext"}, false, io.EOF, "it closed the connection at once (is its listener's security_protocol ssl or sasl_ssl?)"},
		{Facts{protocol: "sasl_plaintext"}, false, reset, "it closed the connection at once (is its listener's security_protocol ssl or sasl_ssl?)"},
		{Facts{protocol: "ssl"}, false, io.EOF, "it closed the connection at once (the broker's log tells why)"},
		{Facts{protocol: "ssl"}, true, io.EOF, "it closed the connection at once (the broker's log tells why)"},
		{Facts{protocol: "ssl"}, true, reset, "TLS: the broker wants a client certificate and there is none (see ssl_certificate_location)"},
		{Facts{protocol: "sasl_ssl", certificate: true}, true, reset,
			"TLS: the broker refused the client certificate (see ssl_certificate_location; does the broker trust its authority?)"},
	} {
		s := &setup{Facts: test.facts}
		s.asked.Store(test.asked)
		err := DuringSetup(&Conn{setup: s}, fmt.Errorf("reading: %w", test.err))
		if got := Describe(err).String(); got != test.want || !errors.Is(err, test.err) {
			t.Errorf("%+v, %v: %q, want %q", test.facts, test.err, got, test.want)
		}
	}
}
