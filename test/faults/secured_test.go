package faults

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"

	"reskafka/test/apache"
)

// secured is the development broker in this process, with TLS on both sides and logins. The client's files
// can be changed during the run.
type secured struct {
	inside
	address   string
	dir       string // the files of Asterisk's side
	authority *apache.Authority
	reader    []kgo.Opt
	passwords int // how many alice has had
}

const (
	alice     = "alice" // logs in with SCRAM-SHA-256, and gets new passwords
	bob       = "bob"   // logs in with PLAIN
	bobSecret = "bob's own"
)

func newSecured(t *testing.T, dir string) (*secured, error) {
	b := &secured{dir: filepath.Join(dir, "tls")}
	var err error
	if b.authority, err = apache.NewAuthority("Faults"); err != nil {
		return nil, err
	}
	server, err := b.certificate("broker")
	if err != nil {
		return nil, err
	}
	own, err := b.certificate("reader")
	if err != nil {
		return nil, err
	}
	trust := x509.NewCertPool()
	trust.AppendCertsFromPEM(b.authority.PEM())
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.AllowAutoTopicCreation(), kfake.DataDir(filepath.Join(dir, "broker")),
		kfake.TLS(&tls.Config{Certificates: []tls.Certificate{server}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: trust}),
		kfake.EnableSASL(), kfake.Superuser("SCRAM-SHA-256", alice, b.secret()), kfake.Superuser("PLAIN", bob, bobSecret))
	if err != nil {
		return nil, err
	}
	t.Cleanup(cluster.Close)
	b.address = cluster.ListenAddrs()[0]
	b.reader = []kgo.Opt{
		kgo.SASL(plain.Auth{User: bob, Pass: bobSecret}.AsMechanism()),
		kgo.DialTLSConfig(&tls.Config{Certificates: []tls.Certificate{own}, RootCAs: trust}),
	}
	if err := os.Mkdir(b.dir, 0o700); err != nil {
		return nil, err
	}
	return b, errors.Join(b.renew(), b.copyAuthority(0), b.copyAuthority(1))
}

func (b *secured) asterisk() string { return b.address }
func (b *secured) direct() string   { return b.address }

func (b *secured) certificate(name string) (tls.Certificate, error) {
	pair, err := b.authority.Issue(name, apache.NoFlaw)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.X509KeyPair(pair.Certificate, pair.Key)
}

// secret is alice's present password.
func (b *secured) secret() string { return fmt.Sprintf("secret number %d", b.passwords) }

// renew writes another certificate and key to Asterisk's paths.
func (b *secured) renew() error {
	pair, err := b.authority.Issue("asterisk", apache.NoFlaw)
	if err != nil {
		return err
	}
	// Both in one file, replaced at once: no reader finds a key of another certificate.
	path := filepath.Join(b.dir, "client.pem")
	if err := os.WriteFile(path+".new", append(pair.Certificate, pair.Key...), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func (b *secured) authorityFile(i int) string {
	return filepath.Join(b.dir, fmt.Sprintf("ca%d.pem", i))
}

func (b *secured) copyAuthority(i int) error {
	return os.WriteFile(b.authorityFile(i), b.authority.PEM(), 0o600)
}

// changePassword changes alice's password at the brokers. Asterisk has the old password until a change of
// kafka.conf.
func (b *secured) changePassword(ctx context.Context) error {
	client, err := kgo.NewClient(append(b.reader, kgo.SeedBrokers(b.address))...)
	if err != nil {
		return err
	}
	defer client.Close()
	b.passwords++
	changed, err := kadm.NewClient(client).AlterUserSCRAMs(ctx, nil, []kadm.UpsertSCRAM{{
		User: alice, Mechanism: kadm.ScramSha256, Iterations: 4096, Password: b.secret(),
	}})
	if err != nil {
		return err
	}
	return changed.Error()
}

// login returns the options of a connection with a valid login.
func (b *secured) login(user string, authority int) map[string]string {
	options := map[string]string{
		"security_protocol": "sasl_ssl", "sasl_username": user, "sasl_mechanisms": "SCRAM-SHA-256", "sasl_password": b.secret(),
		"ssl_ca_location": b.authorityFile(authority), "ssl_certificate_location": filepath.Join(b.dir, "client.pem"),
		"ssl_key_location": filepath.Join(b.dir, "client.pem"),
	}
	if user == bob {
		options["sasl_mechanisms"], options["sasl_password"] = "PLAIN", bobSecret
	}
	return options
}
