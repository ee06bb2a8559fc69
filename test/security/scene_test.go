package security

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"reskafka/internal/config/configtest"
	"reskafka/internal/engine"
	"reskafka/internal/frame/frametest"
	"reskafka/internal/host"
	"reskafka/internal/ingest"
	"reskafka/test/held"
)

// line is one line of the log.
type line struct {
	level host.Level
	text  string
}

// lines is the log of a scene.
type lines struct {
	mtx   sync.Mutex
	all   []line
	grown chan struct{} // closed and replaced with each line
}

func (l *lines) Log(level host.Level, _ string, _ int, _, text string) {
	l.mtx.Lock()
	defer l.mtx.Unlock()
	l.all = append(l.all, line{level, text})
	close(l.grown)
	l.grown = make(chan struct{})
}

// loud returns the lines for an administrator, above the debug level, and a channel closed at the next line.
func (l *lines) loud() ([]line, <-chan struct{}) {
	l.mtx.Lock()
	defer l.mtx.Unlock()
	return slices.DeleteFunc(slices.Clone(l.all), func(one line) bool { return one.level == host.Debug }), l.grown
}

// progress counts callbacks for a consumer.
type progress struct{ delivered atomic.Uint64 }

func (p *progress) Delivered() uint64 { return p.delivered.Load() }
func (p *progress) Hurry(bool)        {}

// scene is an engine with one connection, "one", through a gateway to a site's listener. The scene notes
// actions and log lines and compares them with a golden file.
type scene struct {
	*testing.T
	site     *site
	ctx      context.Context
	gateway  *gateway
	brokers  string // the option's value: the gateway, unless a case needs none
	engine   *engine.Engine
	gate     engine.Gate
	held     held.Count // frames
	id       uint64
	log      *lines
	noted    int // loud lines in the notes
	notes    strings.Builder
	received chan string
	topic    string
	group    string
	dir      string // for files of the case's own
	excuses  int    // logged time-outs of a busy machine, without the return of their broker
	began    time.Time
	refusal  bool // the connection's request_timeout_ms is short, because the scene waits for its end

	subscribed uint64 // the number of the latest subscription
}

func newScene(t *testing.T, s *site, listener string) *scene {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	sc := &scene{
		T: t, site: s, ctx: ctx, gateway: newGateway(t, s.address(listener)), log: &lines{grown: make(chan struct{})},
		received: make(chan string, 1000), began: time.Now(), topic: filepath.Base(t.Name()), dir: t.TempDir(),
	}
	sc.group, sc.brokers = sc.topic, sc.gateway.address()
	sc.engine = engine.Start(host.System{EntityID: "00:11:22:33:44:55", Version: "22.5.0", Hostname: "pbx", SpoolDir: t.TempDir()}, sc.log)
	t.Cleanup(func() {
		sc.engine.Stop(0)
		sc.noSecrets()
	})
	return sc
}

// noSecrets fails on a password in any line, of any level. All scenes have the client's full log.
func (s *scene) noSecrets() {
	s.log.mtx.Lock()
	defer s.log.mtx.Unlock()
	for _, one := range s.log.all {
		if strings.Contains(one.text, secret) {
			s.Errorf("a password is in the log: %s", one.text)
		}
	}
}

// text returns a kafka.conf with the connection. @ in options is the folder of the client's files, # that of
// the case.
func (s *scene) text(options string) string {
	options = strings.NewReplacer("@", s.site.files, "#", s.dir).Replace(options)
	timeout := "60000"
	if s.refusal {
		timeout = "3000"
	}
	return "[one]\ntype = connection\nbrokers = " + s.brokers + "\ngroup_id = " + s.group + "\n" +
		"auto_offset_reset = earliest\nreconnect_backoff_ms = 50\nreconnect_backoff_max_ms = 400\n" +
		"request_timeout_ms = " + timeout + "\ndebug = all\n" + strings.ReplaceAll(options, ", ", "\n") + "\n" +
		"socket_timeout_ms = 60000\n"
}

// configure puts options in force, which must be right.
func (s *scene) configure(options string) {
	s.Helper()
	if err := s.engine.Configure(configtest.Read(s.text(options))); err != nil {
		loud, _ := s.log.loud()
		s.Fatalf("%v: %v", err, loud)
	}
}

// open gets a producer.
func (s *scene) open() {
	s.Helper()
	s.id = 1
	s.held.Of(&s.gate.DoneFrames)
	if err := s.engine.OpenProducer("one", s.id, &s.gate); err != nil {
		loud, _ := s.log.loud()
		s.Fatalf("%v: %v", err, loud)
	}
}

