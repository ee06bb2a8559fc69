package config

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"slices"
	"strings"
	"unicode/utf16"
)

// pemText rewrites the text of a PEM file for pem.Decode. Editors and shells leave byte-order marks, UTF-16,
// carriage returns, indentation, and joined files without a line break.
func pemText(raw []byte) []byte {
	if order := utf16Order(raw); order != nil {
		units := make([]uint16, len(raw)/2)
		for i := range units {
			units[i] = order.Uint16(raw[2*i:])
		}
		raw = []byte(string(utf16.Decode(units)))
	}
	raw = bytes.ReplaceAll(raw, []byte("\ufeff"), nil) // also inside, of joined files
	raw = bytes.ReplaceAll(raw, []byte("\r"), []byte("\n"))
	raw = bytes.ReplaceAll(raw, []byte("-----BEGIN "), []byte("\n-----BEGIN "))
	lines := bytes.Split(raw, []byte("\n"))
	for i, line := range lines {
		lines[i] = bytes.Trim(line, " \t\f\v")
	}
	return bytes.Join(lines, []byte("\n"))
}

// utf16Order returns the byte order of a text in UTF-16, or nil for another text.
func utf16Order(raw []byte) binary.ByteOrder {
	begin := bytes.Index(raw, []byte("-\x00B\x00E\x00G\x00I\x00N")) // in either order
	switch {
	case bytes.HasPrefix(raw, []byte{0xff, 0xfe}):
		return binary.LittleEndian
	case bytes.HasPrefix(raw, []byte{0xfe, 0xff}):
		return binary.BigEndian
	case begin < 0:
		return nil
	case begin%2 == 0:
		return binary.LittleEndian
	}
	return binary.BigEndian
}

// decodeCertificates returns the certificates of a PEM or DER file. An error has the reason for none.
func decodeCertificates(raw []byte) ([]*x509.Certificate, error) {
	if isDER(raw) {
		all, err := x509.ParseCertificates(raw)
		if err != nil {
			return nil, notCertificates(raw, nil, err)
		}
		return all, nil
	}
	var (
		out     []*x509.Certificate
		others  []string
		failure error
	)
	text := pemText(raw)
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		der := block.Bytes
		var err error
		switch block.Type {
		case "CERTIFICATE", "X509 CERTIFICATE":
		case "TRUSTED CERTIFICATE":
			der, err = trustedCertificate(der)
		default:
			others = append(others, block.Type)
			continue
		}
		var certificate *x509.Certificate
		if err == nil {
			certificate, err = x509.ParseCertificate(der)
		}
		if err != nil {
			failure = err
			continue // a system's bundle may include certificates that Go refuses
		}
		out = append(out, certificate)
	}
	if len(out) == 0 {
		return nil, notCertificates(text, others, failure)
	}
	return out, nil
}

func isDER(raw []byte) bool { return len(raw) > 4 && raw[0] == 0x30 && raw[1] >= 0x80 }

// certificateTrust is OpenSSL's appendix to a certificate with the label TRUSTED CERTIFICATE: X509_CERT_AUX.
type certificateTrust struct {
	Trust  []asn1.ObjectIdentifier `asn1:"optional"`
	Reject []asn1.ObjectIdentifier `asn1:"optional,tag:0"`
}

// trustedCertificate returns the certificate of a block with the label TRUSTED CERTIFICATE, if OpenSSL would
// trust it to certify a server.
func trustedCertificate(block []byte) ([]byte, error) {
	var certificate, appended asn1.RawValue
	rest, err := asn1.Unmarshal(block, &certificate)
	if err != nil || len(rest) == 0 {
		return certificate.FullBytes, err
	}
	if _, err = asn1.Unmarshal(rest, &appended); err != nil {
		return nil, err
	}
	if len(appended.Bytes) == 0 { // no settings: trusted for everything
		return certificate.FullBytes, nil
	}
	var trust certificateTrust
	if _, err = asn1.Unmarshal(rest, &trust); err != nil {
		return nil, err
	}
	server := func(purpose asn1.ObjectIdentifier) bool {
		return purpose.Equal(asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 1}) || // serverAuth
			purpose.Equal(asn1.ObjectIdentifier{2, 5, 29, 37, 0}) // anyExtendedKeyUsage
	}
	if slices.ContainsFunc(trust.Reject, server) || len(trust.Trust) > 0 && !slices.ContainsFunc(trust.Trust, server) {
		return nil, errors.New("its trust settings do not allow server certificates; openssl x509 -in FILE -out NEWFILE" +
			" writes it without them")
	}
	return certificate.FullBytes, nil
}

// foreignFormats are unsupported file formats for certificates and keys.
var foreignFormats = []struct {
	begins string
	words  string
}{
	{"\xfe\xed\xfe\xed", "a Java key store; keytool -exportcert -rfc -keystore FILE -alias ALIAS -file NEWFILE writes a certificate" +
		" of it in PEM format"},
	{"\xce\xce\xce\xce", "a Java key store (JCEKS); keytool -exportcert -rfc -storetype jceks -keystore FILE -alias ALIAS -file" +
		" NEWFILE writes a certificate of it in PEM format"},
}

