package scenario

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"reskafka/test/pbx"
)

// childScript prints the surroundings of a program started by Asterisk: environment, descriptors, limits,
// signals, scheduling and rights.
const childScript = `#!/bin/sh
{
	env | grep -v '^AGI_\|^agi_\|^_=\|^PWD=\|^OLDPWD=\|^SHLVL='
	# The shell's own descriptors: /proc/self would be those of ls. One of them is the folder that the shell has just read.
	for fd in /proc/$$/fd/*; do case ${fd##*/} in 1|255) ;; *) to=$(readlink $fd) && echo "fd ${fd##*/} $to" ;; esac; done
	cat /proc/$$/limits
	grep '^Sig[BIC]\|^Umask\|^Cap\|^NoNewPrivs\|^Seccomp\|^Groups\|^Uid' /proc/$$/status
	# Niceness, real-time priority and policy, which are fields of proc(5), and the kill score.
	set -- $(sed 's/.*) //' /proc/$$/stat)
	shift 16; echo "nice $1"; shift 21; echo "priority $2 policy $3"
	echo "score $(cat /proc/$$/oom_score_adj)"
	echo "cwd $(readlink /proc/$$/cwd)"
} | sort >$FILE.new
mv $FILE.new $FILE
`

// child has Asterisk start a program, by System() or as an AGI, and returns the program's output.
func (w *world) child(how string) string {
	w.Helper()
	file := filepath.Join(w.dir, "child")
	_ = os.Remove(file)
	w.cli("channel originate Local/%s@children/n application Wait 600", how) // the end of the call would end an AGI
	w.wait("a program of Asterisk has run by "+how, func() bool { _, err := os.Stat(file); return err == nil })
	w.cli("channel request hangup all")
	text, err := os.ReadFile(file)
	w.must(err)
	return numbered.ReplaceAllString(strings.ReplaceAll(string(text), w.dir, "DIR"), "$1:[N]")
}

var numbered = regexp.MustCompile(`\b(pipe|socket):\[\d+\]`)

// thread has the inheritable properties of a thread of Asterisk.
type thread struct{ name, blocked, ignored, caught, policy, nice string }

var statusField = regexp.MustCompile(`(?m)^(Name|SigBlk|SigIgn|SigCgt):\t(.*)$`)

// threadsOf returns the threads of a process by number.
func threadsOf(t *testing.T, pid int) map[string]thread {
	t.Helper()
	found := map[string]thread{}
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		status, err := os.ReadFile(task + "/status")
		if err != nil {
			continue // the thread has ended
		}
		stat, err := os.ReadFile(task + "/stat")
		if err != nil {
			continue
		}
		values := map[string]string{}
		for _, m := range statusField.FindAllStringSubmatch(string(status), -1) {
			values[m[1]] = m[2]
		}
		// proc(5): niceness is field 19, policy field 41. The first field after the name is field 3.
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		found[filepath.Base(task)] = thread{values["Name"], values["SigBlk"], values["SigIgn"], values["SigCgt"], fields[41-3], fields[19-3]}
	}
	return found
}

// state has the properties of Asterisk that the module must not change.
type state struct {
	limits, system, agi string
	threads             map[string]thread
}

func (w *world) state() state {
	w.Helper()
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", w.pbx.PID()))
	w.must(err)
	return state{string(limits), w.child("system"), w.child("agi"), threadsOf(w.T, w.pbx.PID())}
}

// ours matches the threads of res_kafka by name. SIGKILL and SIGSTOP cannot be blocked, and glibc omits two
// of its own.
var ours = regexp.MustCompile(`^kafka`)

const allBlocked = "fffffffe7ffbfeff"

// unchanged compares with the state before the module was loaded.
func (w *world) unchanged(when string, before state) {
	w.Helper()
	now := w.state()
	for _, c := range []struct{ what, before, now string }{
		{"limits of Asterisk", before.limits, now.limits},
		{"a program of System()", before.system, now.system},
		{"an AGI", before.agi, now.agi},
	} {
		if c.before != c.now {
			w.Errorf("%s: %s changed:\n%s", when, c.what, difference(c.before, c.now))
		}
	}
	// The C library blocks signals for a moment while it starts a thread or a program.
	changed := changedThreads(before.threads, now.threads)
	for tries := 0; len(changed) > 0 && tries < 100; tries++ {
		time.Sleep(20 * time.Millisecond)
		changed = changedThreads(before.threads, threadsOf(w.T, w.pbx.PID()))
	}
	for _, change := range changed {
		w.Errorf("%s: %s", when, change)
	}
}

// changedThreads describes changes in existing threads and faults in new threads.
func changedThreads(before, now map[string]thread) (changes []string) {
	var any thread // signals are ignored and caught by all threads alike
	for _, any = range before {
		break
	}
	for id, t := range now {
		old, known := before[id]
		switch {
		case known && old != t:
			changes = append(changes, fmt.Sprintf("thread %s was %+v and is %+v", id, old, t))
		case t.ignored != any.ignored || t.caught != any.caught:
			changes = append(changes, fmt.Sprintf("handlers of signals were %+v and are %+v", any, t))
		case ours.MatchString(t.name) && (t.policy != "0" || t.blocked != allBlocked && t.name != "kafka-callback"):
			changes = append(changes, fmt.Sprintf("thread %+v, want policy 0 and, but for callbacks, all signals blocked", t))
		}
	}
	return changes
}

