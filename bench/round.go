package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"reskafka/test/pbx"
)

// round is one run of a row with one variant, in a fresh Asterisk.
type round struct {
	bench    *bench
	row      *row
	variant  variant
	number   int
	values   values // what it has found
	dir      string
	asterisk *pbx.PBX      // nil before start
	booted   time.Duration // how long its start took
}

// launch is how an Asterisk is started.
type launch struct {
	brokers  string
	numbered int // connections besides the first, see kafkaConf
	settings settings
	env      []string
	modules  []string          // besides those of the variant
	files    map[string]string // further configuration files
}

// start makes the round's Asterisk and waits until it has booted.
func (r *round) start(ctx context.Context, l launch) error {
	files := map[string]string{"kafka.conf": kafkaConf(l.brokers, r.variant, l.numbered, l.settings)}
	for name, content := range l.files {
		files[name] = content
	}
	install := r.bench.install
	modules := append(pbx.StockModules(), "res_kafka", "kafka_bench")
	switch r.variant {
	case reference:
		install = r.bench.reference
	case bare, idleBackend:
		modules = pbx.StockModules()
	}
	var err error
	r.asterisk, err = pbx.New(pbx.Config{
		Dir: r.dir, Root: r.bench.root, Install: install, Modules: append(modules, l.modules...), Files: files, Env: l.env,
	})
	if err != nil {
		return err
	}
	began := time.Now()
	err = r.asterisk.Start(ctx)
	r.booted = time.Since(began)
	return err
}

// end ends the round's Asterisk and removes what it left. It is killed: how long an orderly end takes is no row.
func (r *round) end() error {
	var err error
	if r.asterisk != nil {
		engine := r.asterisk.EnginePID()
		err = errors.Join(r.asterisk.Crashed(), r.asterisk.Stop(pbx.Kill), endEngine(engine))
		for _, folder := range r.asterisk.SharedMemory() {
			err = errors.Join(err, os.RemoveAll(folder))
		}
	}
	if r.bench.keep {
		return err
	}
	return errors.Join(err, os.RemoveAll(r.dir))
}

// printed is a line of kafka_bench.
var printed = regexp.MustCompile(`(?m)^([a-z0-9_]+) (-?[0-9.]+)$`)

// command runs a command of kafka_bench and gives what it printed.
func (r *round) command(format string, args ...any) (values, error) {
	command := "kafka bench " + fmt.Sprintf(format, args...)
	text, err := r.asterisk.CLI(command)
	if err != nil {
		return nil, err
	}
	found, err := parse(text)
	if err != nil {
		return nil, fmt.Errorf("%q: %w\n%s", command, err, lastLines(r.asterisk.LogLines()))
	}
	return found, nil
}

// parse reads what a command of kafka_bench printed.
func parse(text string) (values, error) {
	for line := range strings.Lines(text) {
		if what, found := strings.CutPrefix(line, "error "); found {
			return nil, errors.New(strings.TrimSpace(what))
		}
	}
	found := values{}
	for _, line := range printed.FindAllStringSubmatch(text, -1) {
		number, err := strconv.ParseFloat(line[2], 64)
		if err != nil {
			return nil, fmt.Errorf("reading %q: %w", line[0], err)
		}
		found[line[1]] = number
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("it printed %q", text)
	}
	return found, nil
}

func lastLines(lines []string) string {
	return strings.Join(lines[max(0, len(lines)-10):], "\n")
}

// topic is the name of a topic that is this round's alone.
func (r *round) topic(name string) string {
	return fmt.Sprintf("%s-%d-%s", name, r.bench.topics.Add(1), strings.Map(letters, string(r.variant)))
}

// letters leaves out of a topic's name what may not be in it.
func letters(c rune) rune {
	if c >= 'a' && c <= 'z' {
		return c
	}
	return '_'
}

// trace ends the engine and returns what it has written to standard error, which the module keeps then.
func (r *round) trace(ctx context.Context) (string, error) {
	if err := syscall.Kill(r.asterisk.EnginePID(), syscall.SIGQUIT); err != nil {
		return "", fmt.Errorf("having the engine end with a trace: %w", err)
	}
	for range 100 {
		if found, _ := filepath.Glob(filepath.Join(r.dir, "log", "*.trace")); len(found) > 0 {
			text, err := os.ReadFile(found[0])
			return string(text), err
		}
		if err := sleep(ctx, 100*time.Millisecond); err != nil {
			return "", err
		}
	}
	return "", errors.New("the engine's end left no trace")
}
