package security

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	saslplain "github.com/twmb/franz-go/pkg/sasl/plain"
)

// asBob are the options of the user who may do nothing.
var asBob = "security_protocol = sasl_plaintext, " + plain + login("bob")

// denied waits until the broker's log has `more` further denials of bob's requests for a resource.
func (s *scene) denied(resource string, more int) {
	s.Helper()
	count := func() int {
		text, err := s.site.Log(1)
		if err != nil {
			s.Fatal(err)
		}
		n := 0
		for line := range strings.Lines(text) {
			if strings.Contains(line, "User:bob is Denied") && strings.Contains(line, resource+" ") {
				n++
			}
		}
		return n
	}
	for begun, now := count(), 0; now < begun+more; now = count() {
		select {
		case <-time.After(50 * time.Millisecond):
		case <-s.ctx.Done():
			s.Fatalf("%d denials of %s in all that time", now-begun, resource)
		}
	}
}

// waitVisible waits until bob may see a topic: rights reach the broker late and without notice.
func (s *scene) waitVisible() {
	s.Helper()
	bob := kadm.NewClient(s.site.client(s.T, s.site.address("SASL_PLAINTEXT"),
		kgo.SASL(saslplain.Auth{User: "bob", Pass: password("bob")}.AsMechanism())))
	for {
		topics, err := bob.ListTopics(s.ctx, s.topic)
		if err == nil {
			err = topics[s.topic].Err
		}
		if err == nil {
			return
		}
		if s.ctx.Err() != nil {
			s.Fatal(err)
		}
	}
}

// topicRefused makes bob produce to a topic and consume it without the right. His first rights decide the
// refused request. Records wait for the right, and then arrive.
func topicRefused(before ...kadm.ACLOperation) func(*testing.T, *site) {
	return func(t *testing.T, at *site) {
		s := newScene(t, at, "SASL_PLAINTEXT")
		s.refusal = true
		at.createTopic(t, s.topic)
		at.allow(t, kadm.NewACLs().Groups(s.topic).Operations(kadm.OpRead))
		if before != nil {
			at.allow(t, kadm.NewACLs().Topics(s.topic).Operations(before...))
			s.waitVisible()
		}
		s.configure(asBob)
		s.open()
		s.put("first")
		s.note("produce", 1)
		s.answer("kafka test send", s.sendUntilRefused())
		made := s.topic + "-made"
		s.makeUntilRefused()
		s.note("ensure topic", 1)
		s.subscribe()
		s.note("subscribe", 1)
		waiting := []string{"first"}
		for i := range 50 {
			waiting = append(waiting, fmt.Sprint("waiting ", i))
			s.put(waiting[len(waiting)-1])
		}
		s.denied("Topic:LITERAL:"+s.topic, attempted)
		s.note("many attempts", 0)

		at.allow(t, kadm.NewACLs().Topics(s.topic, made).Operations(kadm.OpWrite, kadm.OpRead, kadm.OpDescribe, kadm.OpCreate))
		s.settled() // the right has to reach the broker
		s.sendUntilSent()
		s.receive(waiting[len(waiting)-1])
		s.makeUntilMade()
		s.note("healed", 0)
		at.read(t, "SASL_PLAINTEXT", s.topic, append(waiting, "sent")...)
		s.engine.Stop(0)
		s.note("stop", 0)
		s.golden()
	}
}

// groupRefused has bob consume in a group without the right to.
func groupRefused(t *testing.T, at *site) {
	s := newScene(t, at, "SASL_PLAINTEXT")
	at.createTopic(t, s.topic)
	at.allow(t, kadm.NewACLs().Topics(s.topic).Operations(kadm.OpWrite, kadm.OpRead, kadm.OpDescribe))
	s.waitVisible()
	s.configure(asBob)
	s.open()
	s.sendUntilSent()
	s.put("waited")
	s.settled()
	s.note("produce", 0)
	s.subscribe()
	s.note("subscribe", 1)
	s.denied("Group:LITERAL:"+s.topic, attempted)
	s.note("many attempts", 0)

	at.allow(t, kadm.NewACLs().Groups(s.topic).Operations(kadm.OpRead))
	s.receive("waited")
	s.note("healed", 0)
	s.engine.Stop(0)
	s.note("stop", 0)
	s.golden()
}
