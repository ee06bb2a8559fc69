// Package scenario runs res_kafka in a real Asterisk, against brokers in processes of their own. kcat, an
// independent client, reads the results.
//
// Environment of scripts/test: RES_KAFKA_ROOT, RES_KAFKA_BUILD, RES_KAFKA_INSTALL, and RES_KAFKA_APACHE for
// more than the embedded broker. RES_KAFKA_ENV is added to Asterisk's environment: words of the form
// NAME=value.
package scenario

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"reskafka/test/apache"
	"reskafka/test/confine"
	"reskafka/test/pbx"
	"reskafka/test/port"
)

// patience limits every wait. Reaching the limit is a failure, never a measurement.
const patience = 60 * time.Second

// world is one private Asterisk and a cluster of brokers, private or shared with other worlds.
type world struct {
	*testing.T
	ctx     context.Context
	root    string
	dir     string
	id      string // part of every name in a shared cluster, see name
	address string // the brokers', host:port,host:port
	broker  broker
	cluster *apache.Cluster // the Apache cluster; nil for the embedded broker
	pbx     *pbx.PBX
	sent    int // how often sends was called
}

// options of a world.
type options struct {
	files    map[string]string                  // configuration files besides the defaults; %BROKER% is replaced by the brokers' addresses, %ID% by the world's id
	modules  []string                           // modules after the stock modules; nil = all of ours
	on       kind                               // see everywhere; zero = one embedded broker
	parts    int                                // partitions of new topics; embedded brokers only
	noBroker bool                               // %BROKER% is a port without a listener
	unbooted bool                               // Asterisk is not started yet
	install  string                             // the DESTDIR to take modules from, if another than usual
	group    string                             // see pbx.Config
	args     []string                           // see pbx.Config
	spaces   uintptr                            // see pbx.Config.Namespaces
	confine  func(*confinedWorld) *confine.Spec // set-up in Asterisk's process before the exec
}

// allOurs is every module of this repository, tests' own included.
var allOurs = []string{"res_kafka", "cdr_kafka", "kafka_probe"}

// defaults are the files of a world without other options.
var defaults = map[string]string{
	"kafka.conf":     "[one]\ntype = connection\nbrokers = %BROKER%\n",
	"cdr_kafka.conf": "[global]\nconnection = one\n",
	"cdr.conf":       "[general]\nenable = yes\nunanswered = yes\n",
}

// worlds counts the worlds, for unique ids.
var worlds atomic.Int64

// newWorld starts a world that ends with the test.
func newWorld(t *testing.T, o options) *world {
	t.Helper()
	w := &world{T: t, root: os.Getenv("RES_KAFKA_ROOT"), id: fmt.Sprintf("w%d", worlds.Add(1))}
	if w.root == "" {
		t.Skip("RES_KAFKA_ROOT is not set: run this by `make test-asterisk`")
	}
	var cancel context.CancelFunc
	w.ctx, cancel = context.WithTimeout(context.Background(), 10*time.Minute)
	t.Cleanup(cancel)
	var err error
	// Not t.TempDir(): a path with a test's name is too long for Asterisk's control socket.
	if w.dir, err = os.MkdirTemp("", "rk"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = os.RemoveAll(w.dir)
		if w.pbx != nil {
			for _, folder := range w.pbx.SharedMemory() {
				_ = os.RemoveAll(folder)
			}
		}
	})

	if o.noBroker {
		w.address = port.Refused(t)
	} else {
		w.startBroker(o.on, o.parts)
	}
	files := maps.Clone(defaults)
	maps.Copy(files, o.files)
	for name, text := range files {
		files[name] = w.filled(text)
	}
	if o.modules == nil {
		o.modules = allOurs
	}
	if o.install == "" {
		o.install = os.Getenv("RES_KAFKA_INSTALL")
	}
	var prefix []string
	if o.confine != nil {
		if prefix, err = confine.Command(*o.confine(&confinedWorld{dir: w.dir, root: w.root, install: o.install, self: os.Args[0]})); err != nil {
			t.Fatal(err)
		}
	}
	w.pbx, err = pbx.New(pbx.Config{
		Dir: filepath.Join(w.dir, "pbx"), Root: w.root, Install: o.install,
		Modules: slices.Concat(pbx.StockModules(), o.modules), Files: files,
		Env: strings.Fields(os.Getenv("RES_KAFKA_ENV")), Group: o.group,
		Args: o.args, Prefix: prefix, Namespaces: o.spaces,
	})
	if err != nil {
		t.Fatal(err)
	}
	if !o.unbooted {
		w.boot()
	}
	return w
}

