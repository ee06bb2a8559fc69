package scenario

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"reskafka/test/pbx"
)

// usage lists the resources of Asterisk's process.
type usage struct{ threads, files, mappings, children, folders, kilobytes int }

func (w *world) usage() usage {
	w.Helper()
	proc := fmt.Sprintf("/proc/%d", w.pbx.PID())
	count := func(folder string) int {
		entries, err := os.ReadDir(filepath.Join(proc, folder))
		if err != nil {
			w.Fatal(err)
		}
		return len(entries)
	}
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join(proc, name))
		if err != nil {
			w.Fatal(err)
		}
		return string(text)
	}
	kilobytes, err := strconv.Atoi(regexp.MustCompile(`VmRSS:\s+(\d+)`).FindStringSubmatch(read("status"))[1])
	if err != nil {
		w.Fatal(err)
	}
	return usage{
		count("task"), count("fd"), strings.Count(read("maps"), "\n"), len(w.pbx.Children()), len(w.pbx.SharedMemory()), kilobytes,
	}
}

// rounds is how often the module is loaded and unloaded, and from which round on nothing grows.
func rounds() (count, from int) {
	if os.Getenv("RES_KAFKA_LONG") != "" {
		return 100, 10
	}
	return 5, 2
}

// TestRoundsOfLoadProduceUnload_Flat guards leftovers of a load: threads, descriptors, mappings, memory,
// engines, zombies and folders in shared memory.
func TestRoundsOfLoadProduceUnload_Flat(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{modules: []string{"kafka_probe", "res_kafka"}, parts: 1})
	w.expect(`Unloaded`, "module unload kafka_probe.so")
	w.expect(`Unloaded`, "module unload res_kafka.so")
	path := w.probeFile([2][]byte{[]byte("k"), []byte("v")}, [2][]byte{nil, []byte("w")}, [2][]byte{{}, nil})
	count, from := rounds()
	var before usage
	for round := 1; round <= count; round++ {
		w.expect(`Loaded`, "module load res_kafka.so")
		w.expect(`Loaded`, "module load kafka_probe.so")
		w.expect(`accepted 3 refused 0`, "kafka probe file one rounds %s", path)
		w.expect(`sent successfully`, "kafka test send connection one topic rounds message %d", round)
		w.expect(`Unloaded`, "module unload kafka_probe.so")
		w.expect(`Unloaded`, "module unload res_kafka.so")
		w.expect(`0 modules loaded`, "module show like kafka")
		if round == from {
			before = w.usage()
		}
	}
	// A thread of a console may still be ending, and the allocator keeps memory. Growth in each round is more than this.
	after, deadline := w.usage(), time.Now().Add(patience)
	grows := func() bool {
		return after.threads > before.threads+1 || after.files > before.files+1 || after.mappings > before.mappings+2 ||
			after.children > 0 || after.folders > 0 || after.kilobytes > before.kilobytes+2048
	}
	for grows() && time.Now().Before(deadline) {
		time.Sleep(20 * time.Millisecond)
		after = w.usage()
	}
	if grows() {
		t.Errorf("grows: after round %d %+v, after round %d %+v", from, before, count, after)
	}
	t.Logf("after round %d: %+v, after round %d: %+v", from, before, count, after)
	w.read("rounds", 4*count)
}

func TestUnloadIsRefusedWhileAProducerIsHeld(t *testing.T) {
	w := newWorld(t, options{modules: []string{"res_kafka", "kafka_probe"}})
	w.cli("kafka probe hold one")
	w.expect(`Unable to unload`, "module unload res_kafka.so")
	w.expect(`Unable to unload`, "module unload -f res_kafka.so")
	w.cli("kafka probe release")
	w.cli("module unload kafka_probe.so")
	w.expect(`Unloaded`, "module unload res_kafka.so")
}

