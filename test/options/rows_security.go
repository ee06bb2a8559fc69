package options

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/test/apache"
)

// The login data at the brokers of these rows.
const (
	user     = "asterisk"
	password = "correct-horse"
)

var loginLines = []string{"sasl_mechanisms = SCRAM-SHA-512", "sasl_username = " + user, "sasl_password = " + password}

var securityRows = []Row{
	{
		Option: "security_protocol", Value: "ssl", With: []string{"ssl_ca_location = $ca"},
		Effect: "a broker with TLS gets the record", Where: "behaviour", Beyond: "internal/kafka/client TestTLS, TestTLSRefused",
		prepare: func(w *World) []kfake.Opt { return encrypted(w, tls.NoClientCert) },
		holds:   delivers,
	},
	{
		Option: "security_protocol", Value: "sasl_plaintext", With: loginLines,
		Effect: "a broker with logins gets a login and the record", Where: "behaviour", Beyond: "internal/kafka/client TestSASL",
		prepare: func(*World) []kfake.Opt { return login("SCRAM-SHA-512") },
		holds:   delivers,
	},
	{
		Option: "security_protocol", Value: "sasl_ssl", With: append([]string{"ssl_ca_location = $ca"}, loginLines...),
		Effect: "a broker with TLS and logins gets a login and the record", Where: "behaviour",
		prepare: func(w *World) []kfake.Opt {
			return append(encrypted(w, tls.NoClientCert), login("SCRAM-SHA-512")...)
		},
		holds: delivers,
	},
	mechanismRow("PLAIN", "SCRAM-SHA-256"), mechanismRow("SCRAM-SHA-256", "SCRAM-SHA-512"), mechanismRow("SCRAM-SHA-512", "PLAIN"),
	{
		Option: "sasl_username", Value: user,
		With:    []string{"security_protocol = sasl_plaintext", "sasl_mechanisms = PLAIN", "sasl_password = " + password},
		Instead: []string{"sasl_username = somebody"}, Why: "without it the file is refused",
		Effect: "the broker accepts the user", Where: "behaviour",
		prepare: func(*World) []kfake.Opt { return login("PLAIN") },
		holds:   delivers,
	},
	{
		Option: "sasl_password", Value: password,
		With:    []string{"security_protocol = sasl_plaintext", "sasl_mechanisms = PLAIN", "sasl_username = " + user},
		Instead: []string{"sasl_password = battery-staple"}, Why: "without it the file is refused",
		Effect: "the broker accepts the password", Where: "behaviour",
		prepare: func(*World) []kfake.Opt { return login("PLAIN") },
		holds:   delivers,
	},
	{
		Option: "ssl_ca_location", Value: "$ca", With: []string{"security_protocol = ssl"},
		Effect: "a broker with a certificate of this authority is trusted", Where: "behaviour", Beyond: "internal/kafka/client TestTLS",
		prepare: func(w *World) []kfake.Opt { return encrypted(w, tls.NoClientCert) },
		holds:   delivers,
	},
	{
		Option: "ssl_certificate_location", Value: "$certificate",
		With:    []string{"security_protocol = ssl", "ssl_ca_location = $ca", "ssl_key_location = $key"},
		Instead: []string{"ssl_certificate_location = $other_certificate", "ssl_key_location = $other_key"},
		Why:     "without it the file is refused; a certificate goes with its key",
		Effect:  "the broker sees the certificate", Where: "on the wire",
		prepare: func(w *World) []kfake.Opt { return encrypted(w, tls.RequireAndVerifyClientCert) },
		holds: func(w *World) error {
			if err := delivers(w); err != nil {
				return err
			}
			if name := <-w.shown; name != "pbx" {
				return unseenf("the certificate of %s is shown", name)
			}
			return nil
		},
	},
	{
		Option: "ssl_key_location", Value: "$key",
		With:    []string{"security_protocol = ssl", "ssl_ca_location = $ca", "ssl_certificate_location = $certificate"},
		Instead: []string{"ssl_key_location = $other_key"}, Why: "without a matching key the file is refused",
		Effect: "a broker with client certificates gets a proof of the key, and the record", Where: "behaviour",
		prepare: func(w *World) []kfake.Opt { return encrypted(w, tls.RequireAndVerifyClientCert) },
		holds:   delivers,
	},
	{
		Option: "ssl_endpoint_identification_algorithm", Value: "none", With: []string{"security_protocol = ssl", "ssl_ca_location = $ca"},
		Effect: "a broker with a certificate for another host gets the record", Where: "behaviour",
		Beyond:  "internal/kafka/client TestTLS, TestTLSRefused, test/security wrong_host",
		prepare: func(w *World) []kfake.Opt { return flawed(w, tls.NoClientCert, apache.WrongHost) },
		holds:   delivers,
	},
}

func mechanismRow(mechanism, other string) Row {
	return Row{
		Option: "sasl_mechanisms", Value: mechanism,
		With:    []string{"security_protocol = sasl_plaintext", "sasl_username = " + user, "sasl_password = " + password},
		Instead: []string{"sasl_mechanisms = " + other}, Why: "without it the file is refused",
		Effect: "the mechanism of the login", Where: "on the wire",
		prepare: func(*World) []kfake.Opt { return login("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512") },
		holds: func(w *World) error {
			if err := delivers(w); err != nil {
				return err
			}
			r, err := w.request("tested", kmsg.SASLHandshake)
			if err != nil {
				return err
			}
			if used := r.Request.(*kmsg.SASLHandshakeRequest).Mechanism; used != mechanism {
				return unseenf("login by %s", used)
			}
			return nil
		},
	}
}

// login makes a broker require a login, by any of the mechanisms.
func login(mechanisms ...string) []kfake.Opt {
	options := []kfake.Opt{kfake.EnableSASL()}
	for _, mechanism := range mechanisms {
		options = append(options, kfake.Superuser(mechanism, user, password))
	}
	return options
}

// encrypted makes a broker use TLS, and files for its clients.
func encrypted(w *World, clients tls.ClientAuthType) []kfake.Opt {
	return flawed(w, clients, apache.NoFlaw)
}

// flawed is encrypted with a flaw in the broker's certificate.
func flawed(w *World, clients tls.ClientAuthType, flaw apache.Flaw) []kfake.Opt {
	authority, err := apache.NewAuthority("the authority of a test")
	check(w, err)
	dir := w.TempDir()
	file := func(variable string, content []byte) {
		w.vars[variable] = filepath.Join(dir, variable+".pem")
		check(w, os.WriteFile(w.vars[variable], content, 0o600))
	}
	file("ca", authority.PEM())
	for prefix, name := range map[string]string{"": "pbx", "other_": "other"} {
		pair, err := authority.Issue(name, apache.NoFlaw)
		check(w, err)
		file(prefix+"certificate", pair.Certificate)
		file(prefix+"key", pair.Key)
	}
	own, err := authority.Issue("broker", flaw)
	check(w, err)
	certificate, err := tls.X509KeyPair(own.Certificate, own.Key)
	check(w, err)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(authority.PEM())
	shown := make(chan string, 100)
	w.shown = shown
	return []kfake.Opt{kfake.TLS(&tls.Config{
		Certificates: []tls.Certificate{certificate}, ClientAuth: clients, ClientCAs: pool,
		VerifyConnection: func(state tls.ConnectionState) error {
			if len(state.PeerCertificates) > 0 {
				shown <- state.PeerCertificates[0].Subject.CommonName
			}
			return nil
		},
	})}
}

func check(w *World, err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}
