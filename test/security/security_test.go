// Package security tests the engine's protocols, logins and certificates with Apache Kafka: success, failure
// with a log line about the cause, and recovery with or without a reload after the correction. Everything but
// C and Asterisk is real: a kafka.conf as text, the engine, the client, a broker with a listener for each
// case.
//
// The package needs RES_KAFKA_APACHE, set by scripts/test, and RES_KAFKA_ROOT for kcat.
package security

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
)

// trouble is a mistake in the configuration of one side.
type trouble struct {
	name     string
	listener string // of the connection
	options  string // of the connection
	prepare  func(*scene)

	heal   func(*scene) // corrects the broker's side or a file
	reload string       // corrected options; empty = no reload is needed
	leads  string       // the connection's last listener, if different

	embedded bool // possible with the embedded broker, with the same result
}

const (
	trust  = "ssl_ca_location = @/ca.pem"
	shown  = "ssl_certificate_location = #/client.pem, ssl_key_location = #/client.key"
	plain  = "sasl_mechanisms = PLAIN, "
	scram2 = "sasl_mechanisms = SCRAM-SHA-256, "
	scram5 = "sasl_mechanisms = SCRAM-SHA-512, "
)

func login(user string) string {
	return "sasl_username = " + user + ", sasl_password = " + password(user)
}

// place copies one of the site's files into the folder of the case. It replaces an existing file in one step, because
// the engine may read the file at any moment.
func (s *scene) place(as, file string) {
	s.Helper()
	path := filepath.Join(s.dir, as)
	text, err := os.ReadFile(filepath.Join(s.site.files, file))
	if err == nil {
		err = os.WriteFile(path+".new", text, 0o600)
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		s.Fatal(err)
	}
}

// client places a client's certificate and key.
func client(name string) func(*scene) {
	return func(s *scene) {
		s.place("client.pem", name+".pem")
		s.place("client.key", name+".key")
	}
}

var troubles = []trouble{
	{name: "wrong_password", listener: "SASL_PLAINTEXT",
		options: "security_protocol = sasl_plaintext, " + plain + "sasl_username = alice, sasl_password = mistyped-" + secret,
		reload:  "security_protocol = sasl_plaintext, " + plain + login("alice")},
	{name: "wrong_password_scram", listener: "SASL_SSL",
		options: "security_protocol = sasl_ssl, " + trust + ", " + scram2 + login("carla"),
		heal:    func(s *scene) { s.site.enrol(s.T, "carla", password("carla"), kadm.ScramSha256) }},
	{name: "unknown_user", listener: "SASL_PLAINTEXT",
		options: "security_protocol = sasl_plaintext, " + plain + login("nobody"),
		reload:  "security_protocol = sasl_plaintext, " + plain + login("alice")},
	{name: "unknown_user_scram", listener: "SASL_PLAINTEXT",
		options: "security_protocol = sasl_plaintext, " + scram5 + login("dora"),
		heal:    func(s *scene) { s.site.enrol(s.T, "dora", password("dora"), kadm.ScramSha512) }},
	{name: "mechanism_not_offered", listener: "SCRAM_512",
		options: "security_protocol = sasl_plaintext, " + plain + login("alice"),
		reload:  "security_protocol = sasl_plaintext, " + scram5 + login("alice")},

	{name: "unknown_ca", listener: "SSL", embedded: true,
		prepare: func(s *scene) { s.place("ca.pem", "stranger.pem") },
		options: "security_protocol = ssl, ssl_ca_location = #/ca.pem",
		heal:    func(s *scene) { s.place("ca.pem", "ca.pem") },
		reload:  "security_protocol = ssl, ssl_ca_location = #/ca.pem"},
	{name: "unknown_ca_system", listener: "STRANGER", embedded: true,
		options: "security_protocol = ssl",
		leads:   "SSL"},
	{name: "expired_certificate", listener: "EXPIRED",
		options: "security_protocol = ssl, " + trust,
		heal:    func(s *scene) { s.site.renew(s.T, "EXPIRED") }},
	{name: "wrong_host", listener: "ELSEWHERE", embedded: true,
		options: "security_protocol = ssl, " + trust,
		reload:  "security_protocol = ssl, ssl_endpoint_identification_algorithm = none, " + trust},
	{name: "client_certificate_missing", listener: "MTLS", embedded: true,
		prepare: client("client"),
		options: "security_protocol = ssl, " + trust,
		reload:  "security_protocol = ssl, " + trust + ", " + shown},
	{name: "client_certificate_expired", listener: "MTLS", embedded: true,
		prepare: client("expired"),
		options: "security_protocol = ssl, " + trust + ", " + shown,
		heal:    client("client"),
		reload:  "security_protocol = ssl, " + trust + ", " + shown},
	{name: "client_certificate_unknown", listener: "MTLS", embedded: true,
		prepare: client("unknown-ca"),
		options: "security_protocol = ssl, " + trust + ", " + shown,
		heal:    client("client"),
		reload:  "security_protocol = ssl, " + trust + ", " + shown},

	{name: "tls_to_plaintext", listener: "PLAINTEXT",
		options: "security_protocol = ssl, " + trust,
		leads:   "SSL"},
	{name: "tls_login_to_plaintext", listener: "SASL_PLAINTEXT",
		options: "security_protocol = sasl_ssl, " + trust + ", " + plain + login("alice"),
		leads:   "SASL_SSL"},
	{name: "plaintext_to_tls", listener: "SSL",
		options: "security_protocol = plaintext",
		leads:   "PLAINTEXT"},
	{name: "plaintext_login_to_tls", listener: "SASL_SSL",
		options: "security_protocol = sasl_plaintext, " + scram2 + login("alice"),
		leads:   "SASL_PLAINTEXT"},
	{name: "login_missing", listener: "SASL_PLAINTEXT", embedded: true,
		options: "security_protocol = plaintext",
		reload:  "security_protocol = sasl_plaintext, " + plain + login("alice")},
	{name: "login_missing_tls", listener: "SASL_SSL", embedded: true,
		options: "security_protocol = ssl, " + trust,
		reload:  "security_protocol = sasl_ssl, " + trust + ", " + plain + login("alice")},
	{name: "login_not_expected", listener: "PLAINTEXT",
		options: "security_protocol = sasl_plaintext, " + plain + login("alice"),
		leads:   "SASL_PLAINTEXT"},
	{name: "login_not_expected_tls", listener: "SSL",
		options: "security_protocol = sasl_ssl, " + trust + ", " + scram5 + login("alice"),
		leads:   "SASL_SSL"},
}