func TestLoadDeclinesPlainly(t *testing.T) {
	// A copy of the installed files, to remove some of them.
	broken := func(t *testing.T) string {
		t.Helper()
		copied := filepath.Join(t.TempDir(), "install")
		if err := os.CopyFS(copied, os.DirFS(os.Getenv("RES_KAFKA_INSTALL"))); err != nil {
			t.Fatal(err)
		}
		return copied
	}
	find := func(t *testing.T, under, name string) string {
		t.Helper()
		var found string
		_ = filepath.WalkDir(under, func(path string, _ os.DirEntry, _ error) error {
			if filepath.Base(path) == name {
				found = path
			}
			return nil
		})
		if found == "" {
			t.Fatalf("no %s below %s", name, under)
		}
		return found
	}
	declined := func(w *world, pattern string) {
		w.Helper()
		w.waitLog(0, pattern)
		w.expect(`res_kafka\.so +\S.* 0 +Not Running|0 modules loaded`, "module show like res_kafka")
		w.expect(`System uptime`, "core show uptime")
	}

	t.Run("without the engine", func(t *testing.T) {
		install := broken(t)
		if err := os.Remove(engineFile(t, install)); err != nil {
			t.Fatal(err)
		}
		w := newWorld(t, options{install: install, noBroker: true})
		declined(w, `ERROR.*The Kafka engine .*/res_kafka/reskafka cannot be opened; .make install. puts it beside res_kafka\.so: `)
	})
	t.Run("with something else for an engine", func(t *testing.T) {
		install := broken(t)
		engine := engineFile(t, install)
		other, err := os.ReadFile(find(t, install, "cdr_kafka.so"))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(engine, other, 0o755); err != nil {
			t.Fatal(err)
		}
		w := newWorld(t, options{install: install, noBroker: true})
		declined(w, `ERROR.*The Kafka engine`)
	})
	t.Run("without kafka.conf", func(t *testing.T) {
		w := newWorld(t, options{noBroker: true, unbooted: true})
		if err := os.Remove(find(t, w.pbx.Dir(), "kafka.conf")); err != nil {
			t.Fatal(err)
		}
		w.boot()
		declined(w, `ERROR.*kafka\.conf is missing`)
	})
	t.Run("with a faulty kafka.conf", func(t *testing.T) {
		w := newWorld(t, options{noBroker: true, files: map[string]string{
			"kafka.conf": "[one]\ntype = connection\nacks = all of them\n\n[two]\ntype = connection\nlingr_ms = 5\n",
		}})
		declined(w, `ERROR.*kafka\.conf:7: \[two\] lingr_ms`)
		w.waitLog(0, `ERROR.*kafka\.conf:3: \[one\] acks`)
		w.waitLog(0, `ERROR.*kafka\.conf: no connection can be used`)
		said := slices.DeleteFunc(w.pbx.LogLines(), func(line string) bool {
			return !strings.Contains(line, "kafka") || strings.Contains(line, " loader.c: ")
		})
		if last := said[len(said)-1]; !strings.Contains(last, "no connection can be used") {
			t.Errorf("the last word is %s", last)
		}
	})
	t.Run("with the samples as installed, and without a broker", func(t *testing.T) {
		files := map[string]string{}
		for _, name := range []string{"kafka.conf", "cdr_kafka.conf"} {
			sample, err := os.ReadFile("../../conf/" + name + ".sample")
			if err != nil {
				t.Fatal(err)
			}
			files[name] = string(sample)
		}
		w := newWorld(t, options{noBroker: true, files: files})
		w.expect(`res_kafka\.so +\S.* Running`, "module show like res_kafka")
		w.expect(`cdr_kafka\.so +\S.* Running`, "module show like cdr_kafka")
		w.expect(`my-kafka +localhost:9092`, "kafka show status")
	})
}

