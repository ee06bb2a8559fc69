package scenario

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"

	"reskafka/test/apache"
	"reskafka/test/openssl"
)

// TestPasswordIsPutRight has a mistyped password for the only user, over TLS with its own authority. One line
// names the fault, and a record from the meantime arrives after a reload with the right password.
func TestPasswordIsPutRight(t *testing.T) {
	names, folders := versions()
	if len(names) == 0 {
		t.Skip("RES_KAFKA_APACHE names no Apache Kafka; the embedded broker does not say what is wrong with a login, and kcat cannot log in there")
	}
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			counted(t, kind{name, 1})
			passwordIsPutRight(t, folders[name])
		})
	}
}

func passwordIsPutRight(t *testing.T, kafka string) {
	const right, wrong = "right-s3cret", "mistyped-s3cret"
	// The broker belongs to this test: its log-in listener is for Asterisk, the plain listener for kcat.
	w := newWorld(t, options{noBroker: true, unbooted: true})
	cluster, err := apache.Start(w.ctx, apache.Config{
		Dir: filepath.Join(w.dir, "broker"), Kafka: kafka, Listeners: []apache.Listener{apache.Plaintext, apache.SASLSSL},
		Users: []apache.User{{Name: "asterisk", Password: right}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cluster.Close() })
	w.address = cluster.Brokers(apache.Plaintext.Name)
	brokers := cluster.Brokers(apache.SASLSSL.Name)
	write := func(password string) {
		text := fmt.Sprintf("[one]\ntype = connection\nbrokers = %s\nsecurity_protocol = sasl_ssl\nssl_ca_location = %s\n"+
			"sasl_mechanisms = SCRAM-SHA-512\nsasl_username = asterisk\nsasl_password = %s\n", brokers, cluster.CAFile(), password)
		if err := w.pbx.WriteFile("kafka.conf", text); err != nil {
			t.Fatal(err)
		}
	}
	write(wrong)
	w.boot()

	mark := w.pbx.LogMark()
	w.expect(`accepted 1`, "kafka probe file one t %s", w.probeFile([2][]byte{[]byte("k"), []byte("waited")}))
	w.waitLog(mark, `WARNING.*connection one: broker `+brokers+` cannot be reached: SASL: unknown user or wrong password, .*; records wait`)
	w.expect(`^Error: Message not sent: .*SASL: unknown user or wrong password`, "kafka test send connection one topic t message m")
	w.expect(`sasl_ssl(?s:.*)SASL password: +\*\*\*(?s:.*)SSL host check: +https`, "kafka show connection one")

	write(right)
	w.cli("module reload res_kafka.so")
	w.acknowledged("one", 1)
	w.expect(`Message sent successfully`, "kafka test send connection one topic t message sent")
	for i, r := range w.read("t", 2) {
		if want := []string{"waited", "sent"}[i]; text(r.Payload) != want {
			t.Errorf("record %d is %s, want %s", i, text(r.Payload), want)
		}
	}
	refused, mended := 0, 0
	for _, line := range w.pbx.LogLines() {
		if strings.Contains(line, "s3cret") {
			t.Errorf("a password is in the log: %s", line)
		}
		switch {
		case strings.Contains(line, "works again after"):
			mended++
		case strings.Contains(line, "unknown user"):
			refused++
		}
	}
	if refused != 1 || mended != 1 {
		t.Errorf("%d lines for one cause, %d for its end", refused, mended)
	}
}

// TestOddCertificates sends from Asterisk to a broker behind OpenSSL with RSA key exchange only. Certificate
// and authority have negative serial numbers. Both need settings linked into the engine. The authority's path
// is relative to Asterisk's working directory.
func TestOddCertificates(t *testing.T) {
	dir := t.TempDir()
	openssl.Run(t, dir, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=authority",
		"-days", "2", "-set_serial", "-5")
	openssl.Run(t, dir, "req", "-newkey", "rsa:2048", "-nodes", "-keyout", "broker.key", "-out", "broker.csr", "-subj", "/CN=127.0.0.1")
	openssl.Run(t, dir, "x509", "-req", "-in", "broker.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-set_serial", "-7", "-days", "2",
		"-sha256", "-out", "broker.pem")
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "t"), kfake.ListenFn(openssl.Listen(t,
		"-cert", filepath.Join(dir, "broker.pem"), "-key", filepath.Join(dir, "broker.key"), "-tls1_2", "-cipher", "kRSA+AESGCM")))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	w := newWorld(t, options{noBroker: true, unbooted: true, files: map[string]string{"kafka.conf": fmt.Sprintf("[one]\n"+
		"type = connection\nbrokers = %s\nsecurity_protocol = ssl\nssl_ca_location = authority.pem\n", cluster.ListenAddrs()[0])}})
	w.must(os.Symlink(filepath.Join(dir, "ca.pem"), filepath.Join(w.dir, "pbx", "run", "authority.pem")))
	w.boot()
	w.expect(`Message sent successfully`, "kafka test send connection one topic t message m")
}
