package engine

import (
	"path/filepath"
	"testing"
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