// name returns the name of a topic or a group in this world. Other worlds in the same cluster have other
// names.
func (w *world) name(name string) string { return name + "-" + w.id }

// filled is a configuration file with the world's names in it.
func (w *world) filled(text string) string {
	return strings.NewReplacer("%BROKER%", w.address, "%ID%", w.id).Replace(text)
}

// boot starts Asterisk and stops it at the end of the test. The test fails after an earlier crash.
func (w *world) boot() {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, patience)
	defer cancel()
	if err := w.pbx.Start(ctx); err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() {
		if err := w.pbx.Stop(pbx.Now); err != nil {
			w.Error(err)
		}
	})
}

// cli runs a command of Asterisk's console. A command without effect is repeated if the engine has been too slow: on
// a busy machine its processor may come late.
func (w *world) cli(format string, args ...any) string {
	w.Helper()
	command := fmt.Sprintf(format, args...)
	for deadline := time.Now().Add(patience); ; {
		printed, err := w.pbx.CLI(command)
		if err != nil {
			w.Fatal(err)
		}
		if !strings.HasPrefix(command, "kafka show ") || !strings.Contains(printed, noAnswer) || time.Now().After(deadline) {
			return printed
		}
	}
}

// noAnswer is part of each answer without the engine, if there is one.
const noAnswer = "  No answer: "

// expect runs a command and checks the answer.
func (w *world) expect(pattern, format string, args ...any) string {
	w.Helper()
	printed := w.cli(format, args...)
	if !regexp.MustCompile(pattern).MatchString(printed) {
		w.Fatalf("%s\nanswers\n%s\nwhich does not match %s", fmt.Sprintf(format, args...), printed, pattern)
	}
	return printed
}

// until repeats a command until the answer matches.
func (w *world) until(pattern, format string, args ...any) string {
	w.Helper()
	match := regexp.MustCompile(pattern)
	deadline := time.Now().Add(patience)
	for {
		printed := w.cli(format, args...)
		if match.MatchString(printed) {
			return printed
		}
		if time.Now().After(deadline) {
			w.Fatalf("%s\nstill answers\n%s\nwhich does not match %s", fmt.Sprintf(format, args...), printed, pattern)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// waitLog waits for a line in Asterisk's log after mark.
func (w *world) waitLog(mark int64, pattern string) string {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, patience)
	defer cancel()
	line, err := w.pbx.WaitLogSince(ctx, mark, regexp.MustCompile(pattern))
	if err != nil {
		w.Fatal(err)
	}
	return line
}

// read has kcat read count records of a topic.
func (w *world) read(topic string, count int) []pbx.Record {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, patience)
	defer cancel()
	records, err := pbx.ReadTopic(ctx, w.root, w.address, topic, count)
	if err != nil {
		w.Fatal(err)
	}
	if len(records) != count {
		w.Fatalf("kcat read %d records of %s, want %d", len(records), topic, count)
	}
	return records
}

// acknowledged waits until a connection has nothing waiting and this many acknowledged.
func (w *world) acknowledged(connection string, count int) {
	w.Helper()
	w.until(fmt.Sprintf(`(?m)^\s*Acknowledged +%d$`, count), "kafka show connection %s", connection)
	w.expect(`(?m)^\s*Waiting +0\b`, "kafka show connection %s", connection)
}

func text(s *string) string {
	if s == nil {
		return "(null)"
	}
	return *s
}
