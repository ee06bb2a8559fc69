package security

import (
	"context"
	"os"
	"testing"

	"reskafka/test/pbx"
)

// welcome has every way to secure a connection. kcat reads the records of all.
var welcome = []struct{ name, listener, options string }{
	{"plaintext", "PLAINTEXT", "security_protocol = plaintext"},
	{"ssl", "SSL", "security_protocol = SSL, " + trust},
	{"ssl, folder", "SSL", "security_protocol = ssl, ssl_ca_location = @"},
	{"ssl, system", "SSL", "security_protocol = ssl"},
	{"ssl, client certificate", "MTLS", "security_protocol = ssl, " + trust + ", " + certificate},
	{"ssl, client certificate, system", "MTLS", "security_protocol = ssl, " + certificate},
	{"ssl, client certificate that nobody asks for", "SSL", "security_protocol = ssl, " + trust + ", " + certificate},
	{"ssl, any host", "ELSEWHERE", "security_protocol = ssl, ssl_endpoint_identification_algorithm = none, " + trust},
	{"ssl, any host, system", "ELSEWHERE", "security_protocol = ssl, ssl_endpoint_identification_algorithm = NONE"},
	{"ssl, right host", "SSL", "security_protocol = ssl, ssl_endpoint_identification_algorithm = HTTPS, " + trust},
	{"PLAIN", "SASL_PLAINTEXT", "security_protocol = sasl_plaintext, " + plain + login("alice")},
	{"SCRAM-SHA-256", "SASL_PLAINTEXT", "security_protocol = sasl_plaintext, " + scram2 + login("alice")},
	{"SCRAM-SHA-512", "SASL_PLAINTEXT", "security_protocol = sasl_plaintext, " + scram5 + login("alice")},
	{"PLAIN over TLS", "SASL_SSL", "security_protocol = sasl_ssl, " + trust + ", " + plain + login("alice")},
	{"SCRAM-SHA-256 over TLS", "SASL_SSL", "security_protocol = sasl_ssl, " + trust + ", " + scram2 + login("alice")},
	{"SCRAM-SHA-512 over TLS", "SASL_SSL", "security_protocol = sasl_ssl, " + trust + ", " + scram5 + login("alice")},
	{"PLAIN over TLS, system", "SASL_SSL", "security_protocol = sasl_ssl, " + plain + login("alice")},
	{"SCRAM-SHA-256 over TLS, system", "SASL_SSL", "security_protocol = sasl_ssl, " + scram2 + login("alice")},
	{"SCRAM-SHA-512 over TLS, system", "SASL_SSL", "security_protocol = sasl_ssl, " + scram5 + login("alice")},
}

const certificate = "ssl_certificate_location = @/client.pem, ssl_key_location = @/client.key"

// welcomed produces and consumes in every way; the log has nothing to say.
func welcomed(t *testing.T, at *site) {
	topic := "welcome"
	at.createTopic(t, topic)
	t.Run("all", func(t *testing.T) {
		for _, w := range welcome {
			t.Run(w.name, func(t *testing.T) {
				t.Parallel()
				s := newScene(t, at, w.listener)
				s.topic, s.group = topic, w.name
				s.configure(w.options)
				s.open()
				s.put(w.name)
				s.settled()
				s.subscribe()
				s.receive(w.name)
				if loud, _ := s.log.loud(); len(loud) > 0 {
					t.Errorf("the log says %v", loud)
				}
			})
		}
	})
	got := map[string]int{}
	if at.Cluster == nil {
		return // the consumed records are the only evidence: kcat cannot log in here
	}
	root := os.Getenv("RES_KAFKA_ROOT")
	if root == "" {
		t.Skip("RES_KAFKA_ROOT is not set, so there is no kcat to read with")
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	records, err := pbx.ReadTopic(ctx, root, at.Address(1, "INTERNAL"), topic, len(welcome))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		got[*r.Payload]++
	}
	for _, w := range welcome {
		if got[w.name] != 1 {
			t.Errorf("kcat read the record of %q %d times", w.name, got[w.name])
		}
	}
}
