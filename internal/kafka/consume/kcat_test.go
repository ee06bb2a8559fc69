package consume

import (
	"bufio"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"reskafka/test/kafkatest"
	"reskafka/test/pbx"
)

// kcat starts a member of group g on librdkafka, with its deliveries in l. The returned function makes the
// member leave the group and waits for its end.
func kcat(t *testing.T, cluster *kfake.Cluster, l *ledger) (leave func()) {
	t.Helper()
	command, err := pbx.KcatArgv(os.Getenv("RES_KAFKA_ROOT"))
	if err != nil {
		t.Skip("kcat is neither in RES_KAFKA_ROOT nor in PATH")
	}
	args := append(command[1:], "-b", strings.Join(cluster.ListenAddrs(), ","), "-u", "-q", "-f", "%p %o\n",
		"-X", "auto.offset.reset=earliest", "-X", "session.timeout.ms=6000", "-X", "heartbeat.interval.ms=50",
		"-X", "auto.commit.interval.ms=50", "-G", "g", "t")
	cmd := exec.Command(command[0], args...)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			var place [2]int64
			for i, field := range strings.Fields(lines.Text()) {
				place[i], _ = strconv.ParseInt(field, 10, 64)
			}
			l.note(int32(place[0]), place[1])
		}
	}()
	left := false
	leave = func() {
		if left {
			return
		}
		left = true
		cmd.Process.Signal(syscall.SIGTERM)
		<-read
		cmd.Wait()
	}
	t.Cleanup(leave)
	return leave
}

// shares waits until the group has this number of members, all with partitions.
func shares(t *testing.T, cluster *kfake.Cluster, members int) {
	t.Helper()
	eventually(t, "a group of "+strconv.Itoa(members), func() bool {
		info := cluster.GroupInfo("g")
		if info == nil || info.State != "Stable" || len(info.Members) != members {
			return false
		}
		for _, m := range info.Members {
			if m.NumAssigned() == 0 {
				return false
			}
		}
		return true
	})
}

// TestGroupWithKcat checks that a member on librdkafka and a member of ours share a group, in either order of
// arrival, and pass partitions in both directions without the loss of a record.
func TestGroupWithKcat(t *testing.T) {
	for name, ours := range map[string]bool{"ours first": true, "kcat first": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster := kafkatest.Broker(t, kfake.SeedTopics(4, "t"))
			cl, l := kafkatest.Writer(t, cluster), newLedger()
			join := func() *module {
				m := subscribe(t, consuming(cluster.ListenAddrs()...), nil, []string{"t"}, func(tune *consumerTuning) {
					tune.extra = append(tune.extra, kgo.HeartbeatInterval(20*time.Millisecond))
				})
				m.run(func(one Message) { l.end(one) })
				return m
			}
			const each = 100
			part := 0
			more := func() { write(t, cl, "t", 4, part*each, (part+1)*each); part++ }
			all := func() {
				t.Helper()
				eventually(t, "every record is delivered", func() bool { n, _ := l.count(); return n == 4*each*part })
			}
			more()
			var m *module
			var leave func()
			if ours {
				m = join()
				shares(t, cluster, 1)
				more()
				leave = kcat(t, cluster, l)
			} else {
				leave = kcat(t, cluster, l)
				shares(t, cluster, 1)
				more()
				join()
			}
			more()
			shares(t, cluster, 2)
			more()
			all()
			if ours { // the first member leaves and comes back
				m.Stop()
				within(t, m.over, "the end of the thread")
				more()
				all()
				join()
			} else {
				leave()
				more()
				all()
				leave = kcat(t, cluster, l)
			}
			more()
			shares(t, cluster, 2)
			more()
			all()
			if n, again := l.count(); again > 0 {
				t.Logf("%d of %d records came twice", again, n) // librdkafka commits before delivery and late
			}
			leave()
		})
	}
}
