package client

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// WithAddress adds the origin of addr to the sentence about a broker at addr.
func (f Facts) WithAddress(addr string, s Sentence) Sentence {
	switch {
	case s.row == nil || !s.row.address:
	case len(f.brokers) == 0 || slices.Contains(f.brokers, addr):
		s.from = "see brokers"
	default:
		s.from = "the cluster itself gives this address: see advertised.listeners of its brokers"
	}
	return s
}

// Describe returns the sentence of a failure, without details that change between attempts, for example our
// port.
func Describe(err error) Sentence {
	if known, ok := errors.AsType[*described](err); ok {
		return known.Sentence
	}
	if known, ok := errors.AsType[*answer](err); ok {
		return known.sentence()
	}
	if refused, ok := errors.AsType[*refusedResponse](err); ok {
		return refused.sentence()
	}
	s := setupOf(err)
	if found, ok := tlsCause(err, s); ok {
		return found
	}
	if found, ok := loginCause(err, s); ok {
		return found
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		switch {
		case dns.IsNotFound && dns.Server != "":
			return SentenceOf(hostNotFoundBy, dns.Server)
		case dns.IsNotFound:
			return SentenceOf(hostNotFound)
		case dns.IsTimeout:
			return SentenceOf(lookupTimedOut, scrub(dns.Err))
		}
		return SentenceOf(lookupFailed, scrub(dns.Err))
	}
	_, settingUp := errors.AsType[*setupError](err)
	switch {
	case settingUp && cutOff(err):
		return s.cutOff(err)
	case strings.Contains(err.Error(), "tls alert"): // of kgo's interpretation of an invalid answer
		return SentenceOf(answersInTLS)
	case IsTimeout(err) && dialing(err):
		return SentenceOf(connectTimedOut)
	case IsTimeout(err):
		return SentenceOf(answerTimedOut)
	}
	if code, ok := errors.AsType[*kerr.Error](err); ok {
		return (&answer{err: code, said: messageIn(err, code)}).sentence()
	}
	if row := rowOf(err, ""); row != nil {
		return Sentence{row: row}
	}
	return Sentence{row: &words{cause: "%s"}, args: []any{scrub(err.Error())}}
}

// dialing reports whether err is of the attempt to connect.
func dialing(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "dial"
}

// setupOf returns the known facts of the failed connection; after a finished set-up there are none.
func setupOf(err error) *setup {
	if e, ok := errors.AsType[*setupError](err); ok {
		return e.setup
	}
	if e, ok := errors.AsType[*HandshakeError](err); ok && e.setup != nil {
		return e.setup
	}
	return &setup{}
}

// cutOff reports whether err means that the other side ended a connection without an answer.
func cutOff(err error) bool {
	if _, refused := errors.AsType[*refusedResponse](err); refused { // ended by us, in spite of its text
		return false
	}
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// cutOff guesses why a broker ends a new connection, the usual reaction to unreadable bytes. In TLS 1.3 a
// client's first request crosses the broker's alert about the certificate. The broker closes with the request
// unread, which resets the connection, and the reset can overtake the alert.
func (s *setup) cutOff(err error) Sentence {
	reset := !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF)
	switch {
	case reset && s.asked.Load():
		return s.refusedCertificate("")
	case strings.HasSuffix(s.protocol, "ssl"):
		return SentenceOf(closedAtOnce)
	}
	return SentenceOf(closedAtOncePlain)
}

// turnedAway guesses why a broker ends a connection at the first request, the usual reaction without an
// expected login.
func (f Facts) turnedAway() Sentence {
	switch f.protocol {
	case "plaintext", "ssl":
		return SentenceOf(closedBeforeLogin, "sasl_"+f.protocol)
	}
	return SentenceOf(closedUnanswered)
}

// DuringRequest adds an explanation to an unanswered request. answered reports whether the broker had
// answered an earlier request.
func (f Facts) DuringRequest(answered bool, err error) error {
	if _, refused := errors.AsType[*refusedResponse](err); refused {
		return err
	}
	_, known := errors.AsType[*described](err)
	switch {
	case known:
	case !answered && cutOff(err):
		return &described{f.turnedAway(), err}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return WithSentence(err, closedUnanswered)
	}
	return err
}

// loginCause explains a broker's answer to a login. For the broker's safety, the answer is the same for an
// unknown user and a wrong password.
func loginCause(err error, s *setup) (found Sentence, ok bool) {
	code, _ := errors.AsType[*kerr.Error](err)
	switch code {
	case kerr.SaslAuthenticationFailed:
		found = SentenceOf(wrongPassword)
		if strings.HasPrefix(s.mechanism, "SCRAM") {
			found = SentenceOf(wrongPasswordSCRAM, s.mechanism)
		}
	case kerr.UnsupportedSaslMechanism:
		found = SentenceOf(mechanismRefused)
		if offered := s.offered.Load(); offered != nil && len(*offered) > 0 {
			names := slices.Sorted(slices.Values(*offered))
			found = SentenceOf(otherMechanisms, s.mechanism, strings.Join(names, ", "))
		}
	case kerr.IllegalSaslState:
		found = SentenceOf(noLoginExpected, strings.TrimPrefix(cmp.Or(s.protocol, "sasl_plaintext or ssl"), "sasl_"))
	default:
		return Sentence{}, false
	}
	found.said = messageIn(err, code)
	return found, true
}

// tlsAlert returns the alert of the broker. In TLS 1.3 an alert may arrive only after our side of the
// handshake, as the answer to the first request.
func tlsAlert(err error) (string, bool) {
	for e, ok := errors.AsType[*net.OpError](err); ok; e, ok = errors.AsType[*net.OpError](e.Err) {
		if e.Op == "remote error" { // crypto/tls's word for an alert
			return strings.TrimPrefix(e.Err.Error(), "tls: "), true
		}
	}
	return "", false
}

