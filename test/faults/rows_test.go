package faults

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"reskafka/test/pbx"
)

// rowNames are the faults in the order of the table.
var rowNames = []string{
	"broker stopped for 3 × message_timeout_ms, then back",
	"broker frozen (SIGSTOP)",
	"leader of a three-node cluster killed, acks = -1",
	"not enough replicas",
	"network cut in both directions, then in each",
	"core restart now with the broker down",
	"kill -9 of Asterisk with the broker down, again and again",
	"disk full, then freed",
	"bit flips and truncation in spool files",
	"reload again and again, each changing something",
	"queue of 1000 with a dead broker",
	"kill -9 of Asterisk in traffic, again and again",
	"modules unloaded and Asterisk stopped while the broker is frozen",
	"kill -9 of the engine in traffic, again and again",
	"kill -9 of the engine every 5 s",
	"engine stopped (SIGSTOP)",
	"engine without address space",
	"engine without descriptors",
	"engine without threads",
	"engine without memory, killed by the kernel",
	"kill -9 of the engine with a full disk, again and again",
	"kill -9 of Asterisk in traffic, no other started",
	"kill -9 of Asterisk and the engine in traffic",
	"kill -9 of the engine while records expire",
}

// everything is the promise of a cell without losses; refusals are allowed.
func everything(o *outcome) (broken []string) {
	if o.lost != 0 {
		broken = append(broken, fmt.Sprintf("%d lost", o.lost))
	}
	return broken
}

// all promises 0 lost in every named mode.
func all(modes ...mode) map[mode]promise {
	promises := map[mode]promise{}
	for _, m := range modes {
		promises[m] = promise{text: "0 lost", broken: everything}
	}
	return promises
}

// with adds a promise.
func with(promises map[mode]promise, m mode, p promise) map[mode]promise {
	promises[m] = p
	return promises
}

// large keeps all waiting messages of a fault in memory: refusals belong to another row.
func large(options map[string]string) func(size) map[string]string {
	return func(size) map[string]string {
		all := map[string]string{"queue_buffering_max_messages": "1000000"}
		for name, value := range options {
			all[name] = value
		}
		return all
	}
}