func TestLoadsWithAndWithoutItsDocumentation(t *testing.T) {
	w := newWorld(t, options{modules: []string{"res_kafka"}})
	w.expect(`(?s)linger_ms.*Default`, "config show help res_kafka connection linger_ms")
	without := filepath.Join(t.TempDir(), "install")
	if err := os.CopyFS(without, os.DirFS(os.Getenv("RES_KAFKA_INSTALL"))); err != nil {
		t.Fatal(err)
	}
	found := 0
	_ = filepath.WalkDir(without, func(path string, _ os.DirEntry, _ error) error {
		if strings.HasSuffix(path, "-en_US.xml") {
			found++
			return os.Remove(path)
		}
		return nil
	})
	if found == 0 {
		t.Fatal("no documentation was installed")
	}
	w = newWorld(t, options{install: without})
	w.expect(`sent successfully`, "kafka test send connection one topic t message m")
}

func TestAutoloadFindsNoStrayLibrary(t *testing.T) {
	w := newWorld(t, options{unbooted: true})
	if err := w.pbx.WriteFile("modules.conf", "[modules]\nautoload = yes\n"); err != nil {
		t.Fatal(err)
	}
	w.boot()
	w.expect(`res_kafka\.so .*Running`, "module show like kafka")
	w.expect(`sent successfully`, "kafka test send connection one topic t message m")
	for _, line := range w.pbx.LogLines() {
		if strings.Contains(line, "res_kafka/reskafka") {
			t.Errorf("autoload met the engine: %s", line)
		}
	}
}

func TestStops(t *testing.T) {
	dialplan := "[calls]\nexten => s,1,Answer()\n same => n,Wait(600)\n"
	for _, how := range []struct {
		name     string
		how      pbx.How
		noBroker bool
		call     bool
	}{
		{"now, with a call and a broker", pbx.Now, false, true},
		{"now, with a call, records waiting and no broker", pbx.Now, true, true},
		{"gracefully", pbx.Gracefully, false, false},
		{"gracefully, with records waiting and no broker", pbx.Gracefully, true, false},
	} {
		t.Run(how.name, func(t *testing.T) {
			stop := func(w *world) time.Duration {
				if how.call {
					w.cli("channel originate Local/s@calls/n application Echo")
					w.until(`[1-9]\d* active channels`, "core show channels")
				}
				started := time.Now()
				if err := w.pbx.Stop(how.how); err != nil {
					t.Fatal(err)
				}
				return time.Since(started)
			}
			files := map[string]string{"extensions.conf": dialplan}
			// Asterisk alone takes a second, and two with a call. On a busy machine a single try may take
			// longer.
			const tries = 3
			for try := 1; ; try++ {
				without := stop(newWorld(t, options{modules: []string{}, noBroker: true, files: files}))
				w := newWorld(t, options{noBroker: how.noBroker, files: files})
				w.expect(`accepted 2 refused 0`, "kafka probe file one t %s", w.probeFile([2][]byte{nil, []byte("a")}, [2][]byte{nil, []byte("b")}))
				with := stop(w)
				t.Logf("stopped after %v, without our modules after %v", with, without)
				if with <= without+time.Second {
					break
				}
				if try == tries {
					t.Fatalf("took more than a second longer, %d times", tries)
				}
			}
		})
	}
}

// Asterisk wakes a call's thread out of poll() with SIGURG. A call waiting for ten minutes ends at once on a
// hangup, with the engine in the process.
func TestHangupWakesACall(t *testing.T) {
	w := newWorld(t, options{files: map[string]string{"extensions.conf": "[calls]\nexten => s,1,Answer()\n same => n,Wait(600)\n"}})
	for range 5 {
		w.cli("channel originate Local/s@calls/n application Wait 600")
		w.until(`2 active channels`, "core show channels")
		w.cli("channel request hangup all")
		w.until(`\b0 active channels`, "core show channels")
	}
	w.read("asterisk_cdr", 10)
}

func TestRestartedAsteriskProducesAgain(t *testing.T) {
	w := newWorld(t, options{})
	w.expect(`sent successfully`, "kafka test send connection one topic t message first")
	if err := w.pbx.Stop(pbx.Gracefully); err != nil {
		t.Fatal(err)
	}
	w.boot()
	w.expect(`sent successfully`, "kafka test send connection one topic t message second")
	w.read("t", 2)
}
