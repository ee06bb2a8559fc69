package kafka

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"regexp"
	"strings"
	"syscall"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// cause says in an administrator's words why a broker could not be used. What changes from one attempt to the next,
// our own port for one, is not in it: it serves as the key of the log's throttle.
func cause(err error) string {
	if alert, ok := tlsAlert(err); ok {
		return "TLS: the broker refused the handshake: " + alert + " (does it want a client certificate?)"
	}
	if _, ok := errors.AsType[*handshakeError](err); ok {
		return "TLS: " + tlsCause(err)
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		switch {
		case dns.IsNotFound:
			return "host name not found"
		case dns.IsTimeout:
			return "host name lookup timed out"
		default:
			return "host name lookup failed: " + scrub(dns.Err)
		}
	}
	for _, known := range causes {
		if errors.Is(err, known.err) {
			return known.text
		}
	}
	switch {
	case isTimeout(err):
		return "timed out"
	case strings.Contains(err.Error(), "tls alert"):
		return "it answers in TLS (is the listener's security_protocol ssl or sasl_ssl?)"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "it closed the connection at once (is the listener's security_protocol ssl or sasl?)"
	}
	if answer, ok := errors.AsType[*kerr.Error](err); ok {
		return answer.Message + ": " + answer.Description
	}
	return scrub(err.Error())
}

var causes = []struct {
	err  error
	text string
}{
	{kerr.SaslAuthenticationFailed, "SASL: wrong user name or password"},
	{kerr.UnsupportedSaslMechanism, "SASL: the broker does not offer the mechanism of sasl_mechanisms"},
	{kerr.IllegalSaslState, "SASL: the listener does not expect a login (is its security_protocol plaintext or ssl?)"},
	{syscall.ECONNREFUSED, "connection refused"},
	{syscall.ECONNRESET, "connection reset by the broker"},
	{syscall.EPIPE, "connection reset by the broker"},
	{syscall.EHOSTUNREACH, "no route to host"},
	{syscall.ENETUNREACH, "network is unreachable"},
}

// tlsAlert finds what the broker's side objects to. In TLS 1.3 it may come only after our side of the handshake is
// done, as the answer to the first request.
func tlsAlert(err error) (string, bool) {
	for e, ok := errors.AsType[*net.OpError](err); ok; e, ok = errors.AsType[*net.OpError](e.Err) {
		if e.Op == "remote error" { // crypto/tls's word for an alert
			return strings.TrimPrefix(e.Err.Error(), "tls: "), true
		}
	}
	return "", false
}

func tlsCause(err error) string {
	var (
		authority x509.UnknownAuthorityError
		name      x509.HostnameError
		invalid   x509.CertificateInvalidError
		plain     tls.RecordHeaderError
	)
	switch {
	case errors.As(err, &authority):
		return "the broker's certificate is signed by an unknown authority (see ssl_ca_location)"
	case errors.As(err, &name):
		return "the broker's certificate is for another host: " + strings.TrimPrefix(name.Error(), "x509: ")
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "the broker's certificate has expired or is not valid yet"
	case errors.As(err, &invalid):
		return "the broker's certificate is not valid: " + strings.TrimPrefix(invalid.Error(), "x509: ")
	case errors.As(err, &plain):
		return "the broker does not speak TLS on this port (is its security_protocol plaintext or sasl_plaintext?)"
	case isTimeout(err):
		return "the handshake timed out (does the broker speak TLS on this port?)"
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "the broker closed the connection during the handshake (does it speak TLS on this port?)"
	}
	handshake, _ := errors.AsType[*handshakeError](err)
	return scrub(handshake.err.Error())
}

// ownAddress is our end of a connection in the text of a network error: "read tcp 10.0.0.1:38514->10.0.0.2:9092: ...".
var ownAddress = regexp.MustCompile(`(?:\[[^\]\s]*\]|[^\s\[\]:]+):\d+->`)

// scrub takes out of a text what differs from one attempt to the next.
func scrub(text string) string { return ownAddress.ReplaceAllString(text, "") }

// ours says whether an error comes from this side giving up, which is nothing to report about a broker.
func ours(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, kgo.ErrClientClosed) || errors.Is(err, net.ErrClosed)
}