func ms(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

// away stops the brokers and notes for each lane the messages possibly at the brokers without an
// acknowledgement: these may be duplicates after a kill of Asterisk.
func (s *site) away() {
	s.Helper()
	for _, l := range s.lanes {
		l.before = s.count(l)
	}
	s.must(s.brokers.stop())
	for _, l := range s.lanes {
		l.inFlight = l.ledger.Accepted() - l.before.acknowledged
	}
}

// back starts the brokers again.
func (s *site) back() {
	s.Helper()
	s.must(s.brokers.start())
}

func TestBrokerStopped(t *testing.T) {
	run(t, row{
		name: rowNames[0], on: onEmbedded,
		options: func(size size) map[string]string {
			return map[string]string{"queue_buffering_max_messages": "1000000", "message_timeout_ms": ms(size.timeout)}
		},
		// With idempotence no message in flight expires: an expiry would leave a gap in the sequence.
		plain: []mode{memory},
		promise: with(all(overflow, disk), memory, promise{text: "expired ones counted", broken: func(o *outcome) (broken []string) {
			if o.lost == 0 || !strings.Contains(o.counted.why, "message timeout") {
				broken = append(broken, "nothing expired: this run shows nothing")
			}
			return broken // always compares lost and counted messages
		}}),
		fault: func(s *site) {
			s.away()
			s.lasts(3 * s.size.timeout)
			s.back()
		},
	})
}

func TestBrokerFrozen(t *testing.T) {
	run(t, row{
		name: rowNames[1], on: onEmbedded, full: onApache, promise: all(memory, overflow, disk),
		options: large(map[string]string{"request_timeout_ms": "2000"}), // shorter than the broker's freeze
		fault: func(s *site) {
			s.must(s.brokers.freeze())
			s.lasts(s.size.frozen)
			s.must(s.brokers.thaw())
		},
	})
}

func TestLeaderKilled(t *testing.T) {
	run(t, row{
		name: rowNames[2], on: onThree, promise: all(memory, overflow, disk), options: large(map[string]string{"acks": "-1"}),
		fault: func(s *site) {
			cluster, topic := s.brokers.(*nodes).cluster, s.lanes[0].topic
			leader := int32(-1)
			s.waitTopic(topic, func(d kadm.TopicDetail) bool {
				leader = d.Partitions[0].Leader
				return leader > 0
			})
			cluster.Kill(int(leader))
			s.waitTopic(topic, func(d kadm.TopicDetail) bool {
				led := true
				for _, p := range d.Partitions {
					led = led && p.Leader >= 0 && p.Leader != leader
				}
				return led
			})
			s.acknowledged()
			s.must(cluster.Restart(s.ctx, int(leader)))
			s.inSync(3)
		},
	})
}

// inSync waits until each partition of every lane has this many replicas in sync.
func (s *site) inSync(replicas int) {
	s.Helper()
	for _, l := range s.lanes {
		s.waitTopic(l.topic, func(d kadm.TopicDetail) bool {
			for _, p := range d.Partitions {
				if len(p.ISR) != replicas {
					return false
				}
			}
			return true
		})
	}
}

func TestNotEnoughReplicas(t *testing.T) {
	run(t, row{
		name: rowNames[3], on: onThree, promise: all(memory, overflow, disk), options: large(map[string]string{"acks": "-1"}),
		assignment: []int32{1, 2}, // and the cluster's min.insync.replicas is 2
		fault: func(s *site) {
			cluster := s.brokers.(*nodes).cluster
			cluster.Kill(2)
			s.inSync(1)
			s.lasts(s.size.frozen)
			s.must(cluster.Restart(s.ctx, 2))
			s.inSync(2)
		},
	})
}

func TestNetworkCut(t *testing.T) {
	run(t, row{
		name: rowNames[4], on: onEmbedded, full: onApache, proxy: true, promise: all(memory, overflow, disk),
		options: large(map[string]string{"request_timeout_ms": "1000"}),
		fault: func(s *site) {
			between := s.brokers.(*gated).proxy
			for _, cut := range [][2]bool{{true, true}, {true, false}, {false, true}} {
				between.set(cut[toBroker], cut[toAsterisk])
				s.lasts(s.size.frozen / 2)
				between.set(false, false)
				s.acknowledged()
			}
		},
	})
}

var givenUp = regexp.MustCompile(`: (\d+) record\(s\) for topic '([^']+)' dropped, engine stopped`)

func TestCoreRestart(t *testing.T) {
	lost := all(overflow, disk)
	for m, p := range lost {
		p.killed = true
		lost[m] = p
	}
	run(t, row{
		name: rowNames[5], on: onEmbedded, options: large(nil),
		promise: with(lost, memory, promise{text: "counted in the log", killed: true, broken: countedInLog}),
		fault: func(s *site) {
			s.away()
			s.produced(s.size.around)
			mark := len(s.pbx.LogLines())
			s.must(s.pbx.Restart(s.ctx))
			s.dropped(mark)
			s.load()
			s.produced(s.size.around / 2)
			s.back()
			s.acknowledged()
		},
	})
}

// atMostInFlight limits the duplicates of a lane after a kill of Asterisk.
func atMostInFlight(o *outcome) (broken []string) {
	if o.duplicated > o.lane.inFlight {
		broken = append(broken, fmt.Sprintf("%d duplicated, though only %d were in flight", o.duplicated, o.lane.inFlight))
	}
	return broken
}

func TestKilled(t *testing.T) {
	counted := promise{text: "counted", killed: true, broken: atMostInFlight}
	none := promise{text: "0 lost", killed: true, broken: func(o *outcome) []string {
		return append(everything(o), atMostInFlight(o)...)
	}}
	run(t, row{
		name: rowNames[6], on: onEmbedded, options: large(nil),
		promise: map[mode]promise{memory: counted, overflow: none, disk: none},
		fault: func(s *site) {
			s.away()
			for range s.size.kills {
				// Somewhere in between: also before anything could have been written.
				s.produced(1 + rand.IntN(s.size.around/2))
				s.must(s.pbx.Stop(pbx.Kill))
				s.boot()
				s.load()
			}
			s.produced(s.size.around / 4)
			s.back()
			s.acknowledged()
		},
	})
}

func TestReload(t *testing.T) {
	run(t, row{
		name: rowNames[9], on: onSecured, options: large(nil), promise: all(memory, overflow, disk),
		fault: func(s *site) {
			for i := range s.size.reloads {
				s.changeSomething(i)
				s.lasts(s.size.every)
			}
		},
	})
}

// must fails when a step of a fault did not work.
func (s *site) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// changeSomething writes another kafka.conf and reloads.
func (s *site) changeSomething(round int) {
	s.Helper()
	s.options["client_id"] = fmt.Sprintf("round-%d", round)
	address := s.brokers.asterisk()
	_, port, _ := strings.Cut(address, ":")
	changes := []func(){
		func() { s.options["brokers"] = "localhost:" + port + "," + address },
		func() { s.options["linger_ms"] = strconv.Itoa(1 + round) },
		func() { s.options["compression_codec"] = []string{"none", "gzip", "snappy", "lz4", "zstd"}[round%5] },
		func() { s.options["batch_num_messages"] = strconv.Itoa(100 + 100*round) },
		func() { s.options["brokers"] = address + "," + address },
		func() { s.options["queue_buffering_max_messages"] = strconv.Itoa(500000 + round) },
		func() { s.options["request_timeout_ms"] = strconv.Itoa(4000 + round) },
		func() { s.options["message_timeout_ms"] = strconv.Itoa(200000 + round) },
	}
	if b, ok := s.brokers.(*secured); ok {
		changes = slices.Concat(changes, []func(){
			func() { maps.Copy(s.options, b.login(bob, round%2)) },
			func() { s.must(b.renew()) },
			func() { s.must(b.changePassword(s.ctx)); maps.Copy(s.options, b.login(alice, round%2)) },
			func() { s.must(b.renew()); maps.Copy(s.options, b.login(alice, (round+1)%2)) },
		})
		// The last of these first: a short run does not come to all.
		slices.Reverse(changes)
	}
	changes[round%len(changes)]()
	text := s.kafkaConf() + fmt.Sprintf("[besides-%d]\ntype = connection\nbrokers = %s\n", round, address)
	s.must(s.pbx.WriteFile("kafka.conf", text))
	s.cli("module reload res_kafka.so")
	for _, l := range s.lanes {
		s.until("the reload", func() bool { return strings.Contains(s.count(l).text, fmt.Sprintf("round-%d\n", round)) })
	}
}

func TestFullQueue(t *testing.T) {
	nothing := promise{text: "0 lost, none refused", broken: func(o *outcome) []string {
		broken := everything(o)
		if o.refused != 0 {
			broken = append(broken, fmt.Sprintf("%d refused", o.refused))
		}
		return broken
	}}
	run(t, row{
		name: rowNames[10], on: onEmbedded,
		options: func(size) map[string]string { return map[string]string{"queue_buffering_max_messages": "1000"} },
		promise: map[mode]promise{overflow: nothing, disk: nothing, memory: {text: "refused at once", broken: func(o *outcome) []string {
			broken := everything(o)
			if o.refused == 0 {
				broken = append(broken, "none refused")
			}
			return broken
		}}},
		fault: func(s *site) {
			s.away()
			s.produced(s.size.around)
			s.back()
			s.acknowledged()
		},
	})
}
