package pbx

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"syscall"
	"time"

	"reskafka/test/child"
)

// How is a way to stop Asterisk.
type How int

const (
	// Gracefully lets calls end and modules unload ("core stop gracefully").
	Gracefully How = iota
	// Now ends calls and modules without waiting for calls ("core stop now").
	Now
	// WhenConvenient waits for the end of all calls, and new calls are accepted ("core stop when convenient").
	WhenConvenient
	// Terminate is SIGTERM, as from a service manager.
	Terminate
	// Kill is SIGKILL: no code of the process runs afterwards.
	Kill
)

var errNotStarted = errors.New("this Asterisk was not started")

const (
	// outputName is the file in log/ with the process's output.
	outputName = "output.log"
	// cliTimeout is the limit of one CLI command.
	cliTimeout = time.Minute
	// stopTimeout is the limit of an orderly stop; beyond it the process counts as hung.
	stopTimeout = time.Minute
)

// process is one run of Asterisk.
type process struct {
	cmd      *exec.Cmd
	logStart int64         // offset in the log at which this run begins
	ended    chan struct{} // closed after the wait for the process; err is set before
	err      error

	// Stop's request; guarded by PBX.mu.
	stopping bool
	killed   bool
}

func (r *process) hasEnded() bool {
	select {
	case <-r.ended:
		return true
	default:
		return false
	}
}

// latest is the present or last run, nil before the first.
func (p *PBX) latest() *process {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.process
}

// argv is the common command line of server and console.
func (p *PBX) argv() ([]string, error) {
	argv, err := Argv(p.config.Root, "usr/sbin/asterisk")
	if err != nil {
		return nil, err
	}
	return append(argv, "-C", p.path("etc", "asterisk.conf")), nil
}

var ready = regexp.MustCompile(`Asterisk Ready\.`)

// Start starts Asterisk and waits for the full boot. At the end of ctx a slow Asterisk is killed, and the
// error has the last log lines. A declined module is no error.
func (p *PBX) Start(ctx context.Context) error {
	if running := p.latest(); running != nil && !running.hasEnded() {
		return errors.New("this Asterisk is running already")
	}
	if err := p.launch(); err != nil {
		return fmt.Errorf("starting Asterisk: %w", err)
	}
	if _, err := p.WaitLog(ctx, ready); err != nil {
		return errors.Join(fmt.Errorf("starting Asterisk: %w", err), p.Stop(Kill))
	}
	return nil
}

// launch starts the process and a goroutine to wait for the end.
func (p *PBX) launch() error {
	argv, err := p.argv()
	if err != nil {
		return err
	}
	output, err := os.Create(p.path("log", outputName))
	if err != nil {
		return err
	}
	defer output.Close()
	if argv, err = p.restartable(argv); err != nil {
		return err
	}
	argv = append(append(argv, "-f", "-n"), p.config.Args...)
	argv = slices.Concat(p.config.Prefix, argv)
	switch {
	case p.config.Group != "":
		argv = append([]string{"/bin/sh", "-c", `echo $$ >"$0" && exec "$@"`, filepath.Join(p.config.Group, "cgroup.procs")}, argv...)
	case p.user != 0: // a capability counts from the next program on
		argv = append([]string{"/bin/sh", "-c", `exec "$@"`, "sh"}, argv...)
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = p.path("run") // where a core file would go
	cmd.Env = append(os.Environ(), p.config.Env...)
	cmd.Stdout, cmd.Stderr = output, output
	// A separate process group: the terminal's signals are for ours only.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Cloneflags: p.config.Namespaces}
	if p.config.Detach {
		cmd.SysProcAttr.Setpgid, cmd.SysProcAttr.Setsid = false, true
	} else {
		cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	}
	if p.user != 0 {
		// The root may lie where only we can read.
		const mayReadAll = 2 // CAP_DAC_READ_SEARCH
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: p.user, Gid: p.user}
		cmd.SysProcAttr.AmbientCaps = []uintptr{mayReadAll}
	}
	stopFollowing, err := p.lines.follow()
	if err != nil {
		return err
	}
	run := &process{cmd: cmd, logStart: p.LogMark(), ended: make(chan struct{})}
	if err := child.Start(cmd, func(err error) {
		run.err = err
		close(run.ended)
		stopFollowing()
	}); err != nil {
		stopFollowing()
		return err
	}
	p.mu.Lock()
	p.process = run
	p.mu.Unlock()
	return nil
}

