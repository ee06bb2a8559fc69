package engine

import (
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// TestConnection_NoSpoolDir_ShowsTheDirectoryInUse guards that an administrator need not know the default to find the spool.
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

// TestOffers_EachConnection_SaysWhatItIsFor verifies what the module knows without asking.
func TestOffers_EachConnection_SaysWhatItIsFor(t *testing.T) {
	r := start(t, newLines())
	if got := r.Offers(); len(got) != 0 {
		t.Errorf("without a configuration: %v", got)
	}
	r.configure(section("both", "h:1", "group_id = g"), section("producer", "h:1"),
		section("consumer", "h:1", "group_id = g", "enable_idempotence = yes", "acks = 1"))
	const d = 5 * time.Second // the default
	if got, want := r.Offers(), []Offer{{"both", true, true, d}, {"producer", true, false, d}, {"consumer", false, true, d}}; !slices.Equal(got, want) {
		t.Errorf("the offers are %v, want %v", got, want)
	}
	r.configure("[general]\nenabled = no\n", section("both", "h:1"))
	if got := r.Offers(); len(got) != 0 {
		t.Errorf("disabled: %v", got)
	}
}
