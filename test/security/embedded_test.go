package security

import (
	"crypto/tls"
	"crypto/x509"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	saslplain "github.com/twmb/franz-go/pkg/sasl/plain"

	"reskafka/test/apache"
)

// startEmbedded starts an embedded broker for every possible listener: an embedded broker has one listener
// and all mechanisms, and closes a connection silently. Apache's broker reports a wrong password.
func startEmbedded(t *testing.T) *site {
	t.Helper()
	s := &site{name: "embedded", files: filepath.Join(t.TempDir(), "files"), fakes: map[string]*kfake.Cluster{}}
	var err error
	if s.authority, err = apache.NewAuthority("The authority of the embedded brokers"); err != nil {
		t.Fatal(err)
	}
	if err := s.layOut(); err != nil {
		t.Fatal(err)
	}
	for _, l := range listeners {
		options := []kfake.Opt{kfake.NumBrokers(1)}
		if strings.HasSuffix(l.Protocol, "SSL") {
			pair, err := s.authority.Issue("broker", l.Flaw)
			if err != nil {
				t.Fatal(err)
			}
			conf := &tls.Config{Certificates: []tls.Certificate{keyPair(t, pair)}, ClientCAs: s.roots()}
			if l.ClientAuth {
				conf.ClientAuth = tls.RequireAndVerifyClientCert
			}
			options = append(options, kfake.TLS(conf))
		}
		if strings.HasPrefix(l.Protocol, "SASL") {
			options = append(options, kfake.EnableSASL())
			for _, mechanism := range []string{"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"} {
				options = append(options, kfake.Superuser(mechanism, "alice", password("alice")))
			}
		}
		fake, err := kfake.NewCluster(options...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(fake.Close)
		s.fakes[l.Name] = fake
	}
	return s
}

func keyPair(t *testing.T, pair apache.Pair) tls.Certificate {
	t.Helper()
	certificate, err := tls.X509KeyPair(pair.Certificate, pair.Key)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}

// roots trusts the site's authority.
func (s *site) roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(s.authority.PEM())
	return pool
}

// admission returns the options of an independent client with access to a listener.
func (s *site) admission(t *testing.T, listener string) []kgo.Opt {
	t.Helper()
	var options []kgo.Opt
	for _, l := range listeners {
		if l.Name != listener {
			continue
		}
		if strings.HasSuffix(l.Protocol, "SSL") {
			pair, err := s.authority.Issue("client", apache.NoFlaw)
			if err != nil {
				t.Fatal(err)
			}
			options = append(options, kgo.DialTLSConfig(&tls.Config{
				RootCAs: s.roots(), Certificates: []tls.Certificate{keyPair(t, pair)},
				InsecureSkipVerify: l.Flaw != apache.NoFlaw, // the test is for the engine's checks
			}))
		}
		if strings.HasPrefix(l.Protocol, "SASL") {
			options = append(options, kgo.SASL(saslplain.Auth{User: "alice", Pass: password("alice")}.AsMechanism()))
		}
	}
	return options
}