// restartable returns a command line for "core restart": Asterisk then executes its name again. In a private
// root the name is a script with our call of the root's loader.
func (p *PBX) restartable(argv []string) ([]string, error) {
	const loaderAndLibraries = 3 // see Argv
	if filepath.Clean(p.config.Root) == "/" {
		return argv, nil
	}
	script := p.path("asterisk")
	named := slices.Insert(slices.Clone(argv), loaderAndLibraries, "--argv0", script)
	// The script passes on all arguments, among them the configuration's.
	text := "#!/bin/sh\nexec " + quote(named[:len(named)-2]) + " \"$@\"\n"
	return named, os.WriteFile(script, []byte(text), 0o700)
}

// RunAs makes the next starts run Asterisk as another user and transfers the private directory to the user.
// Root only.
func (p *PBX) RunAs(uid uint32) error {
	p.user = uid
	return p.Own(uid)
}

// Own transfers the private directory to a user, for an Asterisk with a change of user at its start. Root
// only.
func (p *PBX) Own(uid uint32) error {
	return filepath.WalkDir(p.config.Dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, int(uid), int(uid))
	})
}

// Restart runs "core restart now" and waits until Asterisk, in the same process, has fully booted again.
func (p *PBX) Restart(ctx context.Context) error {
	mark := p.LogMark()
	// The console loses its connection before the answer.
	_, cliErr := p.CLI("core restart now")
	if _, err := p.WaitLogSince(ctx, mark, ready); err != nil {
		return fmt.Errorf("restarting Asterisk: %w", errors.Join(err, cliErr))
	}
	return nil
}

// PID is the process id of the present or last run, 0 before the first.
func (p *PBX) PID() int {
	if run := p.latest(); run != nil {
		return run.cmd.Process.Pid
	}
	return 0
}

// Ended is closed when the present or last run has ended. nil before the first Start.
func (p *PBX) Ended() <-chan struct{} {
	if run := p.latest(); run != nil {
		return run.ended
	}
	return nil
}

// Stop ends Asterisk and waits for the end. After Gracefully and Now an error reports a hang (followed by a
// kill), a crash, or a status other than 0. For an ended Asterisk, Stop returns the result of Crashed.
func (p *PBX) Stop(how How) error {
	run := p.latest()
	if run == nil {
		return nil
	}
	if run.hasEnded() {
		return p.Crashed()
	}
	if how == Kill {
		p.kill(run)
		return nil
	}
	p.mu.Lock()
	run.stopping = true
	p.mu.Unlock()
	if how == Terminate {
		return p.terminate(run)
	}
	command := map[How]string{Gracefully: "core stop gracefully", Now: "core stop now", WhenConvenient: "core stop when convenient"}[how]
	// The console may lose its connection before the answer; only the process's end counts.
	_, cliErr := p.CLI(command)
	select {
	case <-run.ended:
	case <-time.After(stopTimeout):
		p.kill(run)
		return fmt.Errorf("%q did not end Asterisk within %s; it was killed: %w\n%s", command, stopTimeout,
			cliErr, p.tail())
	}
	return p.Crashed()
}

// terminate sends SIGTERM, after which Asterisk ends as with "core stop now".
func (p *PBX) terminate(run *process) error {
	if err := run.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-run.ended:
		return p.Crashed()
	case <-time.After(stopTimeout):
		p.kill(run)
		return fmt.Errorf("SIGTERM did not end Asterisk within %s; it was killed\n%s", stopTimeout, p.tail())
	}
}

func (p *PBX) kill(run *process) {
	p.mu.Lock()
	run.killed = true
	p.mu.Unlock()
	// The only error is an end just before.
	_ = run.cmd.Process.Kill()
	<-run.ended
}

// Crashed is nil during Asterisk's run and after a requested end. Otherwise the error has the kind of end and
// the last log lines.
func (p *PBX) Crashed() error {
	run := p.latest()
	if run == nil || !run.hasEnded() {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case run.killed, run.stopping && run.err == nil:
		return nil
	case run.err == nil:
		return fmt.Errorf("an Asterisk nobody stopped has ended\n%s", p.tail())
	default:
		return fmt.Errorf("an Asterisk ended badly: %w\n%s", run.err, p.tail())
	}
}
