package scenario

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// obstacles are files at the engine's paths, left by another user or by mistake. outside is a directory to be
// left untouched.
var obstacles = []struct {
	name string
	lay  func(path, outside string) error
}{
	{"named pipe", func(path, _ string) error { return syscall.Mkfifo(path, 0o666) }},
	{"file", func(path, _ string) error { return os.WriteFile(path, []byte("text"), 0o666) }},
	{"link", func(path, outside string) error {
		if err := os.Symlink(outside, path); err != nil {
			return err
		}
		return os.Lchown(path, 12345, 12345)
	}},
	{"directory of another user", func(path, _ string) error {
		if err := os.Mkdir(path, 0o700); err != nil {
			return err
		}
		return os.Chown(path, 12345, 12345)
	}},
}

// occupied are the occupied places below a connection's spool_dir, each in the spool of a separate
// connection.
var occupied = []string{"", "NAME", "NAME/lock", "NAME/topics", "NAME/topics/TOPIC", "NAME/dead-letters", "NAME/damaged"}

// TestOccupiedPaths_AsteriskStartsAndKeepsRecords guards against other users' files at the engine's paths:
// Asterisk hung in loading, lost its safety from kill -9, or followed links out of its spool.
func TestOccupiedPaths_AsteriskStartsAndKeepsRecords(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: only root can give files to another user")
	}
	for _, obstacle := range obstacles {
		t.Run(obstacle.name, func(t *testing.T) {
			t.Parallel()
			var conf strings.Builder
			conf.WriteString(lingering + "60000\n")
			for i := range occupied {
				fmt.Fprintf(&conf, "[c%d]\ntype = connection\nbrokers = %%BROKER%%\ndurability = disk\nspool_dir = %%DIR%%/spool-%d\n", i, i)
			}
			w := newWorld(t, options{parts: 1, unbooted: true})
			outside, spool := filepath.Join(w.dir, "outside"), filepath.Join(w.pbx.Dir(), "spool")
			text := w.filled(strings.ReplaceAll(conf.String(), "%DIR%", w.dir))
			w.must(w.pbx.WriteFile("kafka.conf", text))
			w.must(os.Mkdir(outside, 0o755))

			// The default spool directory, and the folder of earlier versions in shared memory, are occupied
			// too.
			laid := []string{filepath.Join(spool, "kafka"), strings.Replace(w.pbx.SharedMemoryPattern(), "res_kafka-", "res_kafka-0-", 1)}
			laid[1] = strings.TrimSuffix(laid[1], "-*")
			t.Cleanup(func() { _ = os.Remove(laid[1]) })
			for i, place := range occupied {
				name := strings.NewReplacer("NAME", fmt.Sprintf("c%d", i), "TOPIC", w.name("t")).Replace(place)
				path := filepath.Join(w.dir, fmt.Sprintf("spool-%d", i), name)
				w.must(os.MkdirAll(filepath.Dir(path), 0o700))
				laid = append(laid, path)
			}
			w.must(os.MkdirAll(spool, 0o755))
			for _, path := range laid {
				w.must(obstacle.lay(path, outside))
			}

			w.boot()
			records := [][2][]byte{{[]byte("k"), []byte("a")}, {[]byte("k"), []byte("b")}}
			for i := range occupied {
				w.expect(`accepted 2 refused 0`, "kafka probe file c%d %s %s", i, w.name("t"), w.probeFile(records...))
			}
			w.read(w.name("t"), 2*len(occupied))
			w.expect(`accepted 2 refused 0`, "kafka probe file one %s %s", w.name("staged"), w.probeFile(records...))
			w.wait("the records are staged", func() bool { return w.staged(w.engine()) == 2 })
			w.killBoth()
			if entries, err := os.ReadDir(outside); len(entries) > 0 || err != nil {
				t.Errorf("outside: %v, %v", entries, err)
			}

			for _, path := range laid {
				w.must(os.RemoveAll(path))
			}
			w.must(w.pbx.WriteFile("kafka.conf", w.filled(lingering+"5\n")))
			w.boot()
			w.read(w.name("staged"), 2)
		})
	}
}

// must ends the test at an error.
func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}
