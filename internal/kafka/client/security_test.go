package client_test

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/internal/config"
	"reskafka/internal/host"
	"reskafka/internal/kafka/produce"
	"reskafka/internal/record"
	"reskafka/test/kafkatest"
)

func TestTLS(t *testing.T) {
	dir := t.TempDir()
	ca, other := kafkatest.NewAuthority(t, "ours"), kafkatest.NewAuthority(t, "other")
	file := ca.Write(filepath.Join(dir, "ca.pem"))
	mixed := filepath.Join(dir, "mixed")
	for _, sub := range []string{mixed, filepath.Join(mixed, "folder")} {
		if err := os.Mkdir(sub, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	other.Write(filepath.Join(mixed, "a.pem"))
	ca.Write(filepath.Join(mixed, "b.crt"))
	if err := os.WriteFile(filepath.Join(mixed, "README"), []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	commonName := func(name string) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.IPAddresses, c.Subject.CommonName = nil, name }
	}
	for name, test := range map[string]struct {
		cert  tls.Certificate
		ca    string
		check string // ssl_endpoint_identification_algorithm
	}{
		"file":                       {cert: ca.Issue(), ca: file},
		"directory":                  {cert: ca.Issue(), ca: mixed},
		"common name and no other":   {cert: ca.Issue(commonName("127.0.0.1")), ca: file},
		"another host":               {cert: ca.Issue(commonName("elsewhere")), ca: file, check: "none"},
		"common name beside another": {cert: ca.Issue(func(c *x509.Certificate) { c.Subject.CommonName = "elsewhere" }), ca: file},
	} {
		t.Run(name, func(t *testing.T) {
			cluster := kafkatest.TLSBroker(t, &tls.Config{Certificates: []tls.Certificate{test.cert}})
			c := kafkatest.Secure(cluster, test.ca)
			c.HostCheck = test.check
			kafkatest.SendAll(t, open(t, c, nil, nil), kafkatest.Numbered("t", 0, 3)...)
		})
	}
}

// TestTLSRefused checks that an untrusted broker has a log line in words, and that its records wait.
func TestTLSRefused(t *testing.T) {
	dir := t.TempDir()
	ca, other := kafkatest.NewAuthority(t, "ours"), kafkatest.NewAuthority(t, "other")
	file := ca.Write(filepath.Join(dir, "ca.pem"))
	expired := func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }
	early := func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }
	named := func(common string, names ...string) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.IPAddresses, c.Subject.CommonName, c.DNSNames = nil, common, names }
	}
	for name, test := range map[string]struct {
		server  *tls.Config
		plain   bool // on the client's side
		unnamed bool // the name does not count
		want    string
	}{
		"unknown authority":           {server: kafkatest.TLSConfig(other.Issue()), want: "TLS: the broker's certificate is signed by an authority that is not in ssl_ca_location"},
		"other host":                  {server: kafkatest.TLSConfig(ca.Issue(named("127.0.0.1", "kafka.example"))), want: "TLS: the broker's certificate is for another host: it names kafka.example and not 127.0.0.1 (see brokers, the cluster's advertised.listeners and ssl_endpoint_identification_algorithm)"},
		"other common name":           {server: kafkatest.TLSConfig(ca.Issue(named("kafka.example"))), want: "TLS: the broker's certificate is for another host: it names kafka.example and not 127.0.0.1 (see brokers"},
		"expired":                     {server: kafkatest.TLSConfig(ca.Issue(expired)), want: "TLS: the broker's certificate expired on 20"},
		"unknown authority, any host": {server: kafkatest.TLSConfig(other.Issue()), unnamed: true, want: "TLS: the broker's certificate is signed by an authority that is not in"},
		"expired, any host":           {server: kafkatest.TLSConfig(ca.Issue(expired)), unnamed: true, want: "TLS: the broker's certificate expired on 20"},
		"not valid yet":               {server: kafkatest.TLSConfig(ca.Issue(early)), want: "TLS: the broker's certificate is not valid before 20"},
		"client certificate wanted": {
			server: &tls.Config{Certificates: kafkatest.TLSConfig(ca.Issue()).Certificates, ClientAuth: tls.RequireAnyClientCert},
			want:   "TLS: the broker wants a client certificate and there is none (see ssl_certificate_location)",
		},
		"client certificate wanted, TLS 1.2": {
			server: &tls.Config{Certificates: kafkatest.TLSConfig(ca.Issue()).Certificates, ClientAuth: tls.RequireAnyClientCert, MaxVersion: tls.VersionTLS12},
			want:   "TLS: the broker wants a client certificate and there is none (see ssl_certificate_location)",
		},
		"plaintext broker": {want: "TLS: the handshake timed out (does the broker speak TLS on this port? does a firewall in between stop TLS?)"},
		"plaintext client": {server: kafkatest.TLSConfig(ca.Issue()), plain: true, want: "is its listener's security_protocol ssl or sasl_ssl?"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			opts := []kfake.Opt{kfake.SeedTopics(1, "t")}
			if test.server != nil {
				opts = append(opts, kfake.TLS(test.server))
			}
			cluster := kafkatest.Broker(t, opts...)
			c := kafkatest.Secure(cluster, file)
			c.SocketTimeout = time.Second
			if test.unnamed {
				c.HostCheck = "none"
			}
			if test.plain {
				c.SecurityProtocol, c.CAFile = "plaintext", ""
			}
			log := kafkatest.NewLines()
			p := open(t, c, log, nil)
			o := kafkatest.ExpectOutcomes(t, 1)
			p.Send(kafkatest.Numbered("t", 0, 1), time.Now().Add(time.Hour), o.Add)
			line := log.WaitFor(t, host.Warning, test.want)
			if !strings.HasPrefix(line.Text, "connection my-kafka: broker "+c.Brokers[0]+" cannot be reached: ") {
				t.Errorf("line %q", line.Text)
			}
			select {
			case <-o.Done:
				t.Errorf("the record did not wait: %v", o.Err)
			default:
			}
		})
	}
}

