package scenario

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"reskafka/test/confine"
	"reskafka/test/pbx"
)

// outcome is a fault in Asterisk's surroundings, and its effects on the load of the module and the log.
type outcome struct {
	home
	prepare  func(w *world) // before Asterisk starts
	declines bool           // the module does not load; otherwise records arrive
}

// outcomes has no rows for faultless surroundings, such as -U and no new privileges: those are homes.
var outcomes = []outcome{
	{
		declines: true, prepare: func(w *world) { w.ownEngine() },
		home: home{name: "the engine on a mount without exec", spaces: mountSpace, confined: func(w *confinedWorld) *confine.Spec {
			return &confine.Spec{Mounts: []confine.Mount{{Kind: confine.NoExec, Path: filepath.Join(w.dir, "pbx/modules/res_kafka")}}}
		}, expect: []string{
			`ERROR.*The Kafka engine.* cannot be started: Permission denied; the file must be executable, and its file system mounted without noexec`,
		}},
	},
	{
		declines: true, prepare: func(w *world) { w.must(os.Chmod(w.ownEngine(), 0o644)) },
		home: home{name: "the engine not executable", expect: []string{
			`ERROR.*The Kafka engine.* cannot be started: Permission denied; the file must be executable`,
		}},
	},
	{
		declines: true, prepare: func(w *world) { w.must(os.Remove(w.ownEngine())) },
		home: home{name: "the engine missing", expect: []string{
			`ERROR.*The Kafka engine .*/res_kafka/reskafka cannot be opened; .make install. puts it beside res_kafka\.so: No such file`,
		}},
	},
	{
		declines: true, prepare: func(w *world) { w.otherBuild(w.ownEngine()) },
		home: home{name: "the engine of another build", expect: []string{
			`ERROR.*The Kafka engine is of another version than res_kafka\.so; .make install. installs both`,
			`ERROR.*res_kafka\.so and reskafka must be of one build, but one is .*; install both, then load the module again`,
			`ERROR.*The Kafka engine \(pid \d+\) ended`,
		}},
	},
	{
		declines: true, prepare: func(w *world) { w.must(os.WriteFile(w.ownEngine(), []byte("#!/bin/sh\nkill -SYS $$\n"), 0o755)) },
		home: home{name: "the engine killed by a filter of system calls", expect: []string{
			// Asterisk may reap the engine first. The engine's status is then unknown.
			`ERROR.*The Kafka engine.* (was ended by signal 31 .*SystemCallFilter=|ended$)`,
		}},
	},
	{home: home{name: "a read-only root", spaces: mountSpace, confined: func(w *confinedWorld) *confine.Spec {
		return &confine.Spec{Mounts: []confine.Mount{{Kind: confine.Keep, Path: w.dir}, {Kind: confine.ReadOnly, Path: "/"}}}
	}}},
	{home: home{name: "a read-only spool_dir", spaces: mountSpace, confined: func(w *confinedWorld) *confine.Spec {
		return &confine.Spec{Mounts: []confine.Mount{{Kind: confine.ReadOnly, Path: filepath.Join(w.dir, "pbx/spool")}}}
	}, expect: []string{
		`ERROR.*connection 'one': the spool cannot be used, what it should keep waits in memory: .*read-only`,
	}}},
	{home: home{name: "a spool_dir of another user", spaces: mountSpace, chown: true, user: asteriskUser, confined: func(w *confinedWorld) *confine.Spec {
		return &confine.Spec{Mounts: append(w.keep(), confine.Mount{Kind: confine.Empty, Path: "/root"}), User: asteriskUser}
	}, expect: []string{
		`ERROR.*connection 'one': the spool cannot be used, what it should keep waits in memory: .*permission denied`, `WARNING.*looking for what earlier runs left in .*permission denied`,
	}}, prepare: func(w *world) { w.must(os.Chown(filepath.Join(w.pbx.Dir(), "spool"), 0, 0)) }},
	{home: home{name: "a full /dev/shm", spaces: mountSpace, confined: func(*confinedWorld) *confine.Spec {
		return &confine.Spec{Mounts: []confine.Mount{{Kind: confine.Empty, Path: "/dev/shm", Text: "size=64k"}}}
	}, expect: []string{`(WARNING|ERROR).*\d( more)? record\(s\) staged in memory that is lost when Asterisk is killed: there is no shared memory left`}}},
	{home: home{name: "a read-only /dev/shm", spaces: mountSpace, confined: func(*confinedWorld) *confine.Spec {
		return &confine.Spec{Mounts: []confine.Mount{{Kind: confine.ReadOnly, Path: "/dev/shm"}}}
	}, expect: []string{
		`WARNING.*connection 'one': durability = disk, but making a folder in shared memory: .*read-only file system: the records of its last moments are lost when Asterisk is killed`,
	}}},
}

