package faults

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"reskafka/test/kafkatest"
)

// Limits of the effects of dying engines on an administrator and a caller.
const (
	callRate      = 20                     // calls per second
	callBatch     = 5                      // seconds of one `call load`
	consoleLimit  = 5 * time.Second        // of a command of Asterisk's own
	kafkaLimit    = 10 * time.Second       // of a command of ours: request_timeout_ms and 2.5 s, and the rest for a busy machine
	consolePause  = 250 * time.Millisecond // between two commands
	threadsMargin = 2                      // allowed growth of Asterisk's own pools, threads
)

// watch runs beside the load: calls, consoles and a consumer.
type watch struct {
	*site
	over chan struct{}
	all  sync.WaitGroup

	mu             sync.Mutex
	calls, failed  int
	worstCall      int // us until the caller hears audio
	console, kafka []time.Duration
	away           int   // answers of `kafka show status` without an engine
	threads        []int // of Asterisk, with each console command
	ours           int   // threads of the module at the start
	faults         []string
}

// watchedFiles are the files of a watched Asterisk. Call records go to the first lane's connection.
func watchedFiles(first mode, topic string) map[string]string {
	return map[string]string{
		"extensions.conf": "[calls]\nexten => s,1,Answer()\n same => n,Echo()\n",
		"cdr.conf":        "[general]\nenable = yes\nunanswered = yes\n",
		"cdr_kafka.conf":  fmt.Sprintf("[global]\nconnection = %s\ntopic = %s\nloguniqueid = yes\n", first, topic),
	}
}

// listening is the connection of the consumer.
const listening = "listening"

func (s *site) listeningConf() string {
	return fmt.Sprintf("[%s]\ntype = connection\nbrokers = %s\ngroup_id = %s\nauto_offset_reset = earliest\nsession_timeout_ms = 6000\n"+
		"auto_commit_interval_ms = 1000\n\n", listening, s.brokers.asterisk(), s.callTopic)
}

// watch starts calls, console commands and a consumer of every lane's topic.
func (s *site) watch() *watch {
	s.Helper()
	w := &watch{site: s, over: make(chan struct{})}
	var topics []string
	for _, l := range s.lanes {
		topics = append(topics, l.topic)
	}
	if printed := s.cli("kafka listen start %s %s", listening, strings.Join(topics, ",")); !strings.Contains(printed, "listen 0") {
		s.Fatalf("the consumer does not start: %s", printed)
	}
	w.ours = len(ours(w.threadNames()))
	w.all.Go(w.call)
	w.all.Go(w.ask)
	return w
}

func (w *watch) ended() bool {
	select {
	case <-w.over:
		return true
	default:
		return false
	}
}

func (w *watch) fault(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.faults) < 20 {
		w.faults = append(w.faults, fmt.Sprintf(format, args...))
	}
}

var loadAnswer = regexp.MustCompile(`(?s)calls (\d+)\nfailed (\d+)\n.*audio_max_us (\d+)`)

// call places calls until the watch ends.
func (w *watch) call() {
	for !w.ended() {
		printed, err := w.pbx.CLI(fmt.Sprintf("call load s@calls/n 4 %d %d", callRate, callBatch))
		m := loadAnswer.FindStringSubmatch(printed)
		if err != nil || m == nil || strings.Contains(printed, "error") {
			w.fault("calls: %v %s", err, printed)
			return
		}
		var numbers [3]int
		for i := range numbers {
			numbers[i], _ = strconv.Atoi(m[i+1])
		}
		w.mu.Lock()
		w.calls, w.failed, w.worstCall = w.calls+numbers[0], w.failed+numbers[1], max(w.worstCall, numbers[2])
		w.mu.Unlock()
	}
}

// ask runs console commands until the watch ends, and counts Asterisk's threads.
func (w *watch) ask() {
	for !w.ended() {
		core, took := w.time("core show uptime", "System uptime")
		serving, kafka := w.time("kafka show status", "Process id:")
		tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", w.pbx.PID()))
		if !core || err != nil {
			w.fault("Asterisk does not answer (%v)", err)
			return
		}
		w.mu.Lock()
		w.console, w.kafka, w.threads = append(w.console, took), append(w.kafka, kafka), append(w.threads, len(tasks))
		if !serving {
			w.away++
		}
		w.mu.Unlock()
		time.Sleep(consolePause)
	}
}

// time runs a command and returns whether the output has wanted, and the duration.
func (w *watch) time(command, wanted string) (bool, time.Duration) {
	started := time.Now()
	printed, err := w.pbx.CLI(command)
	return err == nil && strings.Contains(printed, wanted), time.Since(started)
}

var heard = regexp.MustCompile(`heard (\d+) skipped (\d+) again (\d+) strange (\d+)`)

