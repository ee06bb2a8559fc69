package apache

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"slices"
	"time"
)

// Flaw is a fault of a certificate.
type Flaw string

// The flaws.
const (
	NoFlaw    Flaw = ""
	Expired   Flaw = "expired"    // since yesterday
	WrongHost Flaw = "wrong-host" // made out to elsewhere.invalid
	UnknownCA Flaw = "unknown-ca" // signed by an unknown authority
)

// Authority signs certificates. Methods are safe for concurrent use.
type Authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// Pair is a certificate and its key, in PEM.
type Pair struct{ Certificate, Key []byte }

const day = 24 * time.Hour

// NewAuthority creates an authority.
func NewAuthority(name string) (*Authority, error) {
	a := &Authority{}
	pair, err := a.sign(x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(pair.Certificate)
	a.certificate, err = x509.ParseCertificate(block.Bytes)
	return a, err
}

// PEM is the authority's certificate.
func (a *Authority) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.certificate.Raw})
}

// Issue creates a certificate for a broker on this machine (127.0.0.1, localhost) and for a client, with a
// flaw unless NoFlaw. To brokers, a client with the certificate is User:CN=<name>.
func (a *Authority) Issue(name string, flaw Flaw) (Pair, error) {
	template := x509.Certificate{
		Subject:     pkix.Name{CommonName: name},
		DNSNames:    []string{"localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	switch flaw {
	case Expired:
		template.NotAfter = time.Now().Add(-day)
	case WrongHost:
		template.DNSNames, template.IPAddresses = []string{"elsewhere.invalid"}, nil
	case UnknownCA:
		stranger, err := NewAuthority("An unknown authority")
		if err != nil {
			return Pair{}, err
		}
		return stranger.sign(template)
	}
	return a.sign(template)
}

// sign completes a certificate. The first certificate of an authority is its own.
func (a *Authority) sign(template x509.Certificate) (Pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Pair{}, fmt.Errorf("making a key: %w", err)
	}
	if template.SerialNumber, err = rand.Int(rand.Reader, big.NewInt(1<<62)); err != nil {
		return Pair{}, fmt.Errorf("making a serial number: %w", err)
	}
	template.NotBefore = time.Now().Add(-7 * day)
	if template.NotAfter.IsZero() {
		template.NotAfter = time.Now().Add(7 * day)
	}
	if a.key == nil {
		a.certificate, a.key = &template, key
	}
	certificate, err := x509.CreateCertificate(rand.Reader, &template, a.certificate, key.Public(), a.key)
	if err != nil {
		return Pair{}, fmt.Errorf("making a certificate: %w", err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return Pair{}, fmt.Errorf("encoding a key: %w", err)
	}
	return Pair{
		Certificate: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate}),
		Key:         pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
	}, nil
}

// keyStore returns the PEM file with key and certificate of brokers with this flaw.
func (c *Cluster) keyStore(flaw Flaw) string { return c.path("etc", "broker"+string(flaw)+".pem") }

// certificates creates the authority and the listeners' certificates: files by path.
func (c *Cluster) certificates() (map[string][]byte, error) {
	var err error
	if c.authority, err = NewAuthority("The authority of this cluster"); err != nil {
		return nil, err
	}
	files := map[string][]byte{c.CAFile(): c.authority.PEM()}
	for _, l := range c.config.Listeners {
		if !l.ssl() {
			continue
		}
		pair, err := c.authority.Issue("broker", l.Flaw)
		if err != nil {
			return nil, err
		}
		files[c.keyStore(l.Flaw)] = slices.Concat(pair.Key, pair.Certificate)
	}
	return files, nil
}