// foreign returns the name of a file's unsupported format for certificates or keys, or "".
func foreign(raw []byte) string {
	for _, format := range foreignFormats {
		if bytes.HasPrefix(raw, []byte(format.begins)) {
			return "it is " + format.words
		}
	}
	if isDER(raw) {
		// PFX ::= SEQUENCE { version INTEGER (3), authSafe ContentInfo }; ContentInfo begins with an object identifier.
		var whole, first asn1.RawValue
		if _, err := asn1.Unmarshal(raw, &whole); err == nil {
			_, err = asn1.Unmarshal(whole.Bytes, &first)
			switch {
			case err == nil && first.Tag == asn1.TagInteger && bytes.Equal(first.Bytes, []byte{3}):
				return "it is in PKCS #12 format; openssl pkcs12 -in FILE -nodes -out NEWFILE writes it in PEM format"
			case err == nil && first.Tag == asn1.TagOID:
				return "it is in PKCS #7 format; openssl pkcs7 -inform DER -print_certs -in FILE -out NEWFILE writes it in PEM format"
			}
		}
	}
	return ""
}

// notCertificates returns why a file has no certificate. blocks are the labels of its blocks.
func notCertificates(raw []byte, blocks []string, failure error) error {
	if format := foreign(raw); format != "" {
		return errors.New(format)
	}
	if failure != nil {
		return errors.New("the certificate in it cannot be used: " + strings.TrimPrefix(failure.Error(), "x509: "))
	}
	switch has := func(label string) bool { return slices.Contains(blocks, label) }; {
	case len(bytes.TrimSpace(raw)) == 0:
		return errors.New("it is empty")
	case has("PKCS7"), has("CMS"):
		return errors.New("it is in PKCS #7 format; openssl pkcs7 -print_certs -in FILE -out NEWFILE writes it as certificates")
	case has("CERTIFICATE REQUEST"), has("NEW CERTIFICATE REQUEST"):
		return errors.New("it holds a request for a certificate, and no certificate")
	case has("X509 CRL"):
		return errors.New("it holds a list of revoked certificates, and no certificate")
	case slices.ContainsFunc(blocks, isPrivateKey):
		return errors.New("it holds a private key, and no certificate")
	case bytes.Contains(raw, []byte("-----BEGIN ")) && len(blocks) == 0:
		return errors.New("it has a BEGIN line, but the block after it is damaged or has no END line")
	}
	return errors.New("no certificate in PEM format in it")
}

func isPrivateKey(label string) bool { return strings.HasSuffix(label, "PRIVATE KEY") }

// errEncryptedKey is the error for a key file with a passphrase.
var errEncryptedKey = errors.New("it is encrypted")

// decodeKey returns the private key of a file, PEM or DER, as a PEM block. An error says why there is none.
func decodeKey(raw []byte) ([]byte, error) {
	if isDER(raw) {
		return decodeKeyDER(raw)
	}
	var others []string
	text := pemText(raw)
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if !isPrivateKey(block.Type) {
			others = append(others, block.Type)
			continue
		}
		if strings.HasPrefix(block.Type, "ENCRYPTED") || strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED") {
			return nil, errEncryptedKey
		}
		return pem.EncodeToMemory(block), nil
	}
	switch {
	case foreign(raw) != "":
		return nil, errors.New(foreign(raw))
	case len(bytes.TrimSpace(raw)) == 0:
		return nil, errors.New("it is empty")
	case slices.ContainsFunc(others, func(label string) bool { return strings.HasSuffix(label, "PUBLIC KEY") }):
		return nil, errors.New("it holds a public key, and no private key")
	case slices.ContainsFunc(others, func(label string) bool { return strings.HasSuffix(label, "CERTIFICATE") }):
		return nil, errors.New("it holds a certificate, and no private key")
	case bytes.Contains(text, []byte("-----BEGIN ")) && len(others) == 0:
		return nil, errors.New("it has a BEGIN line, but the block after it is damaged or has no END line")
	}
	return nil, errors.New("no private key in PEM format in it")
}

func decodeKeyDER(raw []byte) ([]byte, error) {
	label := ""
	if _, err := x509.ParsePKCS8PrivateKey(raw); err == nil {
		label = "PRIVATE KEY"
	} else if _, err := x509.ParsePKCS1PrivateKey(raw); err == nil {
		label = "RSA PRIVATE KEY"
	} else if _, err := x509.ParseECPrivateKey(raw); err == nil {
		label = "EC PRIVATE KEY"
	} else if format := foreign(raw); format != "" {
		return nil, errors.New(format)
	} else {
		return nil, errors.New("no private key in PEM format in it")
	}
	return pem.EncodeToMemory(&pem.Block{Type: label, Bytes: raw}), nil
}