// end ends the watch, waits until the consumer has every record, and fails the test for disturbances.
func (w *watch) end(r row) {
	w.Helper()
	close(w.over)
	w.all.Wait()
	inTopics := w.ends()
	var counts [4]int
	w.until("the consumer's last message", func() bool {
		for i := range counts {
			counts[i], _ = strconv.Atoi(heard.FindStringSubmatch(w.cli("kafka listen show"))[i+1])
		}
		return counts[0]+counts[1] >= inTopics
	})
	note("%s, %s: %d calls, %d failed, first audio after %v at worst; %d console commands, at worst %v, and %v of ours (%d without an engine); threads of Asterisk %s; the consumer heard %d of %d, %d skipped, %d again",
		r.name, w.modes(), w.calls, w.failed, time.Duration(w.worstCall)*time.Microsecond, len(w.console), slices.Max(w.console).Round(time.Millisecond),
		slices.Max(w.kafka).Round(time.Millisecond), w.away, w.grown(), counts[0], inTopics, counts[1], counts[2])
	for _, l := range w.lanes {
		note("%s, %s: %s", r.name, l.name(), l.ledger.Distribution())
	}
	w.judge(counts)
	for deadline := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) { // the last records come late
		records, err := w.callRecords()
		if err != nil {
			w.fault("%v", err)
			break
		}
		if records == w.calls+w.failed || records < w.calls && w.lanes[0].ledger.Refused() > 0 { // a full queue refuses these records too
			break
		}
		if records > w.calls+w.failed || time.Now().After(deadline) {
			w.fault("%d call records of %d calls", records, w.calls+w.failed)
			break
		}
	}
	for _, fault := range w.faults {
		w.Errorf("%s: %s", r.name, fault)
	}
}

// judge notes violations.
func (w *watch) judge(counts [4]int) {
	if w.calls == 0 || len(w.threads) < 3 || counts[0] == 0 {
		w.fault("%d calls, %d commands and %d messages: this run shows nothing", w.calls, len(w.threads), counts[0])
	}
	if w.failed > 0 {
		w.fault("%d calls failed", w.failed)
	}
	if counts[1] > 0 || counts[3] > 0 {
		w.fault("the consumer skipped %d messages and got %d strange ones", counts[1], counts[3])
	}
	if worst := slices.Max(w.console); worst > consoleLimit {
		w.fault("a console command took %v", worst)
	}
	if worst := slices.Max(w.kafka); worst > kafkaLimit {
		w.fault("kafka show status took %v", worst)
	}
	first, _ := w.leastThreads()
	w.threadsEnd(first + threadsMargin)
}

// threadsEnd waits until Asterisk has at most this many threads, and as many of ours as before. On a busy machine
// calls overlap more and more, and Asterisk's pools keep idle threads for 20 to 60 seconds.
func (w *watch) threadsEnd(most int) {
	for deadline := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		names := w.threadNames()
		if len(names) > 0 && len(names) <= most && len(ours(names)) <= w.ours {
			return
		}
		if time.Now().After(deadline) {
			w.fault("Asterisk has %d threads without calls, at most %d and %d of ours are allowed: %v", len(names), most, w.ours, names)
			return
		}
	}
}

// threadNames returns the names of Asterisk's threads.
func (w *watch) threadNames() (names []string) {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/comm", w.pbx.PID()))
	for _, task := range tasks {
		name, _ := os.ReadFile(task)
		names = append(names, strings.TrimSpace(string(name)))
	}
	return names
}

// ours returns the names of the module's threads. A thread inherits the name of its creator.
func ours(names []string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool { return !strings.HasPrefix(name, "kafka-") })
}

// leastThreads returns the least threads of the first and of the last third: calls have threads of their own
// meanwhile.
func (w *watch) leastThreads() (first, last int) {
	third := max(len(w.threads)/3, 1)
	return slices.Min(w.threads[:third]), slices.Min(w.threads[len(w.threads)-third:])
}

func (w *watch) grown() string {
	first, last := w.leastThreads()
	return fmt.Sprintf("%d to %d", first, last)
}

// ends returns the number of offsets in the lanes' topics. No producer may run.
func (s *site) ends() (sum int) {
	s.Helper()
	c := s.client()
	defer c.Close()
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	for _, l := range s.lanes {
		ends, err := kadm.NewClient(c).ListEndOffsets(ctx, l.topic)
		if err == nil {
			err = ends.Error()
		}
		if err != nil {
			s.Fatal(err)
		}
		for _, end := range ends.Offsets()[l.topic] {
			sum += int(end.At)
		}
	}
	return sum
}

// callRecords counts the calls with a record in the topic of call records. Records may come twice.
func (s *site) callRecords() (int, error) {
	s.Helper()
	c := s.client()
	defer c.Close()
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	calls, err := kafkatest.Calls(ctx, c, s.callTopic)
	return len(calls), err
}