// TestClientCertificate checks that the certificate is sent even if the broker's list of authorities lacks
// its issuer, as in librdkafka.
func TestClientCertificate(t *testing.T) {
	dir := t.TempDir()
	ca, other := kafkatest.NewAuthority(t, "ours"), kafkatest.NewAuthority(t, "other")
	hints := x509.NewCertPool()
	hints.AddCert(other.Cert)
	cluster := kafkatest.TLSBroker(t, &tls.Config{
		Certificates: []tls.Certificate{ca.Issue()}, ClientAuth: tls.RequireAnyClientCert, ClientCAs: hints,
	})
	c := kafkatest.Secure(cluster, ca.Write(filepath.Join(dir, "ca.pem")))
	c.CertificateFile, c.KeyFile = kafkatest.WritePair(t, dir, ca.Issue())
	kafkatest.SendAll(t, open(t, c, nil, nil), kafkatest.Numbered("t", 0, 1)...)
}

// TestUnusableFiles checks that an unusable file is an error at once, in a sentence with the option's name.
func TestUnusableFiles(t *testing.T) {
	dir := t.TempDir()
	ca := kafkatest.NewAuthority(t, "ours")
	cert, key := kafkatest.WritePair(t, dir, ca.Issue())
	empty := filepath.Join(dir, "empty.pem")
	if err := os.WriteFile(empty, []byte("not a certificate\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	encrypted := filepath.Join(dir, "encrypted.pem")
	kafkatest.WritePEM(t, encrypted, "ENCRYPTED PRIVATE KEY", []byte{1, 2, 3})
	for _, test := range []struct {
		ca, cert, key string
		want          string
	}{
		{ca: filepath.Join(dir, "missing"), want: ": no such file or directory"},
		{ca: empty, want: "empty.pem: no certificate in PEM format in it"},
		{cert: cert, want: "ssl_certificate_location is set without ssl_key_location"},
		{key: key, want: "ssl_key_location is set without ssl_certificate_location"},
		{cert: cert, key: empty, want: "reading ssl_certificate_location "},
		{cert: cert, key: encrypted, want: "ssl_key_location " + encrypted + ": the key's file: it is encrypted"},
	} {
		c := kafkatest.Connection("127.0.0.1:1")
		c.SecurityProtocol, c.CAFile, c.CertificateFile, c.KeyFile = "ssl", test.ca, test.cert, test.key
		_, err := produce.NewProducer(c, nil, nil)
		if err == nil || !strings.HasPrefix(err.Error(), "connection my-kafka: ") || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%+v: error %v", test, err)
		}
		c.SecurityProtocol = "plaintext" // does not read the files
		open(t, c, nil, nil)
	}
}

const password = "s3cret-Pa55word"

func TestSASL(t *testing.T) {
	for _, mechanism := range []string{"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"} {
		cluster := kafkatest.Broker(t, kfake.SeedTopics(1, "t"), kfake.EnableSASL(), kfake.Superuser(mechanism, "asterisk", password))
		c := login(cluster, mechanism)
		kafkatest.SendAll(t, open(t, c, nil, nil), kafkatest.Numbered("t", 0, 1)...)
	}
}

func login(cluster *kfake.Cluster, mechanism string) *config.Connection {
	c := kafkatest.Connection(cluster.ListenAddrs()...)
	c.SecurityProtocol, c.SASLMechanism = "sasl_plaintext", mechanism
	c.SASLUsername, c.SASLPassword = "asterisk", password
	return c
}

// TestWrongPassword has a broker with the answers of Apache Kafka. The failure is not final, because either
// side may correct the password. No line has the password, at any level.
func TestWrongPassword(t *testing.T) {
	cluster := kafkatest.Broker(t, kfake.SeedTopics(1, "t"), kfake.EnableSASL(), kfake.Superuser("PLAIN", "asterisk", "another"))
	cluster.ControlKey(int16(kmsg.SASLAuthenticate), func(req kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		resp := req.ResponseKind().(*kmsg.SASLAuthenticateResponse)
		resp.ErrorCode, resp.ErrorMessage = kerr.SaslAuthenticationFailed.Code, kmsg.StringPtr("Authentication failed: Invalid username or password")
		return resp, nil, true
	})
	c, log := login(cluster, "PLAIN"), kafkatest.NewLines()
	c.Debug = []string{"all"}
	p := open(t, c, log, nil)
	o := kafkatest.ExpectOutcomes(t, 1)
	p.Send(kafkatest.Numbered("t", 0, 1), time.Now().Add(time.Hour), o.Add)
	log.WaitFor(t, host.Warning, " cannot be reached: SASL: unknown user or wrong password, the broker does not tell which; the broker says: Authentication failed: Invalid username or password (see sasl_username and sasl_password; write a semicolon in the password as \\;); records wait")
	p.Close()
	for r, err := range o.Wait() {
		if reason, final := p.Permanent(err); final {
			t.Errorf("record %s: %v is final: %s", r.Value, err, reason)
		}
	}
	for _, one := range log.Above(host.Debug) {
		if strings.Contains(one.Text, password) {
			t.Errorf("the password is in %q", one.Text)
		}
	}
}

func TestMechanismNotOffered(t *testing.T) {
	cluster := kafkatest.Broker(t, kfake.SeedTopics(1, "t"), kfake.EnableSASL(), kfake.Superuser("SCRAM-SHA-256", "asterisk", password))
	cluster.ControlKey(int16(kmsg.SASLHandshake), func(req kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		resp := req.ResponseKind().(*kmsg.SASLHandshakeResponse)
		resp.ErrorCode, resp.SupportedMechanisms = kerr.UnsupportedSaslMechanism.Code, []string{"SCRAM-SHA-256"}
		return resp, nil, true
	})
	log := kafkatest.NewLines()
	p := open(t, login(cluster, "PLAIN"), log, nil)
	p.Send(kafkatest.Numbered("t", 0, 1), time.Now().Add(time.Hour), func(*record.Record, error) {})
	log.WaitFor(t, host.Warning, "SASL: the broker does not offer PLAIN but SCRAM-SHA-256 (see sasl_mechanisms)")
}

// hostile is a text with line breaks and terminal sequences, and tame its printable form.
const (
	hostile = "a\r\nERROR b\x1b[2J\a\x00\xff\u202e"
	tame    = `a\x0d\x0aERROR b\x1b[2J\x07\x00\xff\u202e`
)

// TestLogin_HostileTexts_AreEscapedInTheLog guards the log: mechanisms and messages of a broker may hold anything.
func TestLogin_HostileTexts_AreEscapedInTheLog(t *testing.T) {
	cluster := kafkatest.Broker(t, kfake.SeedTopics(1, "t"), kfake.EnableSASL(), kfake.Superuser("PLAIN", "asterisk", password))
	cluster.ControlKey(int16(kmsg.SASLHandshake), func(req kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		resp := req.ResponseKind().(*kmsg.SASLHandshakeResponse)
		if req.(*kmsg.SASLHandshakeRequest).Mechanism == "PLAIN" {
			return nil, nil, false
		}
		resp.ErrorCode, resp.SupportedMechanisms = kerr.UnsupportedSaslMechanism.Code, []string{hostile}
		return resp, nil, true
	})
	cluster.ControlKey(int16(kmsg.SASLAuthenticate), func(req kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		resp := req.ResponseKind().(*kmsg.SASLAuthenticateResponse)
		resp.ErrorCode, resp.ErrorMessage = kerr.SaslAuthenticationFailed.Code, kmsg.StringPtr(hostile)
		return resp, nil, true
	})
	for mechanism, want := range map[string]string{"PLAIN": "the broker says: " + tame + " (", "SCRAM-SHA-256": "but " + tame + " ("} {
		c, log := login(cluster, mechanism), kafkatest.NewLines()
		c.Debug = []string{"all"}
		open(t, c, log, nil).Send(kafkatest.Numbered("t", 0, 1), time.Now().Add(time.Hour), func(*record.Record, error) {})
		log.WaitFor(t, host.Warning, want)
		for _, one := range log.Above(host.Debug) {
			if host.Printable(one.Text) != one.Text {
				t.Errorf("logged %q", one.Text)
			}
		}
	}
}

// TestLoginMissing has a client without a login at a listener with logins.
func TestLoginMissing(t *testing.T) {
	cluster := kafkatest.Broker(t, kfake.SeedTopics(1, "t"), kfake.EnableSASL(), kfake.Superuser("PLAIN", "asterisk", password))
	log := kafkatest.NewLines()
	p := open(t, kafkatest.Connection(cluster.ListenAddrs()...), log, nil)
	p.Send(kafkatest.Numbered("t", 0, 1), time.Now().Add(time.Hour), func(*record.Record, error) {})
	log.WaitFor(t, host.Warning, "is its listener's security_protocol sasl_plaintext?")
}

func TestUnusableLogin(t *testing.T) {
	for _, test := range []struct{ mechanism, user, password, want string }{
		{"", "u", password, "security_protocol = sasl_ssl needs sasl_mechanisms"},
		{"GSSAPI", "u", password, "sasl_mechanisms = GSSAPI is not one of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512"},
		{"PLAIN", "", password, "needs sasl_username and sasl_password"},
		{"PLAIN", "u", "", "needs sasl_username and sasl_password"},
	} {
		c := kafkatest.Connection("127.0.0.1:1")
		c.SecurityProtocol, c.SASLMechanism, c.SASLUsername = "sasl_ssl", test.mechanism, test.user
		c.SASLPassword = config.Secret(test.password)
		if _, err := produce.NewProducer(c, nil, nil); err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), password) {
			t.Errorf("%q %q: error %v", test.mechanism, test.user, err)
		}
	}
}
