package engine

import (
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"reskafka/internal/console"
)

// command runs a command of the console.
func (r *rig) command(line string) string {
	r.t.Helper()
	for _, c := range console.Commands {
		if rest, ok := strings.CutPrefix(line+" ", c.Words+" "); ok {
			text, _ := c.Run(r.Engine, append(strings.Fields(c.Words), strings.Fields(rest)...))
			return text
		}
	}
	r.t.Fatalf("no command for %q", line)
	return ""
}

// shows waits until the output of a command matches each pattern, line by line.
func (r *rig) shows(line string, patterns ...string) {
	r.t.Helper()
	text := ""
	defer func() {
		if r.t.Failed() {
			r.t.Logf("%s:\n%s", line, text)
		}
	}()
	for _, p := range patterns {
		pattern := regexp.MustCompile(`(?m)^` + p + `$`)
		eventually(r.t, "`"+line+"` has a line "+p, func() bool {
			text = r.command(line)
			return pattern.MatchString(text)
		})
	}
}

// TestShowConsumer_SlowCallback_ShowsLag verifies the signs of a slow module: in the partition, in the
// callback's duration, and in the list of consumers.
func TestShowConsumer_SlowCallback_ShowsLag(t *testing.T) {
	b := newBroker(t, kfake.SeedTopics(1, "t"))
	r := start(t, newLines())
	r.configure(consuming(b.address(), "auto_commit_interval_ms = 100"))
	s := r.open("c")
	s.put(numbered("t", "k", 0, 10)...)
	s.settled()
	c := &counter{}
	id, err := r.subscribe("c", "t", c)
	if err != nil {
		t.Fatal(err)
	}
	slow, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		defer r.FreeSubscription(id)
		for batch, ok := r.Next(id); ok; batch, ok = r.Next(id) {
			for m := range batch.All() {
				if m.Offset == 3 {
					<-slow
				}
				c.delivered.Add(1)
			}
		}
	}()
	release := sync.OnceFunc(func() { close(slow) })
	defer func() {
		release()
		r.Unsubscribe(id)
		<-done
	}()
	r.shows("kafka show consumer c", `t +0 +3 +10 +10 +7 +\S+ +read`, `  Membership       stable, 1 assignment, last rebalance \d+s ago`,
		`  Member ID        asterisk.+`, `  Delivered        3 messages`, `  Callback         .*one runs for .* m?s`,
		`  State            member of the group, 1 partition`)
	r.shows("kafka show consumers", `c +g +Yes +stable +1 +7 +3`)
	release()
	r.shows("kafka show consumer c", `t +0 +10 +10 +10 +0 +10 +read`, `  Delivered        10 messages`)
	r.shows("kafka show consumers", `c +g +Yes +stable +1 +0 +10`)
}

// TestShowConsumer_NoBroker_ShowsTheError verifies an immediate status without a broker, with the reason for
// missing messages.
func TestShowConsumer_NoBroker_ShowsTheError(t *testing.T) {
	r := start(t, newLines())
	r.configure(consuming(refusedAddress(t)))
	c := &counter{}
	id, err := r.subscribe("c", "t", c)
	if err != nil {
		t.Fatal(err)
	}
	values := listen(r.Engine, id, c)
	r.shows("kafka show consumer c", `  State            not a member of the group`, `  Membership       error`,
		`  Last error       \d+s ago: connection refused.*`, `  127.0.0.1:\d+ +not connected for \d+s: connection refused.*`)
	r.shows("kafka show consumers", `c +g +Yes +error +0 +0 +0`)
	r.Unsubscribe(id)
	for range values {
		t.Error("a message came from nowhere")
	}
	r.shows("kafka show consumers", `c +g +No +- +0 +0 +0`)
}

// TestShowConsumer_NextMember_ChangesAssignment verifies that the status has the group's present partitions.
func TestShowConsumer_NextMember_ChangesAssignment(t *testing.T) {
	b := newBroker(t, kfake.SeedTopics(2, "t"), kfake.GroupMinSessionTimeout(0))
	r := start(t, newLines())
	r.configure(consuming(b.address()))
	c := &counter{}
	id, err := r.subscribe("c", "t", c)
	if err != nil {
		t.Fatal(err)
	}
	values := listen(r.Engine, id, c)
	r.shows("kafka show consumer c", `  State            member of the group, 2 partitions`, `t +0 .*`, `t +1 .*`)
	other, err := kgo.NewClient(kgo.SeedBrokers(b.address()), kgo.ConsumerGroup("g"), kgo.ConsumeTopics("t"), kgo.Balancers(kgo.RangeBalancer()),
		kgo.DisableClientMetrics())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	r.shows("kafka show consumer c", `  State            member of the group, 1 partition`, `  Membership       stable, 2 assignments, last rebalance \d+s ago`)
	if text := r.command("kafka show consumer c"); strings.Count(text, "\nt  ") != 1 {
		t.Errorf("not one partition:\n%s", text)
	}
	r.Unsubscribe(id)
	for range values {
		t.Error("a message came from nowhere")
	}
}