// difference returns the lines in only one of two texts.
func difference(before, now string) string {
	var text strings.Builder
	for sign, pair := range map[string][2]string{"-": {before, now}, "+": {now, before}} {
		other := strings.Split(pair[1], "\n")
		for line := range strings.SplitSeq(pair[0], "\n") {
			if !slices.Contains(other, line) {
				text.WriteString(sign + line + "\n")
			}
		}
	}
	return text.String()
}

// childFiles is a dialplan to start programs.
var childFiles = map[string]string{
	"kafka.conf":      "[one]\ntype = connection\nbrokers = %BROKER%\ngroup_id = children\n",
	"extensions.conf": "[children]\nexten => system,1,Answer()\n same => n,System(%ID%)\nexten => agi,1,Answer()\n same => n,AGI(%ID%)\n",
}

// childWorld starts an Asterisk able to start programs. With loaded set, our modules load at the start,
// otherwise not yet.
func childWorld(t *testing.T, args []string, loaded bool) *world {
	t.Helper()
	stock := []string{"app_system", "res_speech", "res_agi"}
	w := newWorld(t, options{modules: slices.Concat(stock, allOurs), files: childFiles, args: args, unbooted: true})
	program := filepath.Join(w.dir, "program")
	w.must(os.WriteFile(program, []byte(strings.ReplaceAll(childScript, "$FILE", filepath.Join(w.dir, "child"))), 0o755))
	w.must(w.pbx.WriteFile("extensions.conf", strings.ReplaceAll(childFiles["extensions.conf"], "%ID%", program)))
	if !loaded {
		w.must(w.pbx.WriteFile("modules.conf", "[modules]\nautoload = no\nload = "+
			strings.Join(slices.Concat(pbx.StockModules(), stock), ".so\nload = ")+".so\n"))
	}
	w.boot()
	return w
}

// TestAsterisk_ModuleInAnyState_Unchanged checks limits, handlers and masks of signals, scheduling, and
// properties inherited by other programs. All are the same with and without res_kafka. Go inside Asterisk had
// changed most of these permanently.
func TestAsterisk_ModuleInAnyState_Unchanged(t *testing.T) {
	for name, args := range map[string][]string{"ordinary": nil, "real-time": {"-p"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if args != nil && !mayBeRealTime() {
				t.Skip("SKIPPED: this user may not have real-time threads")
			}
			w := childWorld(t, args, false)
			before := w.state()
			if !strings.Contains(before.agi, "fd 2 ") || !strings.Contains(before.system, "policy ") {
				t.Fatalf("a program found\n%s\n%s", before.system, before.agi)
			}

			w.expect(`Loaded`, "module load res_kafka.so")
			w.unchanged("loaded", before)
			w.expect(`Loaded`, "module load kafka_probe.so")
			w.expect(`accepted 1 refused 0`, "kafka probe file one t %s", w.probeFile([2][]byte{nil, []byte("a")}))
			w.expect(`subscribe 0`, "kafka probe subscribe one t %s 0", filepath.Join(w.dir, "received"))
			w.acknowledged("one", 1)
			w.ordinary(w.pbx.EnginePID())
			w.unchanged("in use", before)
			w.cli("module reload res_kafka.so")
			w.unchanged("reloaded", before)
			pid := w.signalEngine(syscall.SIGKILL)
			w.wait("there is another engine", func() bool { now := w.pbx.EnginePID(); return now != 0 && now != pid })
			w.engine()
			w.unchanged("after an engine's death", before)
			w.cli("kafka probe end")
			w.cli("module unload kafka_probe.so")
			w.expect(`Unloaded`, "module unload res_kafka.so")
			w.unchanged("unloaded", before)
			for id, thread := range threadsOf(t, w.pbx.PID()) {
				if ours.MatchString(thread.name) {
					w.Errorf("thread %s %s outlives the module", id, thread.name)
				}
			}
		})
	}
}

// TestAsterisk_ModuleLoadedAtTheStart_Unchanged compares two Asterisks: one starts with the module, the other
// never loads the module.
func TestAsterisk_ModuleLoadedAtTheStart_Unchanged(t *testing.T) {
	t.Parallel()
	without, with := childWorld(t, nil, false), childWorld(t, nil, true)
	w, before := with, without.state()
	now := with.state()
	if now.limits != before.limits || now.system != before.system || now.agi != before.agi {
		t.Errorf("changed:\n%s", difference(before.limits+before.system+before.agi, now.limits+now.system+now.agi))
	}
	handlers := func(threads map[string]thread) []string {
		kinds := map[string]bool{}
		for t := range maps.Values(threads) {
			kinds[t.ignored+" "+t.caught+" "+t.policy+" "+t.nice] = true
		}
		return slices.Sorted(maps.Keys(kinds))
	}
	if got, want := handlers(now.threads), handlers(before.threads); !slices.Equal(got, want) {
		w.Errorf("threads have %q, want %q", got, want)
	}
}

// ordinary checks that a process has no real-time thread.
func (w *world) ordinary(pid int) {
	w.Helper()
	threads := threadsOf(w.T, pid)
	for id, t := range threads {
		if t.policy != "0" {
			w.Errorf("thread %s of process %d is %+v, want policy 0", id, pid, t)
		}
	}
	if len(threads) == 0 {
		w.Errorf("process %d has no threads", pid)
	}
}

// mayBeRealTime reports whether children of this process may have real-time threads.
func mayBeRealTime() bool {
	return os.Geteuid() == 0 && exec.Command("chrt", "-r", "1", "true").Run() == nil
}
