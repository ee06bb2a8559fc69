package client_test

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"reskafka/internal/host"
	"reskafka/test/kafkatest"
)

// TestRenewedFiles renews the brokers' certificate, its authority and the client's certificate under their
// old names, without a reload. New connections use the new files, and never unusable files.
func TestRenewedFiles(t *testing.T) {
	dir := t.TempDir()
	first, second := kafkatest.NewAuthority(t, "first"), kafkatest.NewAuthority(t, "second")
	var present atomic.Pointer[tls.Config]
	use := func(a *kafkatest.Authority) {
		pool := x509.NewCertPool()
		pool.AddCert(a.Cert)
		present.Store(&tls.Config{Certificates: []tls.Certificate{a.Issue()}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool})
	}
	use(first)
	d := &kafkatest.Door{Tries: make(chan struct{}, 100)}
	cluster := kafkatest.Broker(t, kfake.SeedTopics(1, "t"), kfake.ListenFn(func(network, address string) (net.Listener, error) {
		l, err := net.Listen(network, address)
		d.Listener = l
		return d, err
	}), kfake.TLS(&tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return present.Load(), nil }}))

	c := kafkatest.Secure(cluster, first.Write(filepath.Join(dir, "ca.pem")))
	c.CertificateFile, c.KeyFile = kafkatest.WritePair(t, dir, first.Issue())
	log := kafkatest.NewLines()
	p := open(t, c, log, nil)
	kafkatest.SendAll(t, p, kafkatest.Numbered("t", 0, 1)...)

	// In the middle of a renewal: the new certificate exists, the key does not.
	renewed := second.Issue()
	old, err := os.ReadFile(c.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	kafkatest.WritePair(t, dir, renewed)
	key, err := os.ReadFile(c.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(c.KeyFile, old, 0o600); err != nil {
		t.Fatal(err)
	}
	long := time.Now().Add(-time.Hour) // the renewal takes too long
	for _, path := range []string{c.CAFile, c.CertificateFile, c.KeyFile} {
		if err := os.Chtimes(path, long, long); err != nil {
			t.Fatal(err)
		}
	}
	d.Cut(false)
	kafkatest.SendAll(t, p, kafkatest.Numbered("t", 1, 2)...) // with the certificate before
	log.WaitFor(t, host.Warning, "renewed TLS files cannot be used, those before stay in use: reading ssl_certificate_location "+c.CertificateFile)

	use(second)
	d.Cut(false)
	o := kafkatest.ExpectOutcomes(t, 1)
	p.Send(kafkatest.Numbered("t", 2, 3), time.Now().Add(time.Hour), o.Add)
	log.WaitFor(t, host.Warning, "signed by an authority that is not in ssl_ca_location")
	if err := os.WriteFile(c.KeyFile, key, 0o600); err != nil {
		t.Fatal(err)
	}
	second.Write(c.CAFile)
	o.AllSent()
	log.WaitFor(t, host.Notice, "renewed TLS files are used from now on; the client certificate is valid until")
}
