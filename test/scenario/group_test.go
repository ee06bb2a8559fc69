package scenario

import (
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"reskafka/test/child"
	"reskafka/test/pbx"
)

// delivery is one message received by a member of the group.
type delivery struct{ number, partition int }

// journal is the output file of a group member, one line for each message, read while the file grows.
type journal struct {
	path   string
	parse  func(line string) (delivery, error)
	read   int64
	gotten []delivery
}

// update reads new lines, up to the last complete line.
func (j *journal) update() error {
	file, err := os.Open(j.path)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	if _, err := file.Seek(j.read, io.SeekStart); err != nil {
		return err
	}
	text, err := io.ReadAll(file)
	if err != nil {
		return err
	}
	text = text[:strings.LastIndexByte(string(text), '\n')+1]
	j.read += int64(len(text))
	for line := range strings.Lines(string(text)) {
		d, err := j.parse(strings.TrimSpace(line))
		if err != nil {
			return fmt.Errorf("reading %q in %s: %w", line, j.path, err)
		}
		j.gotten = append(j.gotten, d)
	}
	return nil
}

// ourLine parses a line of the probe's callback, kcatLine a line of kcat. Both have the number of `kafka
// flood`, "0 number".
func ourLine(line string) (delivery, error) {
	fields := strings.Fields(line)
	if len(fields) < 5 {
		return delivery{}, fmt.Errorf("want five words")
	}
	payload, err := hex.DecodeString(fields[4])
	if err != nil {
		return delivery{}, err
	}
	return kcatLine(fields[1] + " " + string(payload))
}

func kcatLine(line string) (d delivery, err error) {
	_, err = fmt.Sscanf(line, "%d 0 %d", &d.partition, &d.number)
	return d, err
}

// sharedGroup is a group with at most one member of ours and one kcat.
type sharedGroup struct {
	*world
	topic        string
	partitions   int
	ours, theirs *journal
	came         map[int]int // how often each number was delivered
	counted      [2]int      // deliveries of ours and theirs already in came
}

// update reads both journals.
func (g *sharedGroup) update() {
	g.Helper()
	for i, j := range []*journal{g.ours, g.theirs} {
		if err := j.update(); err != nil {
			g.Fatal(err)
		}
		for _, d := range j.gotten[g.counted[i]:] {
			g.came[d.number]++
		}
		g.counted[i] = len(j.gotten)
	}
}

// all waits until every number below count has been delivered, to whomever.
func (g *sharedGroup) all(count int) {
	g.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		g.update()
		missing := 0
		for n := range count {
			if g.came[n] == 0 {
				missing++
			}
		}
		if missing == 0 {
			return
		}
		if time.Now().After(deadline) {
			g.Fatalf("%d of %d messages came to nobody\n%s", missing, count, g.cli("kafka show consumer one"))
		}
	}
}

// until waits until new messages arrive from all partitions, and each partition has one member only: ours,
// kcat, or some for both. All earlier messages have to arrive by then.
func (g *sharedGroup) until(ours, theirs bool) {
	g.Helper()
	const window = 100
	for deadline := time.Now().Add(patience); ; {
		before := (&flood{world: g.world}).counts().produced
		g.all(before + window)
		from := [2]map[int]bool{{}, {}}
		shared := false
		for i, j := range []*journal{g.ours, g.theirs} {
			for _, d := range j.gotten {
				if d.number >= before {
					from[i][d.partition] = true
					shared = shared || i == 1 && from[0][d.partition]
				}
			}
		}
		if !shared && len(from[0])+len(from[1]) == g.partitions && len(from[0]) > 0 == ours && len(from[1]) > 0 == theirs {
			return
		}
		if time.Now().After(deadline) {
			g.Fatalf("our member gets partitions %v, kcat %v; want ours %v, kcat %v", from[0], from[1], ours, theirs)
		}
	}
}

// kcat starts a group member on librdkafka. leave makes kcat leave the group, and waits for its end.
func (g *sharedGroup) kcat() (leave func()) {
	g.Helper()
	argv, err := pbx.KcatArgv(g.root)
	if err != nil {
		g.Fatal(err)
	}
	out, err := os.OpenFile(g.theirs.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		g.Fatal(err)
	}
	defer out.Close()
	argv = append(argv, "-b", g.address, "-q", "-u", "-f", "%p %s\n", "-X", "auto.offset.reset=earliest",
		"-X", "session.timeout.ms=6000", "-X", "heartbeat.interval.ms=500", "-X", "auto.commit.interval.ms=200", "-G", g.name("calls"), g.topic)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdout = out
	// kcat dies with these tests, even after a kill.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	ended := make(chan error, 1)
	if err := child.Start(cmd, func(err error) { ended <- err }); err != nil {
		g.Fatal(err)
	}
	left := false
	leave = func() {
		if left {
			return
		}
		left = true
		_ = cmd.Process.Signal(syscall.SIGTERM) // the only error is an ended process
		select {
		case err := <-ended:
			if err != nil {
				g.Errorf("kcat ended with %v", err)
			}
		case <-time.After(patience):
			_ = cmd.Process.Kill()
			<-ended
			g.Error("kcat did not end")
		}
	}
	g.Cleanup(leave)
	return leave
}

func TestGroupWithKcat(t *testing.T) { everywhere(t, groupWithKcat) }

// groupWithKcat checks a topic shared by our member and kcat: partitions move in both directions, and no
// message is lost on the way, while messages are produced all the time.
func groupWithKcat(t *testing.T, on kind) {
	w := newWorld(t, options{on: on, modules: []string{"res_kafka", "kafka_probe"}, files: map[string]string{
		"kafka.conf": group + "session_timeout_ms = 6000\n",
	}})
	g := &sharedGroup{
		world: w, topic: w.name("shared"), partitions: 4, came: map[int]int{},
		ours:   &journal{path: filepath.Join(w.dir, "got"), parse: ourLine},
		theirs: &journal{path: filepath.Join(w.dir, "kcat"), parse: kcatLine},
	}
	g.expect(`ensure 0`, "kafka probe ensure one %s %d 0 wait", g.topic, g.partitions)
	g.expect(`start 0`, "kafka flood start one %s 1 1000000 40 500 1000000", g.topic)
	g.subscribe(g.topic, 0)
	g.until(true, false)
	leave := g.kcat()
	g.until(true, true)
	// kcat loses messages during its end: librdkafka has already handed them over and commits them.
	g.cli("kafka flood hold")
	g.all((&flood{world: w}).counts().produced)
	leave()
	g.cli("kafka flood go")
	g.until(true, false)
	leave = g.kcat()
	g.until(true, true)
	g.expect(`unsubscribe 0`, "kafka probe unsubscribe")
	g.until(false, true)
	g.subscribe(g.topic, 0)
	g.until(true, true)
	produced := counted7.FindStringSubmatch(g.expect(counted7.String(), "kafka flood stop"))
	total, _ := strconv.Atoi(produced[1])
	g.all(total)
	leave()
	g.cli("kafka probe end")
	g.update()
	again := 0
	for n, times := range g.came {
		if n < 0 || n >= total {
			t.Errorf("number %d was never produced", n)
		}
		again += times - 1
	}
	t.Logf("%d messages, %d to ours, %d to kcat, %d of them again", total, len(g.ours.gotten), len(g.theirs.gotten), again)
}
