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

// round is a run of a row with a variant, in a fresh Asterisk.
type round struct {
	bench    *bench
	row      *row
	variant  variant
	number   int
	values   values // results
	dir      string
	asterisk *pbx.PBX      // nil before start
	booted   time.Duration // duration of the start
}

// launch is how an Asterisk is started.
type launch struct {
	brokers  string
	numbered int // connections besides the first, see kafkaConf
	settings settings
	env      []string
	modules  []string          // besides the variant's modules
	files    map[string]string // further configuration files
}

// start creates the round's Asterisk and waits for its boot.
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

// end kills the round's Asterisk and removes its files: no row measures an orderly end.
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

// command runs a command of kafka_bench and returns its values.
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

// parse reads the output of a command of kafka_bench.
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

// topic returns the name of a topic unique to this round.
func (r *round) topic(name string) string {
	return fmt.Sprintf("%s-%d-%s", name, r.bench.topics.Add(1), strings.Map(letters, string(r.variant)))
}

// letters removes characters forbidden in a topic's name.
func letters(c rune) rune {
	if c >= 'a' && c <= 'z' {
		return c
	}
	return '_'
}

// trace ends the engine and returns its standard error, saved by the module.
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
