package faults

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/test/ledger"
	"reskafka/test/pbx"
)

// patience limits every wait. Reaching the limit is a failure, never a measurement.
const patience = 2 * time.Minute

const (
	threads    = 8 // of each lane
	keys       = 2 // of each thread: few, so records of one key are close together
	partitions = 4
	valueBytes = 200
)

// site is one Asterisk with brokers. Asterisk has a connection, a topic and a load for each lane.
type site struct {
	*testing.T
	ctx     context.Context
	root    string
	dir     string
	brokers brokers
	pbx     *pbx.PBX
	options map[string]string // of every connection, besides a lane's own
	lanes   []*lane
	size    size

	watched   bool
	callTopic string // call records and the consumer's group, if watched
}

// lane is a mode under test.
type lane struct {
	mode       mode
	idempotent bool
	topic      string
	ledger     *ledger.Ledger

	before     count  // the counters when the brokers went away, see site.away
	inFlight   int    // messages possibly at the brokers, unacknowledged
	harms      []harm // damage to the spool
	loggedLost int    // given up by Asterisk's log
}

// name is the name of the lane's connection.
func (l *lane) name() string { return string(l.mode) }

// setup of a site.
type setup struct {
	on         place
	proxy      bool
	modes      []mode
	options    map[string]string
	plain      []mode  // without idempotence
	assignment []int32 // the replicas of every partition; nil = as the brokers like
	size       size
	modules    []string // besides the load's modules
	files      map[string]string
	watched    bool // calls, consoles and a consumer go on beside the load, see watch
}

// sites numbers the sites, for separate topics.
var sites atomic.Int64

// newSite starts brokers and Asterisk. Both end with the test.
func newSite(t *testing.T, o setup) *site {
	t.Helper()
	s := &site{T: t, root: os.Getenv("RES_KAFKA_ROOT"), options: maps.Clone(o.options), size: o.size, watched: o.watched}
	if s.root == "" {
		t.Skip("RES_KAFKA_ROOT is not set: run this by `make test-faults`")
	}
	if s.options == nil {
		s.options = map[string]string{}
	}
	var cancel context.CancelFunc
	s.ctx, cancel = context.WithTimeout(context.Background(), o.size.limit)
	t.Cleanup(cancel)
	var err error
	// Not t.TempDir(): a path with a test's name is too long for Asterisk's control socket.
	if s.dir, err = os.MkdirTemp("", "rk"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = os.RemoveAll(s.dir)
		if s.pbx != nil {
			for _, folder := range s.pbx.SharedMemory() {
				_ = os.RemoveAll(folder)
			}
		}
	})
	if s.brokers, err = newBrokers(t, s.ctx, o.on, o.proxy, s.dir); err != nil {
		t.Fatal(err)
	}
	if b, ok := s.brokers.(*secured); ok {
		maps.Copy(s.options, b.login(alice, 0))
	}
	id := sites.Add(1)
	for _, m := range o.modes {
		l := &lane{mode: m, idempotent: !slices.Contains(o.plain, m), topic: fmt.Sprintf("faults-%d-%s", id, m)}
		if l.ledger, err = ledger.New(filepath.Join(s.dir, l.name()+".ledger"), threads); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(l.ledger.Close)
		s.makeTopic(l.topic, o.assignment)
		s.lanes = append(s.lanes, l)
	}
	files := map[string]string{}
	if s.watched {
		s.callTopic = fmt.Sprintf("faults-%d-calls", id)
		s.makeTopic(s.callTopic, nil)
		o.modules = append(slices.Clone(o.modules), "cdr_kafka", "call_probe")
		maps.Copy(files, watchedFiles(o.modes[0], s.callTopic))
	}
	files["kafka.conf"] = s.kafkaConf()
	maps.Copy(files, o.files)
	s.pbx, err = pbx.New(pbx.Config{
		Dir: filepath.Join(s.dir, "pbx"), Root: s.root, Install: s.install(),
		Modules: slices.Concat(pbx.StockModules(), []string{"res_kafka", "kafka_probe"}, o.modules), Files: files,
		Env: strings.Fields(os.Getenv("RES_KAFKA_ENV")),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.pbx.Stop(pbx.Now); err != nil {
			t.Error(err)
		}
	})
	s.boot()
	return s
}

