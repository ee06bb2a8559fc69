package engine

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
)

// TestSpoolOfEarlierVersion_IsSent guards that records on disk survive an upgrade: a spool written by an
// earlier version of the format is sent, once and in order, with all fields.
func TestSpoolOfEarlierVersion_IsSent(t *testing.T) {
	for _, version := range []string{"version1", "version2"} {
		t.Run(version, func(t *testing.T) {
			dir := t.TempDir()
			files := os.DirFS(filepath.Join("..", "spool", "testdata", version))
			if err := os.CopyFS(filepath.Join(dir, "kafka", "eu-west"), files); err != nil {
				t.Fatal(err)
			}
			b := newBroker(t, kfake.SeedTopics(1, "calls"))
			r := startIn(t, newLines(), dir)
			r.configure(section("eu-west", b.address(), onDisk))
			for i, got := range b.consumed(t, "calls", 7) {
				n := i + 1 // the first record of the file has its outcome
				if want := fmt.Sprintf("calls %d %s", n, strings.Repeat("v", n*37%300)); string(got.Value) != want {
					t.Errorf("record %d is %q, want %q", n, got.Value, want)
				}
				key, headers := "", 0
				switch n % 4 {
				case 0:
					key, headers = fmt.Sprintf("key %d", n), 3
				case 2:
					headers = 1
				}
				if string(got.Key) != key || got.Key == nil != (n%4 > 1) || len(got.Headers) != headers {
					t.Errorf("record %d has key %q and %d headers", n, got.Key, len(got.Headers))
				}
			}
			eventually(t, "all are acknowledged", func() bool { return r.status("eu-west").Totals.Acknowledged == 7 })
		})
	}
}