// TestOutcomes_FaultOfTheSurroundings_Sentence checks for each fault whether the module loads. The log names
// the reason or the loss, and nothing else.
func TestOutcomes_FaultOfTheSurroundings_Sentence(t *testing.T) {
	for _, o := range outcomes {
		t.Run(o.name, func(t *testing.T) {
			t.Parallel()
			w := newHome(t, o.home)
			if o.prepare != nil {
				o.prepare(w)
			}
			w.boot()
			loaded := regexp.MustCompile(`\d +Running`).MatchString(w.cli("module show like res_kafka"))
			if loaded == o.declines {
				t.Fatalf("loaded: %v\n%s", loaded, strings.Join(w.pbx.LogLines(), "\n"))
			}
			if o.declines {
				w.expect(`System uptime`, "core show uptime")
			} else {
				w.sends("Message sent successfully")
				w.sends("Message sent successfully") // the engine sees the first records without shared memory
			}
			w.must(w.pbx.Stop(pbx.Now))
			if o.declines {
				o.expect = append(o.expect, `res_kafka declined to load|Declined modules`)
			}
			w.complaints(o.expect...)
			if t.Failed() {
				t.Log(strings.Join(w.pbx.LogLines(), "\n"))
			}
		})
	}
}

// sends produces records and a call record, which arrive.
func (w *world) sends(answer string) {
	w.Helper()
	w.expect(answer, "kafka test send connection one topic %s message m", w.name("t"))
	w.cli("channel originate Local/s@calls/n application Echo")
	w.sent++
	w.read(w.name("calls"), 2*w.sent)
}

// ownFolder replaces links to installed files with copies for this world, and returns the folder of the
// modules.
func (w *world) ownFolder(names ...string) (modules string) {
	w.Helper()
	modules = filepath.Join(w.pbx.Dir(), "modules")
	for _, name := range names {
		path := filepath.Join(modules, name)
		real, err := filepath.EvalSymlinks(path)
		w.must(err)
		w.must(os.Remove(path))
		if info, err := os.Stat(real); err == nil && info.IsDir() {
			w.must(os.CopyFS(path, os.DirFS(real)))
			continue
		}
		content, err := os.ReadFile(real)
		w.must(err)
		w.must(os.WriteFile(path, content, 0o755))
	}
	return modules
}

// ownEngine installs an engine for this world alone and returns its path.
func (w *world) ownEngine() string {
	w.Helper()
	return filepath.Join(w.ownFolder("res_kafka"), "res_kafka", "reskafka")
}

var buildID = regexp.MustCompile(`RESK_BUILD "([0-9a-f]{16})"`)

// otherBuild replaces files with another build, like `make install`: running programs keep the old files.
func (w *world) otherBuild(paths ...string) {
	w.Helper()
	header, err := os.ReadFile(filepath.Join(os.Getenv("RES_KAFKA_BUILD"), "obj/build.h"))
	w.must(err)
	old := buildID.FindSubmatch(header)[1]
	for _, path := range paths {
		content, err := os.ReadFile(path)
		w.must(err)
		if !bytes.Contains(content, old) {
			w.Fatalf("%s does not have the number of the build, %s", path, old)
		}
		w.must(os.Remove(path))
		w.must(os.WriteFile(path, bytes.ReplaceAll(content, old, []byte(otherID)), 0o755))
	}
}

// otherID is the number of a later build.
const otherID = "c0ffee5eed0f0a11"

// program returns the content of the running engine's file, and whether the file is still installed.
func (w *world) program() (content []byte, installed bool) {
	w.Helper()
	exe := fmt.Sprintf("/proc/%d/exe", w.pbx.EnginePID())
	path, err := os.Readlink(exe)
	w.must(err)
	content, err = os.ReadFile(exe)
	w.must(err)
	return content, !strings.HasSuffix(path, " (deleted)")
}

// TestUpgrade_RunningPBX_NextLoadUsesNewFiles replaces module and engine below a running Asterisk. The loaded
// module starts engines of its own build, also after a reload. A module loaded again starts the new engine.
func TestUpgrade_RunningPBX_NextLoadUsesNewFiles(t *testing.T) {
	t.Parallel()
	w := newHome(t, home{})
	modules := w.ownFolder("res_kafka", "res_kafka.so")
	w.boot()
	w.sends("Message sent successfully")
	w.otherBuild(filepath.Join(modules, "res_kafka.so"), filepath.Join(modules, "res_kafka", "reskafka"))
	w.cli("module reload res_kafka.so")
	for range 2 {
		pid := w.signalEngine(syscall.SIGKILL)
		w.wait("there is another engine", func() bool { now := w.pbx.EnginePID(); return now != 0 && now != pid })
		w.waitServes()
		if content, installed := w.program(); installed || bytes.Contains(content, []byte(otherID)) {
			t.Errorf("the next engine is the new program")
		}
		w.sends("Message sent successfully")
	}
	for _, module := range []string{"cdr_kafka", "kafka_probe", "res_kafka"} {
		w.expect(`Unloaded`, "module unload %s.so", module)
	}
	for _, module := range []string{"res_kafka", "kafka_probe", "cdr_kafka"} {
		w.expect(`Loaded`, "module load %s.so", module)
	}
	if content, installed := w.program(); !installed || !bytes.Contains(content, []byte(otherID)) {
		t.Error("the engine of the next load is the old program")
	}
	w.sends("Message sent successfully")
}