// install is the DESTDIR of `make install`.
func (s *site) install() string { return os.Getenv("RES_KAFKA_INSTALL") }

// kafkaConf is the file with a connection for each lane.
func (s *site) kafkaConf() string {
	var text strings.Builder
	for _, l := range s.lanes {
		options := map[string]string{"brokers": s.brokers.asterisk(), "enable_idempotence": map[bool]string{true: "yes", false: "no"}[l.idempotent]}
		maps.Copy(options, s.options)
		if knowsDurability {
			options["durability"] = string(l.mode)
		}
		fmt.Fprintf(&text, "[%s]\ntype = connection\n", l.name())
		for _, name := range slices.Sorted(maps.Keys(options)) {
			fmt.Fprintf(&text, "%s = %s\n", name, options[name])
		}
		text.WriteString("\n")
	}
	if s.watched {
		text.WriteString(s.listeningConf())
	}
	return text.String()
}

// client is a Kafka client independent of Asterisk.
func (s *site) client() *kgo.Client {
	s.Helper()
	options := []kgo.Opt{kgo.SeedBrokers(strings.Split(s.brokers.direct(), ",")...)}
	if b, ok := s.brokers.(*secured); ok {
		options = append(options, b.reader...)
	}
	c, err := kgo.NewClient(options...)
	if err != nil {
		s.Fatal(err)
	}
	return c
}

