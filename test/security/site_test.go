package security

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"reskafka/test/apache"
)

// patience is the limit of a wait; only a failing test reaches the limit. On a busy machine a cluster starts late.
const patience = 4 * time.Minute

// listeners of every site. The last three have the flaw in their name; a login at REAUTH lasts 3 s, then the
// client has to log in again on the same connection.
var listeners = []apache.Listener{
	apache.Plaintext, apache.SSL, apache.SASLPlaintext, apache.SASLSSL, apache.MutualTLS,
	{Name: "SCRAM_512", Protocol: "SASL_PLAINTEXT", Mechanisms: []string{"SCRAM-SHA-512"}},
	{Name: "REAUTH", Protocol: "SASL_PLAINTEXT", Mechanisms: []string{"SCRAM-SHA-256"}},
	{Name: "EXPIRED", Protocol: "SSL", Flaw: apache.Expired},
	{Name: "ELSEWHERE", Protocol: "SSL", Flaw: apache.WrongHost},
	{Name: "STRANGER", Protocol: "SSL", Flaw: apache.UnknownCA},
}

// secret is part of every password and of nothing else.
const secret = "s3cret"

// password returns a user's password.
func password(user string) string { return user + "-" + secret }

// The users: alice has all rights, bob none. The brokers have another password for carla and none for dora,
// until a correction in a case; erin's changes.
var (
	users = []apache.User{{Name: "alice", Password: password("alice")}, {Name: "bob", Password: password("bob")},
		{Name: "carla", Password: "another-" + secret}, {Name: "erin", Password: password("erin")}}
	superUsers = []string{"alice", "carla", "dora", "erin", "CN=client"}
)

// site is one Kafka under test: Apache's, or embedded brokers.
type site struct {
	*apache.Cluster                           // nil = embedded
	fakes           map[string]*kfake.Cluster // the embedded brokers, one for each listener
	name            string
	authority       *apache.Authority // who signed the brokers' certificates
	files           string            // a folder with the clients' files, see layOut
	admin           *kadm.Client
}

// address is where a listener is.
func (s *site) address(listener string) string {
	if s.Cluster == nil {
		return s.fakes[listener].ListenAddrs()[0]
	}
	return s.Address(1, listener)
}

// folder creates an empty folder.
func folder(t *testing.T, path string) string {
	t.Helper()
	if err := os.MkdirAll(path, 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// startSites starts a cluster of every version in RES_KAFKA_APACHE, which holds name=folder with colons between, and the
// embedded brokers.
func startSites(t *testing.T) []*site {
	sites := []*site{startEmbedded(t)}
	var all sync.WaitGroup
	for entry := range strings.SplitSeq(os.Getenv("RES_KAFKA_APACHE"), ":") {
		name, kafka, found := strings.Cut(entry, "=")
		if !found {
			continue
		}
		s := &site{name: name}
		dir := t.TempDir()
		sites = append(sites, s)
		all.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			var err error
			if s.Cluster, err = apache.Start(ctx, apache.Config{
				Dir: filepath.Join(dir, "cluster"), Kafka: kafka, Listeners: listeners, Users: users, SuperUsers: superUsers,
				// With several certificates, a listener presents the old certificate now and then during a
				// change.
				Properties: map[string]string{
					"num.network.threads": "1",
					"listener.name.reauth.scram-sha-256.connections.max.reauth.ms": "3000",
				},
				Loggers: map[string]string{"kafka.authorizer.logger": "INFO"},
			}); err == nil {
				s.authority, s.files = s.Authority(), filepath.Join(dir, "files")
				err = s.layOut()
			}
			if err != nil {
				t.Errorf("%s: %v", s.name, err)
			}
		})
	}
	all.Wait()
	for _, s := range sites {
		if s.Cluster != nil {
			t.Cleanup(func() {
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			})
			s.admin = kadm.NewClient(s.client(t, s.Brokers(apache.Internal)))
		}
	}
	if t.Failed() {
		t.FailNow()
	}
	return sites
}

