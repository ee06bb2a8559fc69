package scenario

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// hostilePhase is how long the engine is hostile.
func hostilePhase() time.Duration {
	if os.Getenv("RES_KAFKA_LONG") != "" {
		return 2 * time.Minute
	}
	return 5 * time.Second
}

// installHostile replaces the engine with test/hostile and returns the file for its faults.
func (w *world) installHostile() string {
	w.Helper()
	folder := filepath.Join(w.pbx.Dir(), "modules", "res_kafka")
	real := engineFile(w.T, os.Getenv("RES_KAFKA_INSTALL"))
	w.must(os.Remove(folder)) // a link
	w.must(os.Mkdir(folder, 0o755))
	w.must(os.Symlink(real, filepath.Join(folder, "reskafka.real")))
	build := exec.Command("go", "build", "-o", filepath.Join(folder, "reskafka"), "../hostile")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		w.Fatalf("building test/hostile: %v\n%s", err, out)
	}
	return filepath.Join(folder, "on")
}

// TestEngine_Broken_AsteriskUnharmed guards a promise: nothing an engine sends or writes harms Asterisk.
// Frames are damaged, unasked, or wrong in every field. Shared memory is scribbled over while modules use the
// whole API. The next good engine works.
func TestEngine_Broken_AsteriskUnharmed(t *testing.T) {
	for _, c := range []struct{ name, mood string }{
		{"frames", "11 40 0"},
		{"memory", "12 0 5"},
		{"both", "13 200 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, options{unbooted: true, files: map[string]string{
				"kafka.conf": "[one]\ntype = connection\nbrokers = %BROKER%\ndurability = disk\n\n[two]\ntype = connection\nbrokers = %BROKER%\n" +
					"group_id = two\nauto_offset_reset = earliest\nsession_timeout_ms = 6000\n",
			}})
			on := w.installHostile()
			w.boot()
			pid := w.pbx.PID()
			w.expect(`ensure 0`, "kafka probe ensure one good 1 1 wait")
			w.expect(`subscribe 0`, "kafka probe subscribe two noise %s 0", filepath.Join(w.dir, "received"))
			w.must(os.WriteFile(on, []byte(c.mood), 0o600))
			w.noise(hostilePhase())
			w.must(os.Remove(on))
			w.must(w.pbx.Crashed())
			w.replaceEngine(filepath.Join(filepath.Dir(on), "reskafka"))
			w.until(`Message sent successfully`, "kafka test send connection one topic good message after")
			if w.pbx.PID() != pid {
				t.Errorf("Asterisk was process %d and is %d", pid, w.pbx.PID())
			}
			w.read("good", 1)
		})
	}
}

// running returns the processes of a program.
func running(program string) (pids []int) {
	links, _ := filepath.Glob("/proc/[0-9]*/exe")
	for _, link := range links {
		if exe, err := os.Readlink(link); err == nil && exe == program {
			pid, _ := strconv.Atoi(strings.Split(link, "/")[2])
			pids = append(pids, pid)
		}
	}
	return pids
}

// replaceEngine kills the engine in any state and waits for a new engine, good from the first frame on. After
// many deaths the restart takes up to a minute, unless a reload requests an engine.
func (w *world) replaceEngine(program string) {
	w.Helper()
	for _, line := range w.pbx.LogLines() {
		if strings.Contains(line, "The Kafka engine") {
			w.Log(line)
		}
	}
	killed := running(program)
	for _, pid := range killed {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	w.wait("another engine serves", func() bool {
		id := engineID.FindStringSubmatch(w.cli("kafka show status"))
		if id == nil {
			_, _ = w.pbx.CLI("module reload res_kafka.so")
			return false
		}
		pid, err := strconv.Atoi(id[1])
		return err == nil && !slices.Contains(killed, pid)
	})
}

// noise uses all functions of the module for the given time. Answers do not matter.
func (w *world) noise(during time.Duration) {
	var group sync.WaitGroup
	var over atomic.Bool
	for i, command := range []string{
		"kafka probe rate one noise 300 500 1 2",
		"kafka show status",
		"kafka show connection one",
		"kafka show consumers",
		"kafka test send connection two topic noise message noise",
		"kafka probe ensure two noise 1 1 async",
		"module reload res_kafka.so",
		"module reload cdr_kafka.so",
		"kafka probe get two",
		"kafka probe pause noise",
		"kafka probe resume noise",
	} {
		group.Go(func() {
			for n := 0; !over.Load(); n++ {
				_, _ = w.pbx.CLI(command)
				time.Sleep(time.Duration(10*(i+1)) * time.Millisecond)
			}
		})
	}
	time.Sleep(during)
	over.Store(true)
	ended := time.Now()
	defer func() { w.Logf("the last command returned %v after the end", time.Since(ended)) }()
	done := make(chan struct{})
	go func() { group.Wait(); close(done) }()
	for range int(patience / time.Second) {
		select {
		case <-done:
			return
		case <-time.After(time.Second): // a command may wait for an answer forever
			_, _ = w.pbx.CLI("core show uptime")
		}
	}
	w.Fatalf("commands do not return within %v", patience)
}
