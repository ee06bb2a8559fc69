package security

import (
	"os"
	"path/filepath"
	"testing"

	"reskafka/internal/config/configtest"
)

// reconfigure tries wrong options and notes the log lines.
func (s *scene) reconfigure(what, options string) {
	s.Helper()
	if err := s.engine.Configure(configtest.Read(s.text(options))); err == nil {
		s.Error("wrong options were put in force")
	}
	s.note(what, 1)
}

// filesRefused reloads with mistakes in the files of a working connection. Nothing changes before the
// corrections; then the connection presents the certificate.
func filesRefused(t *testing.T, at *site) {
	s := newScene(t, at, "SSL")
	at.createTopic(t, s.topic)
	client("client")(s)
	s.place("stranger.key", "unknown-ca.key")
	if err := os.WriteFile(filepath.Join(s.dir, "text.pem"), []byte("no PEM\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const ssl = "security_protocol = ssl, "
	first := "security_protocol = ssl, " + trust
	s.reconfigure("first load, a file that is missing", ssl+"ssl_ca_location = #/nothing.pem")
	s.configure(first)
	s.open()
	s.put("first")
	s.settled()
	s.note("first load", 0)
	for _, wrong := range []struct{ what, options string }{
		{"key without certificate", first + ", ssl_key_location = #/client.key"},
		{"another certificate's key", first + ", ssl_certificate_location = #/client.pem, ssl_key_location = #/stranger.key"},
		{"missing file", ssl + "ssl_ca_location = #/nothing.pem"},
		{"file without a certificate", ssl + "ssl_ca_location = #/text.pem"},
		{"folder in place of a file", first + ", ssl_certificate_location = #, ssl_key_location = #/client.key"},
	} {
		s.reconfigure(wrong.what, wrong.options)
		s.put(wrong.what)
		s.settled()
	}
	s.gateway.lead(at.address("MTLS"))
	s.configure(first + ", " + shown)
	s.put("last")
	s.settled()
	s.answer("kafka test send", s.testSend("sent"))
	s.note("healed", 0)
	at.read(t, "MTLS", s.topic, "last", "sent")
	s.engine.Stop(0)
	s.note("stop", 0)
	s.golden()
}

// fileGone removes a file between the load and the first use: the producer comes after the file's return.
func fileGone(t *testing.T, at *site) {
	s := newScene(t, at, "SSL")
	at.createTopic(t, s.topic)
	s.place("ca.pem", "ca.pem")
	s.configure("security_protocol = ssl, ssl_ca_location = #/ca.pem")
	if err := os.Remove(filepath.Join(s.dir, "ca.pem")); err != nil {
		t.Fatal(err)
	}
	if err := s.engine.OpenProducer("one", 1, &s.gate); err == nil {
		t.Error("there is a producer")
	}
	s.note("get producer", 1)
	s.answer("kafka test send", s.testSend("refused"))
	s.place("ca.pem", "ca.pem")
	s.open()
	s.put("waited")
	s.settled()
	s.note("healed", 0)
	at.read(t, "SSL", s.topic, "waited")
	s.engine.Stop(0)
	s.note("stop", 0)
	s.golden()
}
