package engine

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestConnection_NoSpoolDir_ShowsTheDirectoryInUse verifies that the status names the default spool
// directory.
func TestConnection_NoSpoolDir_ShowsTheDirectoryInUse(t *testing.T) {
	dir := t.TempDir()
	r := startIn(t, newLines(), dir)
	r.configure(section("one", refusedAddress(t)), section("two", refusedAddress(t), "spool_dir = /srv/kafka"))
	for name, want := range map[string]string{"one": filepath.Join(dir, "kafka"), "two": "/srv/kafka"} {
		shown := ""
		for _, s := range r.status(name).Settings {
			if s.Label == "Spool directory" {
				shown = s.Value
			}
		}
		if shown != want {
			t.Errorf("connection %s: the spool directory is shown as %q, want %q", name, shown, want)
		}
	}
}

// TestOffers_EachConnection_SaysWhatItIsFor verifies the module's data before any request: the uses of each
// connection, and the limits of a gate before the engine's answer. The module had limits of its own before.
func TestOffers_EachConnection_SaysWhatItIsFor(t *testing.T) {
	r := start(t, newLines())
	if got, _ := r.Offers(); len(got) != 0 {
		t.Errorf("without a configuration: %v", got)
	}
	r.configure(section("both", "h:1", "group_id = g", "queue_buffering_max_messages = 10", inMemory), section("producer", "h:1", "linger_ms = 7"),
		section("consumer", "h:1", "group_id = g", "enable_idempotence = yes", "acks = 1"), section("bad", "h:1", "security_protocol = none"))
	offers, otherwise := r.Offers()
	var got []string
	for _, o := range offers {
		got = append(got, fmt.Sprintf("%s %t %t %v", o.Name, o.NoProducer == "", o.NoConsumer == "", o.RequestTimeout))
	}
	if want := []string{"both true true 5s", "producer true false 5s", "consumer false true 5s", "bad false false 0s"}; !slices.Equal(got, want) {
		t.Errorf("the offers are %q, want %q", got, want)
	}
	if otherwise != unknown || !strings.HasPrefix(offers[3].NoProducer, leftOut) {
		t.Errorf("otherwise: %q, bad: %q", otherwise, offers[3].NoProducer)
	}
	for _, o := range offers[:2] {
		g := r.open(o.Name)
		if got := (Limits{g.MaxFrames.Load(), g.MaxCharge.Load(), g.MaxLength.Load(), g.LingerNS.Load(), g.MaxWeight.Load(), g.Shared.Load(), g.Memory.Load()}); got != o.Limits {
			t.Errorf("%s: the gate has %+v, the offer %+v", o.Name, got, o.Limits)
		}
	}
	r.configure("[general]\nenabled = no\n", section("both", "h:1"))
	if got, otherwise := r.Offers(); len(got) != 0 || otherwise != disabled {
		t.Errorf("disabled: %v, %s", got, otherwise)
	}
}
