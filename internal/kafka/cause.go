package kafka

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// cause says in an administrator's words why a broker could not be used, and where to look. What changes from one
// attempt to the next, our own port for one, is not in it: it serves as the key of the log's throttle.
func cause(err error) string {
	if known, ok := errors.AsType[*explained](err); ok {
		return known.words
	}
	s := setupOf(err)
	if text, ok := tlsCause(err, s); ok {
		return "TLS: " + text
	}
	if text, ok := loginCause(err, s); ok {
		return "SASL: " + text
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
	_, settingUp := errors.AsType[*setupError](err)
	switch {
	case settingUp && cutOff(err):
		return s.cutOff(err)
	case strings.Contains(err.Error(), "tls alert"): // of kgo's guess at an answer that is none
		return "it answers in TLS (is its listener's security_protocol ssl or sasl_ssl?)"
	}
	for _, known := range causes {
		if errors.Is(err, known.err) {
			return known.text
		}
	}
	if isTimeout(err) {
		return "timed out"
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
	{syscall.ECONNREFUSED, "connection refused"},
	{syscall.ECONNRESET, "connection reset by the broker"},
	{syscall.EPIPE, "connection reset by the broker"},
	{syscall.EHOSTUNREACH, "no route to host"},
	{syscall.ENETUNREACH, "network is unreachable"},
	{io.EOF, "it closed the connection"},
	{io.ErrUnexpectedEOF, "it closed the connection"},
}

// setupOf gives what is known of the connection that failed; nothing is when it had been made before.
func setupOf(err error) *setup {
	if e, ok := errors.AsType[*setupError](err); ok {
		return e.setup
	}
	if e, ok := errors.AsType[*handshakeError](err); ok && e.setup != nil {
		return e.setup
	}
	return &setup{}
}

// cutOff says whether err is the other side ending a connection without a word.
func cutOff(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// cutOff guesses why a broker ends a connection as soon as it is there, which it does with what it cannot read. In TLS
// 1.3 a client's first request crosses the broker's objection to the certificate: closing with that unread resets the
// connection, and the reset can overtake the objection.
func (s *setup) cutOff(err error) string {
	reset := !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF)
	switch {
	case reset && s.asked.Load():
		return "TLS: " + s.refusedCertificate("")
	case strings.HasSuffix(s.protocol, "ssl"):
		return "it closed the connection at once"
	}
	return "it closed the connection at once (is its listener's security_protocol ssl or sasl_ssl?)"
}

// turnedAway guesses why a broker ends a connection at the first request, as it does when it expects a login.
func (f facts) turnedAway() string {
	switch f.protocol {
	case "plaintext":
		return "it closed the connection at once (is its listener's security_protocol sasl_plaintext?)"
	case "ssl":
		return "it closed the connection at once (is its listener's security_protocol sasl_ssl?)"
	}
	return "it closed the connection before it answered"
}

// whileAsking says more of a request that a broker did not answer, and before any other, which answered tells.
func (f facts) whileAsking(answered bool, err error) error {
	switch {
	case !answered && cutOff(err):
		return &explained{err, f.turnedAway()}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return &explained{err, "it closed the connection before it answered"}
	}
	return err
}

// loginCause explains what a broker says to a login. It does not tell an unknown user from a wrong password, so that
// nobody can find out who its users are.
func loginCause(err error, s *setup) (string, bool) {
	switch {
	case errors.Is(err, kerr.SaslAuthenticationFailed):
		text := "unknown user or wrong password, the broker does not tell which (see sasl_username and sasl_password"
		if strings.HasPrefix(s.mechanism, "SCRAM") {
			text += "; the user needs credentials for " + s.mechanism
		}
		return text + ")", true
	case errors.Is(err, kerr.UnsupportedSaslMechanism):
		if offered := s.offered.Load(); offered != nil && len(*offered) > 0 {
			names := slices.Sorted(slices.Values(*offered))
			return fmt.Sprintf("the broker does not offer %s but %s (see sasl_mechanisms)", s.mechanism, strings.Join(names, ", ")), true
		}
		return "the broker does not offer the mechanism of sasl_mechanisms", true
	case errors.Is(err, kerr.IllegalSaslState):
		return "the broker's listener expects no login (is its security_protocol " +
			strings.TrimPrefix(cmp.Or(s.protocol, "sasl_plaintext or ssl"), "sasl_") + "?)", true
	}
	return "", false
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

// refusedCertificate explains what a broker that asked for the client's certificate has against it. Java calls almost all
// that can be wrong with one "bad" or "unknown", as its version decides. alert may be empty.
func (s *setup) refusedCertificate(alert string) string {
	text := "the broker refused the client certificate"
	switch {
	case !s.certificate:
		return "the broker wants a client certificate and there is none (see ssl_certificate_location)"
	case !s.expires.IsZero() && time.Now().After(s.expires):
		return text + ", which expired on " + date(s.expires) + " (see ssl_certificate_location)"
	case alert != "" && alert != "bad certificate" && !strings.HasPrefix(alert, "unknown certificate"): // also "... authority"
		text += ": " + alert
	}
	return text + " (see ssl_certificate_location; does the broker trust its authority?)"
}

// tlsCause explains a failure of TLS.
func tlsCause(err error, s *setup) (string, bool) {
	if alert, ok := tlsAlert(err); ok {
		if s.asked.Load() {
			return s.refusedCertificate(alert), true
		}
		return "the broker refused the handshake: " + alert, true
	}
	handshake, ok := errors.AsType[*handshakeError](err)
	if !ok {
		return "", false
	}
	if text, ok := distrust(err, s); ok {
		return text, true
	}
	var plain tls.RecordHeaderError
	switch {
	case errors.As(err, &plain):
		return "the broker does not speak TLS on this port (is its listener's security_protocol plaintext or sasl_plaintext?)", true
	case isTimeout(err):
		return "the handshake timed out (does the broker speak TLS on this port?)", true
	case cutOff(err):
		return "the broker closed the connection during the handshake (is its listener's security_protocol plaintext or " +
			"sasl_plaintext?)", true
	}
	return scrub(handshake.err.Error()), true
}

// distrust explains what is wrong with a broker's certificate.
func distrust(err error, s *setup) (string, bool) {
	var (
		authority x509.UnknownAuthorityError
		name      x509.HostnameError
		invalid   x509.CertificateInvalidError
	)
	switch {
	case errors.As(err, &authority):
		// What follows tells of one that has the right name and still does not fit.
		_, more, _ := strings.Cut(authority.Error(), "unknown authority")
		if s.authorities {
			return "the broker's certificate is signed by an authority that is not in ssl_ca_location" + more, true
		}
		return "the broker's certificate is signed by an authority that this system does not know (see ssl_ca_location)" + more, true
	case errors.As(err, &name):
		return fmt.Sprintf("the broker's certificate is for another host: it names %s and not %s (see brokers, "+
			"the cluster's advertised.listeners and ssl_endpoint_identification_algorithm)", namesOf(name.Certificate), name.Host), true
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired && time.Now().Before(invalid.Cert.NotBefore):
		return "the broker's certificate is not valid before " + date(invalid.Cert.NotBefore) + " (is this machine's clock right?)", true
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "the broker's certificate expired on " + date(invalid.Cert.NotAfter), true
	case errors.As(err, &invalid):
		return "the broker's certificate is not valid: " + strings.TrimPrefix(invalid.Error(), "x509: "), true
	}
	return "", false
}

func date(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

// namesOf lists who a certificate is for. A certificate chooses what it holds, so the list has an end and goes through
// quotes where it could break a line.
func namesOf(c *x509.Certificate) string {
	const most = 5
	names := slices.Clone(c.DNSNames)
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	if len(names) == 0 && c.Subject.CommonName != "" {
		names = append(names, c.Subject.CommonName)
	}
	switch {
	case len(names) == 0:
		return "no host"
	case len(names) > most:
		names = append(names[:most], "...")
	}
	for i, name := range names {
		if quoted := strconv.QuoteToASCII(name); len(quoted) != len(name)+2 {
			names[i] = quoted
		}
	}
	return strings.Join(names, ", ")
}

// ownAddress is our end of a connection in the text of a network error: "read tcp 10.0.0.1:38514->10.0.0.2:9092: ...".
var ownAddress = regexp.MustCompile(`(?:\[[^\]\s]*\]|[^\s\[\]:]+):\d+->`)

// scrub takes out of a text what differs from one attempt to the next.
func scrub(text string) string { return ownAddress.ReplaceAllString(text, "") }

// ours says whether an error comes from this side giving up, which is nothing to report about a broker, or has been reported.
func ours(err error) bool {
	if _, told := errors.AsType[*toldError](err); told {
		return true
	}
	return errors.Is(err, context.Canceled) || errors.Is(err, kgo.ErrClientClosed) || errors.Is(err, net.ErrClosed)
}
