package client_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"reskafka/internal/host"
	"reskafka/test/kafkatest"
	"reskafka/test/openssl"
)

// negative returns a copy of c with a negative serial number, signed by the key.
func negative(t *testing.T, c *x509.Certificate, by *ecdsa.PrivateKey) []byte {
	t.Helper()
	version := []byte{0xa0, 3, 2, 1, 2} // before the serial number: 2, 1, and a byte
	at := bytes.Index(c.RawTBSCertificate, version)
	if at < 0 {
		t.Fatal("no version found")
	}
	tbs := bytes.Clone(c.RawTBSCertificate)
	tbs[at+len(version)+2] |= 0x80
	digest := sha256.Sum256(tbs)
	signature, err := ecdsa.SignASN1(rand.Reader, by, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	der, err := asn1.Marshal(struct {
		Contents  asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}{asn1.RawValue{FullBytes: tbs}, pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}},
		asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)}})
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// TestTLS_NegativeSerialNumbers_Connects guards certificates from real authorities, accepted by OpenSSL and
// refused by Go without x509negativeserial.
func TestTLS_NegativeSerialNumbers_Connects(t *testing.T) {
	dir := t.TempDir()
	ca := kafkatest.NewAuthority(t, "ours")
	server := ca.Issue()
	server.Certificate[0], server.Leaf = negative(t, server.Leaf, ca.Key), nil
	file := filepath.Join(dir, "ca.pem")
	kafkatest.WritePEM(t, file, "CERTIFICATE", negative(t, ca.Cert, ca.Key))
	cluster := kafkatest.TLSBroker(t, &tls.Config{Certificates: []tls.Certificate{server}})
	kafkatest.SendAll(t, open(t, kafkatest.Secure(cluster, file), nil, nil), kafkatest.Numbered("t", 0, 3)...)
}