func (s *site) makeTopic(topic string, assignment []int32) {
	s.Helper()
	c := s.client()
	defer c.Close()
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	ask := kmsg.NewPtrCreateTopicsRequest()
	of := kmsg.NewCreateTopicsRequestTopic()
	of.Topic, of.NumPartitions, of.ReplicationFactor = topic, partitions, -1
	if assignment != nil {
		of.NumPartitions = -1
		for partition := range int32(partitions) {
			a := kmsg.NewCreateTopicsRequestTopicReplicaAssignment()
			a.Partition, a.Replicas = partition, assignment
			of.ReplicaAssignment = append(of.ReplicaAssignment, a)
		}
	}
	ask.Topics, ask.TimeoutMillis = append(ask.Topics, of), 30000
	for {
		response, err := ask.RequestWith(ctx, c)
		if err != nil {
			s.Fatal(err)
		}
		err = kerr.ErrorForCode(response.Topics[0].ErrorCode)
		if err == nil {
			break
		}
		if !errors.Is(err, kerr.InvalidReplicationFactor) { // a node restarted by an earlier row is still unknown
			s.Fatalf("making topic %s: %v", topic, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
	s.waitTopic(topic, func(d kadm.TopicDetail) bool {
		for _, p := range d.Partitions {
			if p.Leader < 0 {
				return false
			}
		}
		return len(d.Partitions) == partitions
	})
}

// waitTopic asks the brokers about a topic until it is as wanted.
func (s *site) waitTopic(topic string, wanted func(kadm.TopicDetail) bool) {
	s.Helper()
	c := s.client()
	defer c.Close()
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	for {
		details, err := kadm.NewClient(c).ListTopics(ctx, topic)
		if err == nil && wanted(details[topic]) {
			return
		}
		select {
		case <-ctx.Done():
			s.Fatalf("topic %s does not get as wanted: %v %v", topic, details[topic], err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// boot starts Asterisk.
func (s *site) boot() {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	s.must(s.pbx.Start(ctx))
}

// cli runs a command of Asterisk's console.
func (s *site) cli(format string, args ...any) string {
	s.Helper()
	printed, err := s.pbx.CLI(fmt.Sprintf(format, args...))
	if err != nil {
		s.Fatal(err)
	}
	return printed
}

// load has every lane begin to produce, or go on after Asterisk has come back.
func (s *site) load() {
	s.Helper()
	for _, l := range s.lanes {
		if printed := s.cli("kafka steady start %s %s %s %d %d %g", l.name(), l.topic, l.ledger.Path, keys, valueBytes, s.size.rate); !strings.Contains(printed, "start 0") {
			s.Fatalf("the load of %s does not start: %s", l.name(), printed)
		}
	}
}

// modes names the modes of the lanes.
func (s *site) modes() string {
	var names []string
	for _, l := range s.lanes {
		names = append(names, l.name())
	}
	return strings.Join(names, ", ")
}

func fileSize(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}

func (s *site) unload() { s.Helper(); s.cli("kafka steady stop") }

// produced waits until every lane has made `more` further calls.
func (s *site) produced(more int) {
	s.Helper()
	for _, l := range s.lanes {
		at := l.calls() + more
		s.until(fmt.Sprintf("%d calls of %s", at, l.name()), func() bool { return l.calls() >= at })
	}
}

func (l *lane) calls() int { return l.ledger.Calls() }

// until polls for a state, ever more rarely: a command of Asterisk's console is a process of its own, and
// rows run in parallel.
func (s *site) until(what string, reached func() bool) {
	s.Helper()
	pause := 5 * time.Millisecond
	for deadline := time.Now().Add(patience); !reached(); pause = min(pause*3/2, 300*time.Millisecond) {
		time.Sleep(pause)
		s.must(s.pbx.Crashed())
		if time.Now().After(deadline) {
			var shown strings.Builder
			for _, l := range s.lanes {
				shown.WriteString(s.cli("kafka show connection %s", l.name()))
			}
			s.Fatalf("waiting for %s took longer than %v\n%s", what, patience, &shown)
		}
	}
}

// lasts keeps a fault up for a time, a part of the test.
func (s *site) lasts(d time.Duration) {
	s.Helper()
	select {
	case <-time.After(d):
	case <-s.pbx.Ended():
		s.Fatal(s.pbx.Crashed())
	case <-s.ctx.Done():
		s.Fatal(s.ctx.Err())
	}
}

// count has the numbers of a connection's messages from `kafka show connection`.
type count struct {
	accepted, acknowledged, waiting, spooled, dead, dropped, unaccounted, refused int
	why                                                                           string // of the dropped messages
	text                                                                          string
}

var counted = regexp.MustCompile(`(?m)^  (Accepted|Acknowledged|Waiting|Spooled|Dead letters|Dropped|Unaccounted for|Refused) +(-?\d+)(?: \((.*)\))?`)

// count waits for an engine too busy for the console's limit of two seconds, such as a new engine with the
// records of an outage on a loaded machine.
func (s *site) count(l *lane) (c count) {
	s.Helper()
	s.until("the engine's numbers", func() bool {
		c.text = s.cli("kafka show connection %s", l.name())
		return !strings.Contains(c.text, "has not answered within")
	})
	fields := map[string]*int{
		"Accepted": &c.accepted, "Acknowledged": &c.acknowledged, "Waiting": &c.waiting, "Spooled": &c.spooled,
		"Dead letters": &c.dead, "Dropped": &c.dropped, "Unaccounted for": &c.unaccounted, "Refused": &c.refused,
	}
	found := counted.FindAllStringSubmatch(c.text, -1)
	if len(found) < 6 {
		s.Fatalf("no counters in\n%s", c.text)
	}
	for _, m := range found {
		*fields[m[1]], _ = strconv.Atoi(m[2])
		if m[1] == "Dropped" {
			c.why = m[3]
		}
	}
	return c
}

// acknowledged waits until the brokers have acknowledged more records of every lane than now.
func (s *site) acknowledged() {
	s.Helper()
	for _, l := range s.lanes {
		now := s.count(l).acknowledged
		s.until("acknowledgements of "+l.name(), func() bool { return s.count(l).acknowledged > now })
	}
}

// drain waits until no lane has a message in flight. Progress extends the wait.
func (s *site) drain() {
	s.Helper()
	for _, l := range s.lanes {
		for least := -1; ; {
			var c count
			s.until("the rest of "+l.name(), func() bool {
				c = s.count(l)
				return least < 0 || c.waiting+c.spooled == 0 || c.waiting+c.spooled < least
			})
			if c.waiting+c.spooled == 0 {
				break
			}
			least = c.waiting + c.spooled
		}
	}
}

// logged returns the matching lines of Asterisk's log.
func (s *site) logged(pattern string) (lines []string) {
	match := regexp.MustCompile(pattern)
	for _, line := range s.pbx.LogLines() {
		if match.MatchString(line) {
			lines = append(lines, line)
		}
	}
	return lines
}
