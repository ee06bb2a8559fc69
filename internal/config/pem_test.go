package config

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf16"
)

// pairForPEM returns a self-signed certificate and its key, in DER.
func pairForPEM(t *testing.T) (certificate, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true,
		NotAfter: time.Now().Add(time.Hour),
	}
	if certificate, err = x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private); err != nil {
		t.Fatal(err)
	}
	if key, err = x509.MarshalPKCS8PrivateKey(private); err != nil {
		t.Fatal(err)
	}
	return certificate, key
}

func pemOf(label string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: label, Bytes: der})
}

func inUTF16(order binary.AppendByteOrder, text []byte) []byte {
	var out []byte
	for _, unit := range utf16.Encode([]rune(string(text))) {
		out = order.AppendUint16(out, unit)
	}
	return out
}

// withTrust appends OpenSSL's trust settings to a certificate: X509_CERT_AUX.
func withTrust(t *testing.T, certificate []byte, settings any) []byte {
	t.Helper()
	appended, err := asn1.Marshal(settings)
	if err != nil {
		t.Fatal(err)
	}
	return append(bytes.Clone(certificate), appended...)
}

var (
	serverPurpose = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 1}
	mailPurpose   = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 4}
)

// TestPEM_OddFiles_ReadOrRefusedWithReason guards files of OpenSSL or an editor in other forms than Go's PEM
// decoder expects: they are read, or the refusal names the form.
func TestPEM_OddFiles_ReadOrRefusedWithReason(t *testing.T) {
	certificate, key := pairForPEM(t)
	plain, secret := pemOf("CERTIFICATE", certificate), pemOf("PRIVATE KEY", key)
	const bom = "\ufeff"
	type purposes struct{ Trust []asn1.ObjectIdentifier }
	type refusal struct {
		Reject []asn1.ObjectIdentifier `asn1:"tag:0"`
	}
	pfx, err := asn1.Marshal(struct {
		Version int
		Content struct{ Type asn1.ObjectIdentifier }
		Padding []byte
	}{3, struct{ Type asn1.ObjectIdentifier }{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}}, make([]byte, 200)})
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		file    []byte
		refused string // empty = a certificate and the key
	}{
		"plain":                     {file: plain},
		"byte-order mark":           {file: append([]byte(bom), plain...)},
		"carriage returns":          {file: bytes.ReplaceAll(plain, []byte("\n"), []byte("\r\n"))},
		"carriage returns only":     {file: bytes.ReplaceAll(plain, []byte("\n"), []byte("\r"))},
		"text before":               {file: append([]byte("Certificate:\n    Data:\n        Version: 3 (0x2)\n"), plain...)},
		"text on the same line":     {file: append([]byte("bag "), plain...)},
		"indented":                  {file: append([]byte("  "), bytes.ReplaceAll(plain, []byte("\n"), []byte(" \n  "))...)},
		"UTF-16 with mark":          {file: inUTF16(binary.LittleEndian, append([]byte(bom), plain...))},
		"UTF-16, big, with mark":    {file: inUTF16(binary.BigEndian, append([]byte(bom), plain...))},
		"UTF-16 without mark":       {file: inUTF16(binary.LittleEndian, plain)},
		"UTF-16, big, without mark": {file: inUTF16(binary.BigEndian, plain)},
		"DER":                       {file: certificate},
		"old label":                 {file: pemOf("X509 CERTIFICATE", certificate)},
		"trusted, no settings":      {file: pemOf("TRUSTED CERTIFICATE", certificate)},
		"trusted, empty settings":   {file: pemOf("TRUSTED CERTIFICATE", withTrust(t, certificate, struct{}{}))},
		"trusted for servers": {file: pemOf("TRUSTED CERTIFICATE",
			withTrust(t, certificate, purposes{[]asn1.ObjectIdentifier{mailPurpose, serverPurpose}}))},
		"rejected for mail": {file: pemOf("TRUSTED CERTIFICATE", withTrust(t, certificate, refusal{[]asn1.ObjectIdentifier{mailPurpose}}))},
		"trusted for mail": {file: pemOf("TRUSTED CERTIFICATE", withTrust(t, certificate, purposes{[]asn1.ObjectIdentifier{mailPurpose}})),
			refused: "the certificate in it cannot be used: its trust settings do not allow server certificates"},
		"rejected for servers": {file: pemOf("TRUSTED CERTIFICATE",
			withTrust(t, certificate, refusal{[]asn1.ObjectIdentifier{serverPurpose}})), refused: "its trust settings do not allow"},
		"empty":            {file: []byte("\n"), refused: "it is empty"},
		"key":              {file: secret, refused: "it holds a private key, and no certificate"},
		"request":          {file: pemOf("CERTIFICATE REQUEST", key), refused: "it holds a request for a certificate"},
		"revocations":      {file: pemOf("X509 CRL", key), refused: "it holds a list of revoked certificates"},
		"PKCS #7":          {file: pemOf("PKCS7", key), refused: "it is in PKCS #7 format; openssl pkcs7"},
		"PKCS #12":         {file: pfx, refused: "it is in PKCS #12 format; openssl pkcs12"},
		"Java key store":   {file: []byte("\xfe\xed\xfe\xed\x00\x00\x00\x02"), refused: "it is a Java key store; keytool -exportcert"},
		"cut off":          {file: plain[:len(plain)/2], refused: "it has a BEGIN line, but the block after it is damaged"},
		"damaged contents": {file: pemOf("CERTIFICATE", certificate[:100]), refused: "the certificate in it cannot be used: malformed certificate"},
		"something else":   {file: []byte("hello\n"), refused: "no certificate in PEM format in it"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "file.pem")
			if err := os.WriteFile(path, test.file, 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := ReadAuthorities(path)
			if test.refused != "" {
				if err == nil || !strings.Contains(err.Error(), test.refused) {
					t.Errorf("error %v, want %q", err, test.refused)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			keyFile := filepath.Join(t.TempDir(), "key.pem")
			if err := os.WriteFile(keyFile, secret, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := ReadCertificate(path, keyFile); err != nil {
				t.Errorf("as a client's certificate: %v", err)
			}
		})
	}
	t.Run("joined without a line break", func(t *testing.T) {
		joined := append(bytes.TrimSuffix(plain, []byte("\n")), append([]byte(bom), plain...)...)
		if all, err := decodeCertificates(joined); len(all) != 2 || err != nil {
			t.Errorf("%d certificates, %v", len(all), err)
		}
	})
}

// TestPEM_OddKeys_ReadOrRefusedWithReason is the same for a key.
func TestPEM_OddKeys_ReadOrRefusedWithReason(t *testing.T) {
	certificate, key := pairForPEM(t)
	plain := pemOf("PRIVATE KEY", key)
	for name, test := range map[string]struct {
		file    []byte
		refused string
	}{
		"plain":           {file: plain},
		"byte-order mark": {file: append([]byte("\ufeff"), plain...)},
		"UTF-16":          {file: inUTF16(binary.LittleEndian, append([]byte("\ufeff"), plain...))},
		"DER":             {file: key},
		"after parameters": {file: append(pemOf("EC PARAMETERS", []byte{6, 8, 42, 134, 72, 206, 61, 3, 1, 7}),
			plain...)},
		"encrypted":   {file: pemOf("ENCRYPTED PRIVATE KEY", key), refused: "it is encrypted"},
		"certificate": {file: pemOf("CERTIFICATE", certificate), refused: "it holds a certificate, and no private key"},
		"public key":  {file: pemOf("PUBLIC KEY", key), refused: "it holds a public key, and no private key"},
		"cut off":     {file: plain[:40], refused: "it has a BEGIN line"},
		"empty":       {file: nil, refused: "it is empty"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := decodeKey(test.file)
			if test.refused == "" && err != nil || test.refused != "" && (err == nil || !strings.Contains(err.Error(), test.refused)) {
				t.Errorf("error %v, want %q", err, test.refused)
			}
		})
	}
}
