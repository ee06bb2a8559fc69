package configtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Keys writes certificates and keys into a new folder and returns its path:
//
//	ca.pem                   an authority
//	authorities/             a folder with the authority and an unrelated file
//	client.pem, client.key   a certificate and its key
//	expired.pem, expired.key the same, no longer valid
//	encrypted.key            a key with a passphrase
//	garbage.pem              text that is no PEM
//	empty/                   an empty folder
func Keys(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	write := func(name string, text []byte) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ca, _ := pair(t, time.Now().Add(time.Hour))
	write("ca.pem", ca)
	write("authorities/ca.pem", ca)
	write("authorities/README", []byte("keys"))
	certificate, key := pair(t, time.Now().Add(time.Hour))
	write("client.pem", certificate)
	write("client.key", key)
	certificate, key = pair(t, time.Now().Add(-time.Hour))
	write("expired.pem", certificate)
	write("expired.key", key)
	write("encrypted.key", pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte("sealed")}))
	write("garbage.pem", []byte("not a certificate\n"))
	if err := os.Mkdir(filepath.Join(dir, "empty"), 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

// pair returns a self-signed certificate and its key.
func pair(t testing.TB, until time.Time) (certificate, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "test"},
		NotBefore:    until.Add(-2 * time.Hour),
		NotAfter:     until,
		IsCA:         true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: sealed})
}