// put leaves a record with the engine, as the stage does.
func (s *scene) put(value string) {
	f := frametest.Frame{AcceptedNS: time.Now().UnixNano(), Topic: s.topic, Value: []byte(value), Charge: uint32(len(value))}
	s.held.Add(1)
	s.gate.Admitted.Add(1)
	s.engine.Take(s.id, ingest.Range{Frames: frametest.Append(nil, f), Stays: true})
	s.gate.Handed.Add(1)
}

// settled waits until every record has an outcome.
func (s *scene) settled() {
	s.Helper()
	for s.held.Load() != 0 { // without a notice
		select {
		case <-time.After(5 * time.Millisecond):
		case <-s.ctx.Done():
			loud, _ := s.log.loud()
			s.Fatalf("%d records still wait: %v", s.held.Load(), loud)
		}
	}
}

// subscribe consumes the topic until the scene ends.
func (s *scene) subscribe() {
	s.Helper()
	p := &progress{}
	s.subscribed++
	id := s.subscribed
	if err := s.engine.Subscribe("one", s.topic, id, p); err != nil {
		s.Fatal(err)
	}
	over := make(chan struct{})
	go func() {
		defer close(over)
		for {
			batch, ok := s.engine.Next(id)
			if !ok {
				return
			}
			for m := range batch.All() {
				s.received <- string(m.Value)
				p.delivered.Add(1)
			}
		}
	}()
	s.Cleanup(func() {
		s.engine.FreeSubscription(id)
		<-over
	})
}

// receive waits for a message with the given value.
func (s *scene) receive(value string) {
	s.Helper()
	for got := ""; got != value; {
		select {
		case got = <-s.received:
		case <-s.ctx.Done():
			loud, _ := s.log.loud()
			s.Fatalf("%q was not received: %v", value, loud)
		}
	}
}

// testSend is `kafka test send`.
func (s *scene) testSend(message string) string {
	if err := s.engine.TestSend(s.ctx, "one", s.topic, message, nil); err != nil {
		return err.Error()
	}
	return "Message sent successfully"
}

// sendUntilRefused repeats `kafka test send` until the answer has the cause of the failure: on a busy machine the
// broker's answer is later than request_timeout_ms.
func (s *scene) sendUntilRefused() string {
	s.Helper()
	for {
		text := s.testSend("refused")
		if !late.MatchString(text) || s.ctx.Err() != nil {
			return text
		}
	}
}

// makeUntilRefused repeats ensure_topic until the log has the cause of the failure, for the same reason.
func (s *scene) makeUntilRefused() {
	s.Helper()
	for isLate := true; isLate && s.ctx.Err() == nil; {
		if err := s.engine.EnsureTopic("one", s.topic+"-made", 1, 1, true); err == nil {
			s.Error("the topic was made")
		}
		loud, _ := s.log.loud()
		for _, one := range loud[s.noted:] {
			if strings.Contains(one.text, "creating topic") {
				isLate = late.MatchString(one.text)
			}
		}
	}
}

// sendUntilSent repeats `kafka test send` until a success: a busy machine may exceed the message's time.
func (s *scene) sendUntilSent() {
	s.Helper()
	for s.testSend("sent") != "Message sent successfully" {
		if s.ctx.Err() != nil {
			loud, _ := s.log.loud()
			s.Fatalf("no message gets through: %v", loud)
		}
	}
}

// makeUntilMade repeats ensure_topic until a success, for the same reason.
func (s *scene) makeUntilMade() {
	s.Helper()
	for s.engine.EnsureTopic("one", s.topic+"-made", 1, 1, true) != nil {
		if s.ctx.Err() != nil {
			loud, _ := s.log.loud()
			s.Fatalf("the topic is not made: %v", loud)
		}
	}
}

// attempts waits for `more` further connections.
func (s *scene) attempts(more int) {
	s.Helper()
	for begun, _ := s.gateway.connections(); ; {
		now, grown := s.gateway.connections()
		if now >= begun+more {
			return
		}
		select {
		case <-grown:
		case <-s.ctx.Done():
			s.Fatalf("%d attempts in all that time", now-begun)
		}
	}
}