// TestTLS_OpenSSLServers_ConnectOrSayWhy sends through OpenSSL's server with habits unknown to Go's server.
// Connections in OpenSSL's default and in Go succeed; all others fail with the reason and the remedy.
func TestTLS_OpenSSLServers_ConnectOrSayWhy(t *testing.T) {
	dir := t.TempDir()
	openssl.Run(t, dir, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=authority", "-days", "2")
	issue := func(name, digest, names string) []string {
		openssl.Run(t, dir, "req", "-newkey", "rsa:2048", "-nodes", "-keyout", name+".key", "-out", name+".csr", "-subj", "/CN=broker")
		extensions := filepath.Join(dir, name+".ext")
		if err := os.WriteFile(extensions, []byte("subjectAltName="+names+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		openssl.Run(t, dir, "x509", "-req", "-in", name+".csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-set_serial", "7", "-days", "2",
			digest, "-extfile", extensions, "-out", name+".pem")
		return []string{"-cert", filepath.Join(dir, name+".pem"), "-key", filepath.Join(dir, name+".key")}
	}
	good := issue("good", "-sha256", "IP:127.0.0.1")
	weak := issue("weak", "-sha1", "IP:127.0.0.1")
	text := issue("text", "-sha256", "DNS:127.0.0.1")
	const common = "TLS: the broker refused the handshake: handshake failure, it has no cipher suite or curve in common with this client (its ssl.cipher.suites must allow ECDHE"
	for name, test := range map[string]struct {
		certificate []string
		args        []string
		want        string // empty = success
	}{
		"defaults":              {certificate: good},
		"RSA key exchange only": {certificate: good, args: []string{"-tls1_2", "-cipher", "kRSA+AESGCM"}},
		"RSA and CBC only":      {certificate: good, args: []string{"-tls1_2", "-cipher", "AES256-SHA"}},
		"CBC with SHA-256 only": {certificate: good, args: []string{"-tls1_2", "-cipher", "ECDHE-RSA-AES128-SHA256"}},
		"P-521 only":            {certificate: good, args: []string{"-groups", "P-521"}},
		"DHE only":              {certificate: good, args: []string{"-tls1_2", "-cipher", "kDHE"}, want: common},
		"secp256k1 only":        {certificate: good, args: []string{"-tls1_2", "-cipher", "ECDHE", "-groups", "secp256k1"}, want: common},
		"X448 only, TLS 1.3":    {certificate: good, args: []string{"-tls1_3", "-groups", "X448"}, want: common},
		"TLS 1.1 only": {certificate: good, args: []string{"-tls1_1", "-cipher", "ALL:@SECLEVEL=0"},
			want: "TLS: the broker refused the handshake: protocol version not supported, it allows neither TLS 1.2 nor 1.3 (its ssl.enabled.protocols must"},
		"SHA-1 leaf": {certificate: weak, args: []string{"-cipher", "ALL:@SECLEVEL=0"},
			want: "TLS: the broker's certificate is signed with SHA-1, which is not secure (issue another one, signed with SHA-256)"},
		"address as a DNS name": {certificate: text,
			want: "TLS: the broker's certificate has 127.0.0.1 as a DNS name and not as an IP address (see brokers, the cluster's" +
				" advertised.listeners and ssl_endpoint_identification_algorithm; issue another one with the alternative name" +
				" IP:127.0.0.1, or use a host name)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster := kafkatest.Broker(t, kfake.SeedTopics(1, "t"), kfake.ListenFn(openssl.Listen(t, append(test.certificate, test.args...)...)))
			log := kafkatest.NewLines()
			p := open(t, kafkatest.Secure(cluster, filepath.Join(dir, "ca.pem")), log, nil)
			if test.want == "" {
				kafkatest.SendAll(t, p, kafkatest.Numbered("t", 0, 3)...)
				return
			}
			p.Send(kafkatest.Numbered("t", 0, 1), time.Now().Add(time.Hour), kafkatest.ExpectOutcomes(t, 1).Add)
			log.WaitFor(t, host.Warning, test.want)
		})
	}
}

// TestTLS_MiddleboxLosesLongHello_Connects sends through a middlebox that drops a ClientHello of more than
// one TCP segment, for example a hello with post-quantum key shares.
func TestTLS_MiddleboxLosesLongHello_Connects(t *testing.T) {
	ca := kafkatest.NewAuthority(t, "ours")
	longest := 1300 // of IPv6 over a tunnel, bytes
	cluster := kafkatest.Broker(t, kfake.SeedTopics(1, "t"), kfake.TLS(kafkatest.TLSConfig(ca.Issue())),
		kfake.ListenFn(func(network, address string) (net.Listener, error) {
			inner, err := net.Listen(network, address)
			return &middlebox{inner, longest}, err
		}))
	kafkatest.SendAll(t, open(t, kafkatest.Secure(cluster, ca.Write(filepath.Join(t.TempDir(), "ca.pem"))), nil, nil), kafkatest.Numbered("t", 0, 3)...)
}

// middlebox drops the first message of a connection above a limit of bytes.
type middlebox struct {
	net.Listener
	longest int
}

func (m *middlebox) Accept() (net.Conn, error) {
	conn, err := m.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &filtered{Conn: conn, longest: m.longest}, nil
}

type filtered struct {
	net.Conn
	longest int
	first   io.Reader // the first message; nil = not read yet
}

func (f *filtered) Read(p []byte) (int, error) {
	if f.first == nil {
		header := make([]byte, 5)
		if _, err := io.ReadFull(f.Conn, header); err != nil {
			return 0, err
		}
		rest := make([]byte, binary.BigEndian.Uint16(header[3:]))
		if _, err := io.ReadFull(f.Conn, rest); err != nil {
			return 0, err
		}
		if len(header)+len(rest) > f.longest {
			_, err := io.Copy(io.Discard, f.Conn) // until the client gives up
			if err == nil {
				err = io.EOF
			}
			return 0, err
		}
		f.first = strings.NewReader(string(header) + string(rest))
	}
	if n, err := f.first.Read(p); n > 0 || err == nil {
		return n, err
	}
	return f.Conn.Read(p)
}

// TestTLS_UnreadableCertificate_SaysWhy checks the sentence about a certificate unparseable for Go.
func TestTLS_UnreadableCertificate_SaysWhy(t *testing.T) {
	ca := kafkatest.NewAuthority(t, "ours")
	server := ca.Issue()
	version := []byte{0xa0, 3, 2, 1, 2}
	at := bytes.Index(server.Certificate[0], version)
	server.Certificate[0], server.Leaf = bytes.Clone(server.Certificate[0]), nil
	server.Certificate[0][at+4] = 9
	log := kafkatest.NewLines()
	c := kafkatest.Secure(kafkatest.TLSBroker(t, &tls.Config{Certificates: []tls.Certificate{server}}), ca.Write(filepath.Join(t.TempDir(), "ca.pem")))
	open(t, c, log, nil).Send(kafkatest.Numbered("t", 0, 1), time.Now().Add(time.Hour), kafkatest.ExpectOutcomes(t, 1).Add)
	log.WaitFor(t, host.Warning, "TLS: the broker's certificate cannot be read: invalid version (issue another one)")
}