// refusedCertificate explains a broker's refusal of a requested client certificate. Java calls almost every
// cause "bad" or "unknown", depending on the version. alert may be empty.
func (s *setup) refusedCertificate(alert string) Sentence {
	switch {
	case !s.certificate:
		return SentenceOf(certificateWanted)
	case !s.expires.IsZero() && time.Now().After(s.expires):
		return SentenceOf(certificateExpired, date(s.expires))
	case alert != "" && alert != "bad certificate" && !strings.HasPrefix(alert, "unknown certificate"): // also "... authority"
		return SentenceOf(certificateRefused, ": "+alert)
	}
	return SentenceOf(certificateRefused, "")
}

// alerts maps the alerts, in the words of crypto/tls, to rows.
var alerts = map[string]Situation{
	"handshake failure":              sharesNothing,
	"insufficient security level":    tooWeak,
	"protocol version not supported": otherVersions,
	"unrecognized name":              nameUnrecognized,
}

// tlsCause explains a failure of TLS.
func tlsCause(err error, s *setup) (found Sentence, ok bool) {
	if alert, ok := tlsAlert(err); ok {
		if s.asked.Load() {
			return s.refusedCertificate(alert), true
		}
		if known, ok := alerts[alert]; ok {
			return SentenceOf(known, alert), true
		}
		return SentenceOf(handshakeRefused, alert), true
	}
	handshake, ok := errors.AsType[*HandshakeError](err)
	if !ok {
		return Sentence{}, false
	}
	if found, ok := distrust(err, s); ok {
		return found, true
	}
	var plain tls.RecordHeaderError
	switch {
	case errors.As(err, &plain):
		return SentenceOf(notTLS), true
	case IsTimeout(err):
		return SentenceOf(handshakeTimedOut), true
	case cutOff(err):
		return SentenceOf(handshakeCutOff), true
	}
	if _, why, ok := strings.Cut(handshake.err.Error(), "failed to parse certificate from server: "); ok {
		return SentenceOf(certificateUnreadable, strings.TrimPrefix(why, "x509: ")), true
	}
	return SentenceOf(handshakeFailed, scrub(handshake.err.Error())), true
}

// distrust explains a fault of a broker's certificate.
func distrust(err error, s *setup) (found Sentence, ok bool) {
	var (
		authority x509.UnknownAuthorityError
		name      x509.HostnameError
		invalid   x509.CertificateInvalidError
	)
	switch {
	case weakSignature(err) != "":
		return SentenceOf(weakDigest, weakSignature(err)), true
	case errors.As(err, &authority):
		// The rest of the text is about a candidate with the right name that does not fit.
		_, more, _ := strings.Cut(authority.Error(), "unknown authority")
		if s.authorities {
			return SentenceOf(authorityNotInFile, more), true
		}
		return SentenceOf(authorityUnknown, more), true
	case errors.As(err, &name) && net.ParseIP(name.Host) != nil && slices.Contains(name.Certificate.DNSNames, name.Host):
		return SentenceOf(addressAsName, name.Host, name.Host), true
	case errors.As(err, &name):
		return SentenceOf(otherHost, namesOf(name.Certificate), name.Host), true
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired && time.Now().Before(invalid.Cert.NotBefore):
		return SentenceOf(notValidYet, date(invalid.Cert.NotBefore)), true
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return SentenceOf(serverExpired, date(invalid.Cert.NotAfter)), true
	case errors.As(err, &invalid):
		return SentenceOf(certificateNotValid, strings.TrimPrefix(invalid.Error(), "x509: ")), true
	}
	return Sentence{}, false
}

// weakSignature returns the digest of a signature in the broker's chain that Go refuses; else "".
func weakSignature(err error) string {
	refused, ok := errors.AsType[*tls.CertificateVerificationError](err)
	if !ok || !strings.Contains(err.Error(), "insecure algorithm") {
		return ""
	}
	for _, certificate := range refused.UnverifiedCertificates {
		switch certificate.SignatureAlgorithm {
		case x509.SHA1WithRSA, x509.ECDSAWithSHA1, x509.DSAWithSHA1:
			return "SHA-1"
		case x509.MD5WithRSA, x509.MD2WithRSA:
			return "MD5"
		}
	}
	return ""
}

func date(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

// namesOf lists the names of a certificate. The certificate chooses its names, so the list has a limit.
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
	return strings.Join(names, ", ")
}

// ownAddress is our end of a connection in the text of a network error: "read tcp 10.0.0.1:38514->10.0.0.2:9092: ...".
var ownAddress = regexp.MustCompile(`(?:\[[^\]\s]*\]|[^\s\[\]:]+):\d+->`)

// scrub removes the parts of a text that differ between attempts.
func scrub(text string) string { return ownAddress.ReplaceAllString(text, "") }

// Expected reports whether an error is nothing to report about a broker: this side gave up, or the connection was idle.
func Expected(err error) bool {
	return EndedIdle(err) || errors.Is(err, context.Canceled) || errors.Is(err, kgo.ErrClientClosed) || errors.Is(err, net.ErrClosed)
}

// LargeRequest is the length of a request, in bytes, that may make a broker close the connection. After a
// shorter request a broker has another reason.
const LargeRequest = 64 << 10

// ConnectionLost reports whether the other side ended a connection, also if the library noticed the end
// during a write.
func ConnectionLost(err error) bool {
	return cutOff(err) || errors.Is(err, net.ErrClosed) || strings.Contains(err.Error(), ConnectionDied)
}