// note notes the action, then the new lines, after at least `least` lines. Lines of several goroutines have
// no order.
func (s *scene) note(what string, least int) {
	s.Helper()
	for {
		loud, grown := s.log.loud()
		texts := s.toNote(loud[s.noted:])
		if len(texts) >= least {
			texts = s.withoutExcused(what, loud[s.noted:], texts)
			s.noted = len(loud)
			slices.Sort(texts)
			fmt.Fprintf(&s.notes, "# %s\n%s", what, strings.Join(append(texts, ""), "\n"))
			return
		}
		select {
		case <-grown:
		case <-s.ctx.Done():
			s.Fatalf("%s: %d lines, want %d: %v", what, len(texts), least, loud[s.noted:])
		}
	}
}

// toNote leaves out lines that depend on time: repetitions after half a minute, with a count, at most one for
// each half minute, and time-outs of a busy machine. No broker of a scene hangs.
func (s *scene) toNote(some []line) []string {
	s.Helper()
	var texts []string
	repeats := map[string]int{}
	for _, one := range some {
		text := s.normal(one)
		base := again.ReplaceAllString(text, "")
		switch {
		case base != text && strings.Contains(s.notes.String(), base), moreRecords.MatchString(text):
			repeats[base]++
		case renewed.MatchString(text), late.MatchString(text):
		default:
			texts = append(texts, text)
		}
	}
	for base, n := range repeats {
		most := int(time.Since(s.began) / (30 * time.Second))
		if moreRecords.MatchString(base) {
			most = 2*most + 2 // once in a quiet moment, and once at the engine's end
		}
		if n > most {
			s.Errorf("%d times in %v: %s", n, time.Since(s.began), base)
		}
	}
	return texts
}

// withoutExcused leaves out the return of a broker after a time-out of a busy machine. The golden file decides which
// returns need no such excuse.
func (s *scene) withoutExcused(what string, some []line, texts []string) []string {
	for _, one := range some {
		if one.level == host.Warning && late.MatchString(one.text) {
			s.excuses++
		}
	}
	file, _ := os.ReadFile(s.goldenFile())
	_, section, _ := strings.Cut(string(file), "# "+what+"\n")
	section, _, _ = strings.Cut(section, "\n#")
	expected := map[string]int{}
	for text := range strings.SplitSeq(section, "\n") {
		expected[text]++
	}
	return slices.DeleteFunc(texts, func(text string) bool {
		expected[text]--
		if expected[text] >= 0 || s.excuses == 0 || !strings.Contains(text, " is back after ") {
			return false
		}
		s.excuses--
		return true
	})
}

// goldenFile is the path of the case's golden file.
func (s *scene) goldenFile() string { return filepath.Join("testdata", s.topic+".golden") }

// answer notes an answer outside the log.
func (s *scene) answer(what, text string) {
	fmt.Fprintf(&s.notes, "# %s\n%s\n", what, s.normal(line{host.Notice, text})[len("NOTICE "):])
}

var (
	again       = regexp.MustCompile(` \((\d+ attempts|\d+ times since the last line)\)`)
	moreTries   = regexp.MustCompile(` \(\d+ more attempts failed\)`)
	renewed     = regexp.MustCompile(`renewed TLS files are used`) // when a connection is made before the reload
	moreRecords = regexp.MustCompile(`^ERROR connection 'one': N more record\(s\) `)
	records     = regexp.MustCompile(`\b\d+ ((more )?record\(s\))`)
	duration    = regexp.MustCompile(`after [0-9.hmµns]+\b`)
	moment      = regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d UTC`)
	late        = regexp.MustCompile(`\bin time\b|\btimed out\b|\bconnecting for \d+|\bthe brokers can be reached\b`)
	loopback    = regexp.MustCompile(`127\.0\.0\.1:\d+`)
)

// normal returns a line without the variable parts.
func (s *scene) normal(one line) string {
	text := strings.NewReplacer(s.gateway.address(), "BROKER:9092", s.site.files, "FILES", s.dir, "FOLDER").Replace(one.text)
	text = moreTries.ReplaceAllString(text, "")
	text = records.ReplaceAllString(text, "N $1")
	text = duration.ReplaceAllString(text, "after TIME")
	text = moment.ReplaceAllString(text, "DATE")
	text = loopback.ReplaceAllString(text, "NODE:9092")
	return []string{"DEBUG", "NOTICE", "WARNING", "ERROR"}[one.level] + " " + text
}

// golden holds the notes against the case's golden file, which is the same for every site.
func (s *scene) golden() {
	s.Helper()
	path := s.goldenFile()
	got := s.notes.String()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			s.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		s.Fatal(err)
	}
	if got != string(want) {
		s.Errorf("got:\n%swant:\n%s(go test ./test/security -update rewrites it)", got, want)
	}
}
