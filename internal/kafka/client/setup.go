package client

import (
	"encoding/binary"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/internal/config"
)

// Facts are an administrator's security settings of a connection, for explanations of refusals by a broker.
type Facts struct {
	protocol    string    // security_protocol
	mechanism   string    // of the login; empty without SASL
	authorities bool      // ssl_ca_location is set
	certificate bool      // there is a client's certificate
	expires     time.Time // which ends then
	brokers     []string  // from kafka.conf; any other address is from the cluster
}

// FactsOf returns the facts of a connection.
func FactsOf(c *config.Connection) Facts {
	f := Facts{protocol: c.SecurityProtocol, authorities: c.CAFile != "", certificate: c.CertificateFile != "", brokers: c.Brokers}
	if strings.HasPrefix(c.SecurityProtocol, "sasl_") {
		f.mechanism = c.SASLMechanism
	}
	return f
}

// setup has the facts from the set-up of a connection so far: TCP, TLS, the exchange of versions, the login.
type setup struct {
	Facts
	asked   atomic.Bool              // the broker asked for a client's certificate
	offered atomic.Pointer[[]string] // the broker's mechanisms, after its refusal of ours
}

// setupError is a failure of a connection's set-up, with the known facts.
type setupError struct {
	err   error
	setup *setup
}

func (e *setupError) Error() string { return e.err.Error() }
func (e *setupError) Unwrap() error { return e.err }

// DuringSetup adds the dialer's facts to the error of a failed set-up. conn may be nil.
func DuringSetup(conn net.Conn, err error) error {
	if c, ok := conn.(*Conn); ok && c != nil && c.setup != nil && err != nil {
		return &setupError{err, c.setup}
	}
	return err
}

// loginConn reads along a broker's answer to the choice of a SASL mechanism. A refusing broker lists its own
// mechanisms; the client library has no call for the list.
//
// The set-up of a connection alternates writes and reads. Several goroutines therefore read only the stage,
// after overheard.
type loginConn struct {
	net.Conn
	setup  *setup
	stage  loginStage
	answer []byte
}

type loginStage int

const (
	unasked   loginStage = iota // before the choice of a mechanism
	asked                       // after the choice, before the end of the answer
	overheard                   // done
)

// longestAnswer is more than any list of mechanisms takes, in bytes.
const longestAnswer = 16 << 10

// Write implements net.Conn. The client library writes each request in one call: its length in 4 bytes, then
// its key.
func (c *loginConn) Write(p []byte) (int, error) {
	if c.stage == unasked && len(p) >= 6 && kmsg.Key(binary.BigEndian.Uint16(p[4:])) == kmsg.SASLHandshake {
		c.stage = asked
	}
	return c.Conn.Write(p)
}

// Read implements net.Conn.
func (c *loginConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.stage == asked {
		c.overhear(p[:n])
	}
	return n, err
}

// overhear reads the next bytes of the answer: its length in 4 bytes, the number of the request in 4, the
// answer.
func (c *loginConn) overhear(p []byte) {
	c.answer = append(c.answer, p...)
	if len(c.answer) < 8 {
		return
	}
	length := int64(binary.BigEndian.Uint32(c.answer))
	if length > longestAnswer || length < 4 {
		c.stage = overheard
		return
	}
	if int64(len(c.answer)) < 4+length {
		return
	}
	// Versions 0 and 1 are equal here, and no others exist.
	var resp kmsg.SASLHandshakeResponse
	if resp.ReadFrom(c.answer[8:4+length]) == nil && resp.ErrorCode != 0 {
		c.setup.offered.Store(&resp.SupportedMechanisms)
	}
	c.stage, c.answer = overheard, nil
}
