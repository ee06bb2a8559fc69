package engine

import (
	"os"
	"reflect"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"reskafka/internal/kafka/produce"
	"reskafka/internal/record"
)

// TestClientHasWhatAnOutboxLooksFor verifies that client has all methods of the producer.
func TestClientHasWhatAnOutboxLooksFor(t *testing.T) {
	without := map[string]bool{
		"Underway":   true, // for tests
		"Carries":    true, // for the producer's owner
		"RememberBy": true, // for client, the producer's owner
	}
	ours, theirs := reflect.TypeFor[*client](), reflect.TypeFor[*produce.Producer]()
	for theirs := range theirs.Methods() {
		if without[theirs.Name] {
			continue
		}
		found, ok := ours.MethodByName(theirs.Name)
		if !ok {
			t.Errorf("no method %s", theirs.Name)
			continue
		}
		is, want := found.Type, theirs.Type
		same := is.NumIn() == want.NumIn() && is.NumOut() == want.NumOut()
		for i := 1; same && i < is.NumIn(); i++ {
			same = is.In(i) == want.In(i)
		}
		if !same {
			t.Errorf("method %s is %v, want %v", theirs.Name, is, want)
		}
	}
}

// clientOf is another client of a connection.
func (r *rig) clientOf(t *testing.T, name string) *client {
	t.Helper()
	c, err := r.connection(name)
	if err != nil {
		t.Fatal(err)
	}
	client, err := c.newClient(c.settings.Load())
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// sent sends one record through a new client and returns its outcome.
func sent(t *testing.T, c *client) error {
	t.Helper()
	outcome := make(chan error, 1)
	c.AnswerTo(func(_ []*record.Record, err error) { outcome <- err })
	return sentAgain(t, c, outcome)
}

// sentAgain is sent for a client with a receiver that fills outcome.
func sentAgain(t *testing.T, c *client, outcome <-chan error) error {
	t.Helper()
	c.Send([]*record.Record{{Topic: "t", Value: []byte("v"), Accepted: time.Now()}}, time.Now().Add(patience))
	select {
	case err := <-outcome:
		return err
	case <-time.After(2 * patience):
		t.Fatal("a record has no outcome")
		return nil
	}
}

func TestClientIsMadeByTheFirstRecord(t *testing.T) {
	b := newBroker(t, kfake.SeedTopics(1, "t"))
	r := start(t, newLines())
	r.configure(section("one", b.address()))
	c := r.clientOf(t, "one")
	if c.producer.Load() != nil {
		t.Error("there is a producer before there is a record")
	}
	outcome := make(chan error, 1)
	c.AnswerTo(func(_ []*record.Record, err error) { outcome <- err })
	if err := sentAgain(t, c, outcome); err != nil {
		t.Fatalf("the first record: %v", err)
	}
	c.Close()
	if err := sentAgain(t, c, outcome); err != produce.ErrClosed {
		t.Errorf("after it was closed: %v", err)
	}
	b.consumed(t, "t", 1)
}

func TestClientThatEndsBeforeThereIsARecord(t *testing.T) {
	for name, end := range map[string]func(*client){
		"closed": (*client).Close, "closed with a limit": func(c *client) { c.CloseWithin(time.Second) }, "recalled": (*client).Recall,
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, newLines())
			r.configure(section("one", refusedAddress(t)))
			c := r.clientOf(t, "one")
			end(c)
			if err := sent(t, c); err != produce.ErrClosed || c.producer.Load() != nil {
				t.Errorf("a record's outcome is %v, the producer %v", err, c.producer.Load())
			}
			c.Close()
		})
	}
}

// TestClientWhoseFilesAreGone removes a key between OpenProducer and the first record: the records wait, and
// the log names the missing file.
func TestClientWhoseFilesAreGone(t *testing.T) {
	certificate, key := writeCertificate(t)
	secret, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	r := start(t, newLines())
	r.configure(section("one", refusedAddress(t), inMemory, "security_protocol = ssl",
		"ssl_certificate_location = "+certificate, "ssl_key_location = "+key))
	s := r.open("one")
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	s.put(numbered("t", "k", 0, 2)...)
	told := func(what string) func() bool { return func() bool { return len(r.log.with(what)) > 0 } }
	eventually(t, "the log tells", told("error: connection one: reading ssl_certificate_location"))
	if err := os.WriteFile(key, secret, 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a client is made, which finds nobody", told("connection one: broker"))
	r.log.want(t, 1, "connection one: reading", "; records wait")
	r.log.want(t, 1, "notice: connection 'one': its client can be made again")
	if c := r.status("one").Totals; c.Accepted != 2 || c.Waiting+c.Sending != 2 {
		t.Errorf("account %+v", c)
	}
}
