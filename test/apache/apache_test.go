package apache

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"reskafka/test/pbx"
)

// eachVersion runs a test with every Apache Kafka there is: RES_KAFKA_APACHE holds name=folder, with colons between.
func eachVersion(t *testing.T, test func(t *testing.T, kafka string)) {
	list := os.Getenv("RES_KAFKA_APACHE")
	if list == "" {
		t.Skip(`RES_KAFKA_APACHE is not set, for example to "4.x=$(scripts/provision-kafka 4):3.x=$(scripts/provision-kafka 3)"`)
	}
	for entry := range strings.SplitSeq(list, ":") {
		name, kafka, found := strings.Cut(entry, "=")
		if !found {
			t.Fatalf("RES_KAFKA_APACHE has %q, want name=folder", entry)
		}
		t.Run(name, func(t *testing.T) { test(t, kafka) })
	}
}

func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// start runs a cluster until the end of the test.
func start(t *testing.T, config Config) *Cluster {
	t.Helper()
	t.Chdir(t.TempDir())
	config.Dir = "cluster"
	began := time.Now()
	c, err := Start(testContext(t), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d of %s started in %v, the first takes %s", len(c.nodes), filepath.Base(config.Kafka),
		time.Since(began).Round(time.Millisecond), memory(t, c.PID(1)))
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// memory returns a process's resident memory.
func memory(t *testing.T, pid int) string {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	return string(regexp.MustCompile(`(?m)^VmRSS:\s*(.*)$`).FindSubmatch(status)[1])
}

func client(t *testing.T, brokers string, options ...kgo.Opt) *kgo.Client {
	t.Helper()
	options = append([]kgo.Opt{
		kgo.SeedBrokers(strings.Split(brokers, ",")...), kgo.AllowAutoTopicCreation(), kgo.DefaultProduceTopic("test"),
	}, options...)
	c, err := kgo.NewClient(options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func produce(t *testing.T, c *kgo.Client, values ...string) {
	t.Helper()
	for _, value := range values {
		if err := c.ProduceSync(testContext(t), kgo.StringRecord(value)).FirstErr(); err != nil {
			t.Fatalf("producing %q: %v", value, err)
		}
	}
}

// consume reads the values of the first count records.
func consume(t *testing.T, brokers string, count int, options ...kgo.Opt) string {
	t.Helper()
	c := client(t, brokers, append(options, kgo.ConsumeTopics("test"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))...)
	var values []string
	for len(values) < count {
		fetches := c.PollFetches(testContext(t))
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		fetches.EachRecord(func(r *kgo.Record) { values = append(values, string(r.Value)) })
	}
	return strings.Join(values, " ")
}

func TestOneNode(t *testing.T) {
	eachVersion(t, func(t *testing.T, kafka string) {
		c := start(t, Config{Kafka: kafka})
		brokers := c.Brokers(Plaintext.Name)
		ours := client(t, brokers)
		produce(t, ours, "one", "two")
		if got := consume(t, brokers, 2); got != "one two" {
			t.Errorf("consumed %q", got)
		}
		records, err := pbx.ReadTopic(testContext(t), os.Getenv("RES_KAFKA_ROOT"), brokers, "test", 2)
		if err != nil {
			t.Fatal(err)
		}
		if len(records) != 2 || *records[1].Payload != "two" || records[1].Offset != 1 {
			t.Errorf("kcat read %v", records)
		}
	})
}

func TestDataIsThereAfterRestart(t *testing.T) {
	eachVersion(t, func(t *testing.T, kafka string) {
		c := start(t, Config{Kafka: kafka})
		brokers := c.Brokers(Plaintext.Name)
		ours := client(t, brokers)
		produce(t, ours, "before")
		for _, end := range []func(){
			func() {},
			func() { c.Kill(1) },
			func() {
				if err := errors.Join(c.Pause(1), c.Stop(testContext(t), 1)); err != nil {
					t.Error(err)
				}
			},
		} {
			pid := c.PID(1)
			end()
			began := time.Now()
			if err := c.Restart(testContext(t), 1); err != nil {
				t.Fatal(err)
			}
			t.Logf("restarted in %v", time.Since(began).Round(time.Millisecond))
			if c.PID(1) == pid {
				t.Error("the node was not restarted")
			}
		}
		produce(t, ours, "after")
		if got := consume(t, brokers, 2); got != "before after" {
			t.Errorf("consumed %q", got)
		}
	})
}

func TestThreeNodesLoseOne(t *testing.T) {
	eachVersion(t, func(t *testing.T, kafka string) {
		c := start(t, Config{Kafka: kafka, Nodes: 3})
		brokers := c.Brokers(Plaintext.Name)
		ours := client(t, brokers, kgo.RequiredAcks(kgo.AllISRAcks()))
		admin := kadm.NewClient(ours)
		if _, err := admin.CreateTopic(testContext(t), 1, 3, nil, "test"); err != nil {
			t.Fatal(err)
		}
		produce(t, ours, "one")
		leader := leaderOf(t, admin)
		c.Kill(leader)
		produce(t, ours, "two", "three")
		began := time.Now()
		if err := c.Restart(testContext(t), leader); err != nil {
			t.Fatal(err)
		}
		t.Logf("node %d restarted in %v", leader, time.Since(began).Round(time.Millisecond))
		waitInSync(t, admin, 3)
		// Another node may stop now: it has the records produced during its absence.
		produce(t, ours, "four")
		c.Kill(leader%3 + 1)
		produce(t, ours, "five")
		if got := consume(t, brokers, 5); strings.Count(got, " ") != 4 {
			t.Errorf("consumed %q", got)
		}
	})
}

// leaderOf returns the leader of the topic's first partition.
func leaderOf(t *testing.T, admin *kadm.Client) int {
	t.Helper()
	details, err := admin.ListTopics(testContext(t), "test")
	if err != nil {
		t.Fatal(err)
	}
	return int(details["test"].Partitions[0].Leader)
}

// waitInSync polls until each partition of the topic has this number of replicas in sync. Kafka has no
// notification, and each request takes its time.
func waitInSync(t *testing.T, admin *kadm.Client, replicas int) {
	t.Helper()
	for ctx := testContext(t); ; {
		details, err := admin.ListTopics(ctx, "test")
		if err != nil {
			t.Fatal(err)
		}
		behind := 0
		for _, partition := range details["test"].Partitions {
			if len(partition.ISR) < replicas {
				behind++
			}
		}
		if behind == 0 {
			return
		}
	}
}

var secured = Config{
	Listeners: []Listener{
		Plaintext, SSL, SASLPlaintext, SASLSSL, MutualTLS,
		{Name: "EXPIRED", Protocol: "SSL", Flaw: Expired},
		{Name: "ELSEWHERE", Protocol: "SSL", Flaw: WrongHost},
		{Name: "STRANGER", Protocol: "SSL", Flaw: UnknownCA},
		{Name: "SCRAM_ONLY", Protocol: "SASL_PLAINTEXT", Mechanisms: []string{"SCRAM-SHA-512"}},
	},
	Users:      []User{{"alice", "alice's-secret"}, {"bob", `b\ob's#!`}},
	SuperUsers: []string{"alice", "CN=client"},
}

func mechanism(name, user, password string) sasl.Mechanism {
	switch name {
	case "PLAIN":
		return plain.Auth{User: user, Pass: password}.AsMechanism()
	case "SCRAM-SHA-256":
		return scram.Auth{User: user, Pass: password}.AsSha256Mechanism()
	default:
		return scram.Auth{User: user, Pass: password}.AsSha512Mechanism()
	}
}

func TestSecurity(t *testing.T) {
	eachVersion(t, func(t *testing.T, kafka string) {
		config := secured
		config.Kafka = kafka
		c := start(t, config)
		trust := &tls.Config{RootCAs: x509.NewCertPool()}
		ca, err := os.ReadFile(c.CAFile())
		if err != nil || !trust.RootCAs.AppendCertsFromPEM(ca) {
			t.Fatalf("reading the authority: %v", err)
		}
		showing := trust.Clone()
		pair, err := c.Authority().Issue("client", NoFlaw)
		if err != nil {
			t.Fatal(err)
		}
		certificate, err := tls.X509KeyPair(pair.Certificate, pair.Key)
		if err != nil {
			t.Fatal(err)
		}
		showing.Certificates = []tls.Certificate{certificate}

		for name, options := range map[string][]kgo.Opt{
			Internal: nil, "PLAINTEXT": nil,
			"SSL": {kgo.DialTLSConfig(trust)}, "MTLS": {kgo.DialTLSConfig(showing)},
		} {
			t.Run(name, func(t *testing.T) { roundTrip(t, c.Brokers(name), options...) })
		}
		for _, m := range []string{"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"} {
			login := kgo.SASL(mechanism(m, "alice", "alice's-secret"))
			t.Run(m, func(t *testing.T) {
				roundTrip(t, c.Brokers("SASL_PLAINTEXT"), login)
				roundTrip(t, c.Brokers("SASL_SSL"), login, kgo.DialTLSConfig(trust))
			})
		}
		t.Run("refused", func(t *testing.T) { refused(t, c, trust) })
		t.Run("ACL", func(t *testing.T) { allowed(t, c) })
	})
}

// roundTrip produces a record and reads all records up to it.
func roundTrip(t *testing.T, brokers string, options ...kgo.Opt) {
	t.Helper()
	record := client(t, brokers, options...).ProduceSync(testContext(t), kgo.StringRecord(t.Name()))
	if err := record.FirstErr(); err != nil {
		t.Fatal(err)
	}
	values := consume(t, brokers, int(record[0].Record.Offset)+1, options...)
	if !strings.HasSuffix(values, t.Name()) {
		t.Errorf("consumed %q", values)
	}
}

// Answers of Java 17 and Java 25 to a client without a certificate.
var withoutCertificate = regexp.MustCompile(`tls: (bad certificate|certificate required)$`)

// refused tries forbidden operations.
func refused(t *testing.T, c *Cluster, trust *tls.Config) {
	stranger, err := NewAuthority("Somebody")
	if err != nil {
		t.Fatal(err)
	}
	other := &tls.Config{RootCAs: x509.NewCertPool()}
	other.RootCAs.AppendCertsFromPEM(stranger.PEM())
	var unknown x509.UnknownAuthorityError
	var hostname x509.HostnameError
	var invalid x509.CertificateInvalidError
	for _, test := range []struct {
		listener string
		options  []kgo.Opt
		is       func(error) bool
	}{
		{"EXPIRED", []kgo.Opt{kgo.DialTLSConfig(trust)}, func(err error) bool { return errors.As(err, &invalid) && invalid.Reason == x509.Expired }},
		{"ELSEWHERE", []kgo.Opt{kgo.DialTLSConfig(trust)}, func(err error) bool { return errors.As(err, &hostname) }},
		{"STRANGER", []kgo.Opt{kgo.DialTLSConfig(trust)}, func(err error) bool { return errors.As(err, &unknown) }},
		{"SSL", []kgo.Opt{kgo.DialTLSConfig(other)}, func(err error) bool { return errors.As(err, &unknown) }},
		{"MTLS", []kgo.Opt{kgo.DialTLSConfig(trust)}, func(err error) bool { return withoutCertificate.MatchString(err.Error()) }},
		{"SASL_PLAINTEXT", []kgo.Opt{kgo.SASL(mechanism("PLAIN", "alice", "wrong"))}, func(err error) bool { return errors.Is(err, kerr.SaslAuthenticationFailed) }},
		{"SASL_PLAINTEXT", []kgo.Opt{kgo.SASL(mechanism("SCRAM-SHA-256", "nobody", "wrong"))}, func(err error) bool { return errors.Is(err, kerr.SaslAuthenticationFailed) }},
		{"SCRAM_ONLY", []kgo.Opt{kgo.SASL(mechanism("PLAIN", "alice", "alice's-secret"))}, func(err error) bool { return errors.Is(err, kerr.UnsupportedSaslMechanism) }},
	} {
		err := client(t, c.Brokers(test.listener), test.options...).Ping(testContext(t))
		if err == nil || !test.is(err) {
			t.Errorf("%s: %v", test.listener, err)
		}
	}
	if _, err := c.WaitLog(testContext(t), 1, regexp.MustCompile(`Failed authentication`)); err != nil {
		t.Error(err)
	}
}

// allowed grants bob, a user without rights, the right to write.
func allowed(t *testing.T, c *Cluster) {
	bob := client(t, c.Brokers("SASL_PLAINTEXT"), kgo.SASL(mechanism("PLAIN", "bob", `b\ob's#!`)))
	err := bob.ProduceSync(testContext(t), kgo.StringRecord("before")).FirstErr()
	if !errors.Is(err, kerr.TopicAuthorizationFailed) {
		t.Fatalf("producing without a right: %v", err)
	}
	admin := kadm.NewClient(client(t, c.Brokers(Internal)))
	results, err := admin.CreateACLs(testContext(t), kadm.NewACLs().Topics("test").ResourcePatternType(kadm.ACLPatternLiteral).
		Allow("User:bob").AllowHosts().Operations(kadm.OpWrite, kadm.OpDescribe))
	if err != nil || results[0].Err != nil {
		t.Fatal(err, results)
	}
	// The right has to reach the broker's authorizer from the controller.
	for err = kerr.TopicAuthorizationFailed; errors.Is(err, kerr.TopicAuthorizationFailed); {
		err = bob.ProduceSync(testContext(t), kgo.StringRecord("after")).FirstErr()
	}
	if err != nil {
		t.Errorf("producing with the right: %v", err)
	}
	produce(t, client(t, c.Brokers("SCRAM_ONLY"), kgo.SASL(mechanism("SCRAM-SHA-512", "bob", `b\ob's#!`))), "by another way")
}

func TestPropertiesAndLoggersOfTheCaller(t *testing.T) {
	eachVersion(t, func(t *testing.T, kafka string) {
		c := start(t, Config{
			Kafka:      kafka,
			Properties: map[string]string{"auto.create.topics.enable": "false"},
			Loggers:    map[string]string{"kafka.request.logger": "DEBUG"},
		})
		err := client(t, c.Brokers(Plaintext.Name), kgo.ClientID("söme client"), kgo.UnknownTopicRetries(0)).
			ProduceSync(testContext(t), kgo.StringRecord("one")).FirstErr()
		if !errors.Is(err, kerr.UnknownTopicOrPartition) {
			t.Errorf("producing to a topic that nobody may make: %v", err)
		}
		line, err := c.WaitLog(testContext(t), 1, regexp.MustCompile(`"requestApiKeyName":"METADATA"`))
		if err != nil || !strings.Contains(line, "söme client") {
			t.Errorf("the request's line is %q, %v", line, err)
		}
	})
}

func TestPausedNodeIsSilent(t *testing.T) {
	eachVersion(t, func(t *testing.T, kafka string) {
		c := start(t, Config{Kafka: kafka})
		if err := errors.Join(c.Pause(1), c.Pause(1)); err != nil {
			t.Fatal(err)
		}
		// The kernel accepts the connection, the node does not answer.
		connection, err := net.Dial("tcp", c.Address(1, Plaintext.Name))
		if err != nil {
			t.Fatal(err)
		}
		defer connection.Close()
		impatient := client(t, c.Brokers(Plaintext.Name), kgo.RequestTimeoutOverhead(time.Second), kgo.RequestRetries(0))
		if err := impatient.Ping(testContext(t)); err == nil {
			t.Error("a paused node answers")
		}
		if err := c.Resume(1); err != nil {
			t.Fatal(err)
		}
		if err := client(t, c.Brokers(Plaintext.Name)).Ping(testContext(t)); err != nil {
			t.Errorf("after resuming: %v", err)
		}
	})
}

func TestStartThatFailsTellsWhy(t *testing.T) {
	eachVersion(t, func(t *testing.T, kafka string) {
		config := Config{Dir: t.TempDir(), Kafka: kafka, Properties: map[string]string{"num.io.threads": "none"}}
		if _, err := Start(testContext(t), config); err == nil || !strings.Contains(err.Error(), "num.io.threads") {
			t.Errorf("Start() = %v, want the property's name", err)
		}
		config = Config{Dir: t.TempDir(), Kafka: kafka, Properties: map[string]string{"metric.reporters": "no.such.Class"}}
		if _, err := Start(testContext(t), config); err == nil || !strings.Contains(err.Error(), "no.such.Class") {
			t.Errorf("Start() = %v, want the end of the log", err)
		}
	})
	if _, err := Start(testContext(t), Config{Dir: t.TempDir(), Kafka: t.TempDir()}); err == nil || !strings.Contains(err.Error(), "provision-kafka") {
		t.Errorf("Start() without jars = %v", err)
	}
}

func TestNodeThatEndsByItselfIsReported(t *testing.T) {
	eachVersion(t, func(t *testing.T, kafka string) {
		c, err := Start(testContext(t), Config{Dir: t.TempDir(), Kafka: kafka})
		if err != nil {
			t.Fatal(err)
		}
		process, err := os.FindProcess(c.PID(1))
		if err != nil {
			t.Fatal(err)
		}
		if err := process.Kill(); err != nil {
			t.Fatal(err)
		}
		if line, err := c.WaitLog(testContext(t), 1, regexp.MustCompile("never logged")); err == nil || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("WaitLog = %q, %v, want the end of the node", line, err)
		}
		if err := c.Close(); err == nil || !strings.Contains(err.Error(), "killed") || !strings.Contains(err.Error(), "Kafka Server started") {
			t.Errorf("Close() = %v, want how the node ended and its log", err)
		}
	})
}