// TestSecurity runs all cases against all versions. Clusters are started once, and together.
func TestSecurity(t *testing.T) {
	sites := startSites(t)
	trustSites(t, sites)
	for _, s := range sites {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			for name, run := range cases(s.Cluster == nil) {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					run(t, s)
				})
			}
		})
	}
}

// cases returns all cases possible at a site, by name.
func cases(embedded bool) map[string]func(*testing.T, *site) {
	all := map[string]func(*testing.T, *site){
		"files_refused": filesRefused,
		"file_gone":     fileGone,
		"welcome":       welcomed,
	}
	for _, c := range troubles {
		if c.embedded || !embedded {
			all[c.name] = c.run
		}
	}
	if embedded {
		return all
	}
	maps.Copy(all, map[string]func(*testing.T, *site){
		"password_changed":    passwordChanged,
		"topic_refused":       topicRefused(),
		"topic_refused_write": topicRefused(kadm.OpDescribe),
		"group_refused":       groupRefused,
	})
	return all
}

// attempted is the number of connections to wait for, as a test against a flood.
const attempted = 10

func (c *trouble) run(t *testing.T, at *site) {
	s := newScene(t, at, c.listener)
	s.refusal = true
	at.createTopic(t, s.topic)
	if c.prepare != nil {
		c.prepare(s)
	}
	s.configure(c.options)
	s.open()
	s.put("waited")
	s.note("produce", 1)
	s.answer("kafka test send", s.sendUntilRefused())
	s.note("test message", 0)
	s.makeUntilRefused()
	s.note("ensure topic", 1)
	s.subscribe()
	s.note("subscribe", 1)
	s.attempts(attempted)
	s.note("many attempts", 0)

	s.gateway.lead(at.address(cmp.Or(c.leads, c.listener)))
	if c.heal != nil {
		c.heal(s)
	}
	if c.reload != "" {
		s.configure(c.reload) // log lines come at once or with the next lines
	}
	s.settled()
	s.receive("waited")
	s.sendUntilSent()
	s.receive("sent")
	s.makeUntilMade()
	s.note("healed", 0)
	at.read(t, cmp.Or(c.leads, c.listener), s.topic, "waited", "sent")
	s.engine.Stop(0)
	s.note("stop", 0)
	s.golden()
}

// passwordChanged changes a user's password at the brokers during traffic, and restores the password. The
// topic is known by then; the client library alone would give up all records.
func passwordChanged(t *testing.T, at *site) {
	s := newScene(t, at, "REAUTH")
	s.refusal = true
	s.brokers = at.address("REAUTH") // the only broker has one address
	at.createTopic(t, s.topic)
	s.configure("security_protocol = sasl_plaintext, " + scram2 + login("erin"))
	s.open()
	s.put("before")
	s.settled()
	s.note("before", 0)
	at.enrol(t, "erin", "changed-"+secret, kadm.ScramSha256)
	var values []string
	for loud, grown := s.log.loud(); len(loud) == 0; loud, grown = s.log.loud() {
		values = append(values, fmt.Sprint("waited ", len(values)))
		s.put(values[len(values)-1])
		select {
		case <-grown:
		case <-time.After(200 * time.Millisecond):
		case <-s.ctx.Done():
			t.Fatal("nobody had to log in again")
		}
	}
	s.note("password changed", 1)
	s.answer("kafka test send", s.sendUntilRefused())
	s.note("test message", 0)
	at.enrol(t, "erin", password("erin"), kadm.ScramSha256)
	s.settled()
	at.read(t, "REAUTH", s.topic, values...)
	s.note("healed", 1)
	s.engine.Stop(0)
	s.note("stop", 0)
	s.golden()
	if time.Since(s.began) > 30*time.Second {
		return // a line between has told of attempts
	}
	loud, _ := s.log.loud()
	for _, one := range loud {
		var after string
		var attempts int
		if _, text, back := strings.Cut(one.text, " is back "); back {
			if _, err := fmt.Sscanf(text, "after %s (%d more attempts failed)", &after, &attempts); err != nil || attempts < 3 {
				t.Errorf("%d attempts, %v: %s", attempts, err, one.text)
			}
		}
	}
}

// trustSites adds the authorities of all sites to the system's. Go reads the system's once in a process.
func trustSites(t *testing.T, sites []*site) {
	t.Helper()
	var all []byte
	for _, s := range sites {
		all = append(all, s.authority.PEM()...)
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "system.pem")
	if err := os.WriteFile(path, all, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SSL_CERT_FILE", path)
	t.Setenv("SSL_CERT_DIR", folder(t, filepath.Join(dir, "none")))
}
