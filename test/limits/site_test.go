// Package limits checks a real Asterisk with res_kafka at the limits of the kernel: threads, address space,
// descriptors, memory, and one processor under `asterisk -p`. A row of the table sets one limit on one
// process at one time.
//
// Environment of scripts/test: RES_KAFKA_ROOT, RES_KAFKA_BUILD, RES_KAFKA_INSTALL. With RES_KAFKA_LONG each
// row has all of its values, otherwise a sample. RES_KAFKA_RESULTS names a file for the table of outcomes.
package limits

import (
	"context"
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

	"reskafka/test/pbx"
)

// patience limits every wait. Reaching the limit is a failure, never a measurement.
const patience = 60 * time.Second

// site is one Asterisk and one broker in separate processes.
type site struct {
	*testing.T
	ctx     context.Context
	dir     string
	broker  *pbx.Broker
	pbx     *pbx.PBX
	console *pbx.Console
	group   string // the control group of Asterisk and engine; empty = ours
	user    uint32 // Asterisk's user; 0 = ours
}

// setup of a site.
type setup struct {
	group   string
	user    uint32            // 0 = ours
	load    []string          // modules loaded at Asterisk's start, besides the stock modules and call_probe
	files   map[string]string // %BROKER% is replaced
	options map[string]string // of asterisk.conf
	refused string            // an address where no broker is, instead of a broker
}

var ourModules = []string{"res_kafka", "cdr_kafka", "kafka_probe"}

var defaultFiles = map[string]string{
	"kafka.conf": "[producing]\ntype = connection\nbrokers = %BROKER%\n\n[consuming]\ntype = connection\nbrokers = %BROKER%\n" +
		"group_id = limits\nauto_offset_reset = earliest\nsession_timeout_ms = 6000\nauto_commit_interval_ms = 200\n" +
		"\n[listening]\ntype = connection\nbrokers = %BROKER%\ngroup_id = listening\n",
	"cdr_kafka.conf": "[global]\nconnection = producing\n",
	"extensions.conf": "[calls]\nexten => s,1,Answer()\n same => n,Echo()\n" +
		"[standing]\nexten => s,1,Answer()\n same => n,Echo()\n",
}

func newSite(t *testing.T, o setup) *site {
	t.Helper()
	s := &site{T: t, group: o.group}
	root := os.Getenv("RES_KAFKA_ROOT")
	if root == "" {
		t.Skip("RES_KAFKA_ROOT is not set: run this by `make test-limits`")
	}
	var cancel context.CancelFunc
	s.ctx, cancel = context.WithTimeout(context.Background(), 30*time.Minute)
	t.Cleanup(cancel)
	var err error
	// Not t.TempDir(): a path with a test's name is too long for Asterisk's control socket.
	s.dir, err = os.MkdirTemp("", "rk")
	s.must(err)
	t.Cleanup(s.remove)
	address := o.refused
	if address == "" {
		s.startBroker()
		address = s.broker.Address
	}
	files := maps.Clone(defaultFiles)
	files["modules.conf"] = modulesConf(o.load)
	maps.Copy(files, o.files)
	for name, text := range files {
		files[name] = strings.ReplaceAll(text, "%BROKER%", address)
	}
	s.pbx, err = pbx.New(pbx.Config{
		Dir: filepath.Join(s.dir, "pbx"), Root: root, Install: os.Getenv("RES_KAFKA_INSTALL"),
		Modules: slices.Concat(pbx.StockModules(), []string{"call_probe"}, ourModules), Files: files,
		Options: o.options, Env: strings.Fields(os.Getenv("RES_KAFKA_ENV")), Group: o.group,
	})
	s.must(err)
	if o.user != 0 {
		s.user = o.user
		s.must(os.Chmod(s.dir, 0o711))
		s.must(s.pbx.RunAs(o.user))
	}
	s.boot()
	return s
}

func modulesConf(load []string) string {
	var text strings.Builder
	text.WriteString("[modules]\nautoload = no\n")
	for _, module := range slices.Concat(pbx.StockModules(), []string{"call_probe"}, load) {
		fmt.Fprintf(&text, "load = %s.so\n", module)
	}
	return text.String()
}

