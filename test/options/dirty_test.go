package options

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// TestDirtyPages verifies that the kernel reports the effect of fsync; the row of spool_sync depends on the
// report.
func TestDirtyPages(t *testing.T) {
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "1.seg"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for range 3 {
		if _, err := f.WriteString("text"); err != nil {
			t.Fatal(err)
		}
		before, err := dirtyPages(dir, ".seg")
		if errors.Is(err, errUntold) {
			t.Skip(err)
		}
		if err := f.Sync(); err != nil {
			t.Fatal(err)
		}
		after, err := dirtyPages(dir, ".seg")
		if err != nil || before == 0 || after != 0 {
			t.Errorf("%d pages before fsync, %d after, %v", before, after, err)
		}
	}
}