// layOut writes the clients' files:
//
//	ca.pem, stranger.pem                  the authority of the brokers, and another
//	client.pem, client.key                a certificate accepted by the brokers
//	expired.pem, unknown-ca.pem and .key  refused certificates
func (s *site) layOut() error {
	stranger, err := apache.NewAuthority("Somebody")
	if err != nil {
		return err
	}
	files := map[string][]byte{"ca.pem": s.authority.PEM(), "stranger.pem": stranger.PEM()}
	for name, flaw := range map[string]apache.Flaw{"client": apache.NoFlaw, "expired": apache.Expired, "unknown-ca": apache.UnknownCA} {
		pair, err := s.authority.Issue("client", flaw)
		if err != nil {
			return err
		}
		files[name+".pem"], files[name+".key"] = pair.Certificate, pair.Key
	}
	errs := []error{os.MkdirAll(s.files, 0o700)}
	for name, text := range files {
		errs = append(errs, os.WriteFile(filepath.Join(s.files, name), text, 0o600))
	}
	return errors.Join(errs...)
}

// client is an independent client with all rights.
func (s *site) client(t *testing.T, brokers string, options ...kgo.Opt) *kgo.Client {
	t.Helper()
	c, err := kgo.NewClient(append(options, kgo.SeedBrokers(brokers), kgo.MetadataMinAge(100*time.Millisecond))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// read reads a topic with an independent client until all these values are found. Each embedded broker has
// its own records: read uses the listener's broker.
func (s *site) read(t *testing.T, listener, topic string, values ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	options := []kgo.Opt{kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart())}
	var c *kgo.Client
	if s.Cluster == nil {
		c = s.client(t, s.address(listener), append(options, s.admission(t, listener)...)...)
	} else {
		c = s.client(t, s.Brokers(apache.Internal), options...)
	}
	for found := map[string]bool{}; slices.ContainsFunc(values, func(v string) bool { return !found[v] }); {
		fetches := c.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("of %s, only %v: %v", topic, found, err)
		}
		fetches.EachRecord(func(r *kgo.Record) { found[string(r.Value)] = true })
	}
}

// administer repeats a change of the brokers until its success: a broker without a processor loses its session, and
// refuses changes for a while.
func administer(t *testing.T, change func() error) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		err := change()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// renew replaces a listener's certificate with a correct certificate, while the broker runs.
func (s *site) renew(t *testing.T, listener string) {
	t.Helper()
	pair, err := s.authority.Issue("broker", apache.NoFlaw)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tls.X509KeyPair(pair.Certificate, pair.Key); err != nil {
		t.Fatal(err)
	}
	path := s.files + "-renewed.pem" // beside the folder: the folder of authorities must not change
	if err := os.WriteFile(path, slices.Concat(pair.Key, pair.Certificate), 0o600); err != nil {
		t.Fatal(err)
	}
	administer(t, func() error {
		results, err := s.admin.AlterBrokerConfigs(t.Context(), []kadm.AlterConfig{{
			Op: kadm.SetConfig, Name: "listener.name." + strings.ToLower(listener) + ".ssl.keystore.location", Value: &path,
		}}, 1)
		if err == nil {
			err = results[0].Err
		}
		return err
	})
}

// enrol sets a user's password at the brokers.
func (s *site) enrol(t *testing.T, user, password string, mechanism kadm.ScramMechanism) {
	t.Helper()
	administer(t, func() error {
		results, err := s.admin.AlterUserSCRAMs(t.Context(), nil, []kadm.UpsertSCRAM{
			{User: user, Mechanism: mechanism, Iterations: 4096, Password: password},
		})
		if err == nil {
			err = results.Error()
		}
		return err
	})
}

// allow grants bob rights.
func (s *site) allow(t *testing.T, rights *kadm.ACLBuilder) {
	t.Helper()
	rights = rights.ResourcePatternType(kadm.ACLPatternLiteral).Allow("User:bob").AllowHosts()
	administer(t, func() error {
		results, err := s.admin.CreateACLs(t.Context(), rights)
		for _, result := range results {
			err = errors.Join(err, result.Err)
		}
		return err
	})
}

// createTopic makes a topic.
func (s *site) createTopic(t *testing.T, topic string) {
	t.Helper()
	if s.Cluster != nil {
		administer(t, func() error {
			result, err := s.admin.CreateTopic(t.Context(), 1, 1, nil, topic)
			if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) { // after a lost answer
				return fmt.Errorf("%w: %s", err, result.ErrMessage)
			}
			return nil
		})
	}
	for _, fake := range s.fakes {
		if err := fake.CreateTopic(topic, 1, nil); err != nil {
			t.Fatal(err)
		}
	}
}

var update = flag.Bool("update", false, "rewrite the golden files")

// TestMain runs many cases in parallel: most of their time is waiting.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "32"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	os.Exit(m.Run())
}