// users are different for each site: RLIMIT_NPROC counts all threads of a user.
var users atomic.Uint32

// aUser returns a user without processes. RLIMIT_NPROC does not bind root, and any other user has processes.
func aUser() uint32 {
	if os.Geteuid() != 0 {
		return 0
	}
	return 24000 + uint32(os.Getpid()%1000)*16 + users.Add(1)
}

func (s *site) startBroker() {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	var err error
	s.broker, err = pbx.StartBroker(ctx, pbx.BrokerConfig{
		Command: filepath.Join(os.Getenv("RES_KAFKA_BUILD"), "reskafka"), Dir: filepath.Join(s.dir, "broker"), Partitions: 4,
	})
	s.must(err)
	s.Cleanup(func() { _ = s.broker.Stop() })
}

// boot starts Asterisk and stops it at the end of the test. The test fails after an earlier crash.
func (s *site) boot() {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	s.must(s.pbx.Start(ctx))
	s.Cleanup(func() {
		if err := s.pbx.Stop(pbx.Now); err != nil {
			s.Error(err)
		}
	})
	var err error
	s.console, err = s.pbx.OpenConsole()
	s.must(err)
	s.Cleanup(s.console.Close)
}

func (s *site) remove() {
	_ = os.RemoveAll(s.dir)
	if s.pbx != nil {
		for _, folder := range s.pbx.SharedMemory() {
			_ = os.RemoveAll(folder)
		}
	}
}

func (s *site) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// cli runs a command on the console opened at the start.
func (s *site) cli(format string, args ...any) string {
	s.Helper()
	printed, err := s.console.Run(fmt.Sprintf(format, args...))
	if err != nil {
		s.must(s.pbx.Crashed())
		s.Fatal(err)
	}
	return printed
}

// expect runs a command, checks the answer, and returns the match.
func (s *site) expect(pattern, format string, args ...any) []string {
	s.Helper()
	printed := s.cli(format, args...)
	match := regexp.MustCompile(pattern).FindStringSubmatch(printed)
	if match == nil {
		s.Fatalf("%s\nanswers\n%s\nwhich does not match %s", fmt.Sprintf(format, args...), printed, pattern)
	}
	return match
}

// until repeats a command until the answer matches, and returns the match.
func (s *site) until(pattern, format string, args ...any) []string {
	s.Helper()
	match := regexp.MustCompile(pattern)
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		printed := s.cli(format, args...)
		if found := match.FindStringSubmatch(printed); found != nil {
			return found
		}
		if time.Now().After(deadline) {
			s.Fatalf("%s\nstill answers\n%s\nwhich does not match %s\n%s", fmt.Sprintf(format, args...), printed, pattern,
				strings.Join(s.since(0), "\n"))
		}
	}
}

// wait waits until something is so.
func (s *site) wait(what string, so func() bool) {
	s.Helper()
	for deadline := time.Now().Add(patience); !so(); time.Sleep(20 * time.Millisecond) {
		s.must(s.pbx.Crashed())
		if time.Now().After(deadline) {
			s.Fatalf("not so after %v: %s\n%s", patience, what, strings.Join(s.since(0), "\n"))
		}
	}
}

// since returns the last lines of the log after a mark.
func (s *site) since(mark int) []string {
	lines := s.pbx.LogLines()[mark:]
	return lines[max(0, len(lines)-60):]
}

// lines is the number of lines in the log, a mark for since.
func (s *site) lines() int { return len(s.pbx.LogLines()) }

func (s *site) number(file string) uint64 {
	s.Helper()
	text, err := os.ReadFile(file)
	s.must(err)
	n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	s.must(err)
	return n
}

// engine waits for a serving engine and returns its process id.
func (s *site) engine() int {
	s.Helper()
	pid, _ := strconv.Atoi(s.until(`Process id: +(\d+)`, "kafka show status")[1])
	return pid
}

// long reports whether each row has all of its values.
func long() bool { return os.Getenv("RES_KAFKA_LONG") != "" }
