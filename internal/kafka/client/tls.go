package client

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"reskafka/internal/config"
)

// readTLS reads a connection's TLS files. conf is nil for a protocol without TLS; forHost completes conf. own
// is the client's certificate, or nil.
func readTLS(c *config.Connection) (conf *tls.Config, own *x509.Certificate, err error) {
	if c.SecurityProtocol != "ssl" && c.SecurityProtocol != "sasl_ssl" {
		return nil, nil, nil
	}
	conf = &tls.Config{MinVersion: tls.VersionTLS12, CipherSuites: cipherSuites(), CurvePreferences: curves}
	if c.CAFile != "" {
		roots, err := config.ReadAuthorities(c.CAFile)
		if err != nil {
			return nil, nil, fmt.Errorf("reading ssl_ca_location %s: %w", c.CAFile, withoutPath(err))
		}
		conf.RootCAs = roots
	}
	switch {
	case c.CertificateFile == "" && c.KeyFile == "":
	case c.KeyFile == "":
		return nil, nil, errors.New("ssl_certificate_location is set without ssl_key_location")
	case c.CertificateFile == "":
		return nil, nil, errors.New("ssl_key_location is set without ssl_certificate_location")
	default:
		pair, err := config.ReadCertificate(c.CertificateFile, c.KeyFile)
		if err != nil {
			return nil, nil, fmt.Errorf("reading ssl_certificate_location %s with ssl_key_location %s: %w",
				c.CertificateFile, c.KeyFile, err)
		}
		own = pair.Leaf
		// Not Certificates: Go would withhold the certificate if the broker's list of authorities lacks its
		// issuer. OpenSSL sends the certificate anyway.
		conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	}
	return conf, own, nil
}

// curves are Go's curves without post-quantum key exchange: its key shares make the first message longer than
// one TCP segment, and some middleboxes lose such a message. See docs/decisions/001-tls-key-exchange.md.
var curves = []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384, tls.CurveP521}

// cipherSuites returns the suites of TLS 1.2 in OpenSSL's default and in Go. Go's default lacks RSA key
// exchange and CBC with SHA-256, the only suites of some old brokers. Go prefers the better suites in any
// order.
func cipherSuites() []uint16 {
	var all []uint16
	for _, suite := range tls.CipherSuites() {
		all = append(all, suite.ID)
	}
	for _, suite := range tls.InsecureCipherSuites() {
		if strings.HasPrefix(suite.Name, "TLS_RSA_WITH_AES_") || strings.HasSuffix(suite.Name, "_CBC_SHA256") {
			all = append(all, suite.ID)
		}
	}
	return all
}

// withoutPath removes the name of a file from an error with the name repeated in the message.
func withoutPath(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	return err
}

// forHost returns the configuration for a connection to host; s learns whether the broker wants a
// certificate. Go checks the name against the certificate's alternative names only. OpenSSL, and therefore
// librdkafka, accepts the common name of a certificate without alternative names. For such brokers, and for
// ssl_endpoint_identification_algorithm = none, the certificate is verified here: first Go's check of the
// chain, then the name if required.
func forHost(base *tls.Config, host string, checkName bool, s *setup) *tls.Config {
	conf := base.Clone()
	conf.ServerName = host
	conf.InsecureSkipVerify = true // VerifyConnection verifies every connection
	conf.VerifyConnection = func(state tls.ConnectionState) error {
		err := verifyChain(state.PeerCertificates, base.RootCAs)
		if err == nil && checkName {
			err = verifyName(state.PeerCertificates, host)
		}
		return err
	}
	conf.GetClientCertificate = func(request *tls.CertificateRequestInfo) (*tls.Certificate, error) {
		s.asked.Store(true)
		if base.GetClientCertificate == nil {
			return &tls.Certificate{}, nil // which sends none
		}
		return base.GetClientCertificate(request)
	}
	return conf
}

func verifyChain(chain []*x509.Certificate, roots *x509.CertPool) error {
	if len(chain) == 0 {
		return errors.New("the broker sent no certificate")
	}
	leaf, options := chain[0], x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool()}
	for _, certificate := range chain[1:] {
		options.Intermediates.AddCert(certificate)
	}
	if _, err := leaf.Verify(options); err != nil {
		return &tls.CertificateVerificationError{UnverifiedCertificates: chain, Err: err}
	}
	return nil
}

func verifyName(chain []*x509.Certificate, host string) error {
	leaf := chain[0]
	if hasAlternativeNames(leaf) || !matchesCommonName(leaf.Subject.CommonName, host) {
		if err := leaf.VerifyHostname(host); err != nil {
			return &tls.CertificateVerificationError{UnverifiedCertificates: chain, Err: err}
		}
	}
	return nil
}

func hasAlternativeNames(c *x509.Certificate) bool {
	return len(c.DNSNames)+len(c.IPAddresses)+len(c.EmailAddresses)+len(c.URIs) > 0
}

// matchesCommonName compares like OpenSSL: letters in any case, and a first label of "*" for any single
// label.
func matchesCommonName(name, host string) bool {
	if name == "" || strings.EqualFold(name, host) {
		return name != ""
	}
	wild, ok := strings.CutPrefix(name, "*.")
	if !ok || !strings.Contains(wild, ".") {
		return false
	}
	first, rest, ok := strings.Cut(host, ".")
	return ok && first != "" && strings.EqualFold(wild, rest)
}
