package apache

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"sync/atomic"
	"syscall"

	"reskafka/test/child"
)

// node is a member of the cluster, running or not.
type node struct {
	id      int
	dir     string
	command []string
	archive string         // archive written at its end; empty = none
	ports   map[string]int // by listener
	log     *nodeLog
	run     atomic.Pointer[run] // the present or last run, nil before the first
}

// run is a process of a node.
type run struct {
	cmd      *exec.Cmd
	logStart int64         // offset in the log at which this run begins
	asked    atomic.Bool   // the end was requested
	ended    chan struct{} // closed after the wait for the process; err is set by then
	err      error
}

func (r *run) hasEnded() bool {
	select {
	case <-r.ended:
		return true
	default:
		return false
	}
}

func (n *node) properties() string { return filepath.Join(n.dir, "server.properties") }
func (n *node) data() string       { return filepath.Join(n.dir, "data") }

// java returns a process for a class of Kafka. The process ends with the thread that starts it.
func (n *node) java(ctx context.Context, class string, args ...string) *exec.Cmd {
	all := append(n.command[1:len(n.command):len(n.command)], class)
	cmd := exec.CommandContext(ctx, n.command[0], append(all, args...)...)
	cmd.Dir = n.dir // where a dump of memory would go
	// A separate process group: a terminal's signals to our group are not for the node.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	return cmd
}

// format prepares the nodes' data directories, with the users of SCRAM. Kafka's tool prepares the first node;
// the others get renamed copies, because the tool takes a second or more each time.
func (c *Cluster) format(ctx context.Context) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	first := c.nodes[0]
	args := []string{"format", "--cluster-id", newID(), "--config", first.properties()}
	for _, user := range c.config.Users {
		for _, mechanism := range []string{"SCRAM-SHA-256", "SCRAM-SHA-512"} {
			args = append(args, "--add-scram", fmt.Sprintf("%s=[name=%s,password=%s]", mechanism, user.Name, user.Password))
		}
	}
	if output, err := first.java(ctx, "kafka.tools.StorageTool", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("formatting: %w: %s", errors.Join(err, ctx.Err()), output)
	}
	for _, other := range c.nodes[1:] {
		if err := other.formatLike(first); err != nil {
			return fmt.Errorf("formatting node %d: %w", other.id, err)
		}
	}
	return nil
}

var (
	nodeID      = regexp.MustCompile(`(?m)^node\.id=.*$`)
	directoryID = regexp.MustCompile(`(?m)^directory\.id=.*$`)
)

func (n *node) formatLike(first *node) error {
	if err := os.CopyFS(n.data(), os.DirFS(first.data())); err != nil {
		return err
	}
	path := filepath.Join(n.data(), "meta.properties")
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	text = nodeID.ReplaceAll(text, []byte("node.id="+strconv.Itoa(n.id)))
	text = directoryID.ReplaceAll(text, []byte("directory.id="+newID()))
	return os.WriteFile(path, text, 0o600)
}

// newID returns a random id in Kafka's form. An id never begins with a hyphen, which the tool would take for
// an option, and is none of Kafka's reserved ids, which are small numbers.
func newID() string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	id[0] = id[0]&0x3f | 0x40
	return base64.RawURLEncoding.EncodeToString(id[:])
}

// launch starts the process and the goroutine that waits for its end.
func (n *node) launch() error {
	cmd := n.java(context.Background(), "kafka.Kafka", n.properties())
	cmd.Stdout, cmd.Stderr = n.log, n.log
	if n.archive != "" {
		cmd.Args = slices.Insert(cmd.Args, 1, "-XX:ArchiveClassesAtExit="+n.archive)
	}
	run := &run{cmd: cmd, logStart: n.log.size(), ended: make(chan struct{})}
	if err := child.Start(cmd, func(err error) {
		run.err = err
		close(run.ended)
	}); err != nil {
		return err
	}
	n.run.Store(run)
	return nil
}

// started matches the log line of a node that has joined the cluster and opened its listeners.
var started = regexp.MustCompile(`Kafka Server started`)

// Restart stops and starts nodes, all without arguments, with their ports and data, and waits until all have
// joined the cluster. Nodes that need each other for a majority must be started together.
func (c *Cluster) Restart(ctx context.Context, ids ...int) error {
	if len(ids) == 0 {
		for _, n := range c.nodes {
			ids = append(ids, n.id)
		}
	}
	for _, id := range ids {
		if err := c.Stop(ctx, id); err != nil {
			return err
		}
	}
	for _, id := range ids {
		if err := c.node(id).launch(); err != nil {
			return fmt.Errorf("starting node %d: %w", id, err)
		}
	}
	for _, id := range ids {
		if _, err := c.WaitLog(ctx, id, started); err != nil {
			return fmt.Errorf("starting node %d: %w", id, err)
		}
	}
	return nil
}

// Stop ends a node in an orderly way: its partitions move first. When ctx ends earlier, Stop kills the node
// and returns an error. Stopping a stopped node does nothing.
func (c *Cluster) Stop(ctx context.Context, id int) error {
	run := c.node(id).run.Load()
	if run == nil || run.hasEnded() {
		return nil
	}
	run.asked.Store(true)
	// The only error is an end just now. A paused node could not handle the first signal.
	_ = run.cmd.Process.Signal(syscall.SIGTERM)
	_ = run.cmd.Process.Signal(syscall.SIGCONT)
	select {
	case <-run.ended:
		return nil
	case <-ctx.Done():
		c.Kill(id)
		return fmt.Errorf("stopping node %d: %w; it was killed\n%s", id, ctx.Err(), c.node(id).log.tail())
	}
}

// Kill ends a node by SIGKILL and returns after its end. Killing a stopped node does nothing.
func (c *Cluster) Kill(id int) {
	if run := c.node(id).run.Load(); run != nil {
		run.asked.Store(true)
		// The only error is an earlier end.
		_ = run.cmd.Process.Kill()
		<-run.ended
	}
}

// Pause stops a node (SIGSTOP) and returns once all of its threads have stopped: connections stay open, and
// no request is answered.
func (c *Cluster) Pause(id int) error {
	if err := c.signal(id, syscall.SIGSTOP); err != nil {
		return err
	}
	// waitid(2) without consuming: about the state of the process, not about its change.
	const byPID = 1
	for {
		_, _, errno := syscall.Syscall6(syscall.SYS_WAITID, byPID, uintptr(c.PID(id)), 0, syscall.WSTOPPED|syscall.WNOWAIT, 0, 0)
		if errno == 0 {
			return nil
		}
		if errno != syscall.EINTR {
			return fmt.Errorf("waiting for node %d to pause: %w", id, errno)
		}
	}
}

// Resume ends a Pause.
func (c *Cluster) Resume(id int) error { return c.signal(id, syscall.SIGCONT) }

func (c *Cluster) signal(id int, signal syscall.Signal) error {
	if err := c.node(id).run.Load().cmd.Process.Signal(signal); err != nil {
		return fmt.Errorf("signalling node %d: %w", id, err)
	}
	return nil
}

// PID is the process id of a node's present or last run.
func (c *Cluster) PID(id int) int { return c.node(id).run.Load().cmd.Process.Pid }

// crashed is nil unless the present or last run ended by itself.
func (n *node) crashed() error {
	run := n.run.Load()
	if run == nil || !run.hasEnded() || run.asked.Load() {
		return nil
	}
	return fmt.Errorf("node %d ended by itself: %w\n%s", n.id, errors.Join(errors.New("nobody stopped it"), run.err), n.log.tail())
}
