// Command bench measures res_kafka against a module on librdkafka, in a real Asterisk. The same module
// (bench/modules/kafka_bench.c) drives both through asterisk/kafka.h, in turn, against the same broker, with
// the same settings. The command prints a table with a verdict on each goal. `make bench` builds the
// requirements, runs the command, and has it write bench/RESULTS.md.
//
// Its environment: RES_KAFKA_ROOT, RES_KAFKA_BUILD and RES_KAFKA_INSTALL as for tests (see scripts/test),
// RES_KAFKA_APACHE, and RES_KAFKA_REFERENCE, the DESTDIR of the reference's installation; without a
// reference, ours is measured alone.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"syscall"
	"time"
)

// options is the command line.
type options struct {
	quick   bool
	row     string
	rounds  int
	only    string
	list    bool
	keep    bool
	results string
	before  string
	against string
}

func main() {
	var o options
	flag.BoolVar(&o.quick, "quick", false, "one round of a tenth of the size: whether all works, not how fast")
	flag.StringVar(&o.row, "row", "", "measure the rows whose names this `regexp` matches, and print all values")
	flag.IntVar(&o.rounds, "rounds", 5, "`number` of rounds of each row")
	flag.StringVar(&o.only, "variant", "", "measure this `variant` alone, such as res_kafka")
	flag.BoolVar(&o.list, "list", false, "print the names of the rows and what each does")
	flag.BoolVar(&o.keep, "keep", false, "leave each round's directory, with Asterisk's log, and print where all are")
	flag.StringVar(&o.results, "results", "", "write RESULTS.md and growth.svg into this `directory`")
	flag.StringVar(&o.before, "before", "bench/RESULTS.md", "list our figures that are worse than in this `file`, from the same kind of machine")
	flag.StringVar(&o.against, "against", "", "measure this `commit` and this tree in turn, and compare them")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := o.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// selected returns the requested rows.
func (o *options) selected() ([]row, error) {
	pattern, err := regexp.Compile(o.row)
	if err != nil {
		return nil, fmt.Errorf("reading -row: %w", err)
	}
	var found []row
	for _, r := range rows() {
		if o.only != "" {
			r.variants = slices.DeleteFunc(slices.Clone(r.variants), func(v variant) bool { return string(v) != o.only })
		}
		if pattern.MatchString(r.name) && len(r.variants) > 0 {
			found = append(found, r)
		}
	}
	if len(found) == 0 {
		return nil, errors.New("no row is asked for; -list prints their names")
	}
	return found, nil
}

func (o *options) run(ctx context.Context) error {
	selected, err := o.selected()
	if err != nil {
		return err
	}
	if o.list {
		for _, r := range selected {
			fmt.Printf("%-32s %s\n", r.name, r.about)
		}
		return nil
	}
	if o.against != "" {
		return o.turns(ctx, selected)
	}
	b, err := o.bench()
	if err != nil {
		return err
	}
	began := time.Now()
	results, err := b.run(ctx, selected)
	if err != nil {
		return err
	}
	var lines []line
	for _, r := range results {
		lines = append(lines, r.lines()...)
		if o.row != "" {
			fmt.Print(r.everything())
		}
	}
	fmt.Printf("\n%s\n%s in %s\n", markdown(lines), tally(lines), time.Since(began).Round(time.Second))
	for _, r := range results {
		err = errors.Join(err, r.err)
	}
	drifted, unread := b.driftsFrom(o.before, lines)
	if drifted != "" {
		fmt.Printf("\nWorse than before. %s", drifted)
	}
	err = errors.Join(err, unread)
	if o.results != "" {
		err = errors.Join(err, b.write(o.results, results, lines, drifted, began))
	}
	return err
}

// bench returns the benchmark of the environment and the command line.
func (o *options) bench() (*bench, error) {
	b := &bench{
		root: os.Getenv("RES_KAFKA_ROOT"), install: os.Getenv("RES_KAFKA_INSTALL"), reference: os.Getenv("RES_KAFKA_REFERENCE"),
		build: os.Getenv("RES_KAFKA_BUILD"), share: 1, rounds: o.rounds, keep: o.keep, progress: os.Stdout,
	}
	if b.root == "" {
		return nil, errors.New("RES_KAFKA_ROOT is not set: run this by `make bench`")
	}
	if b.reference == "" {
		fmt.Println("RES_KAFKA_REFERENCE is not set: there is nothing to compare with.")
	}
	if o.quick {
		b.share, b.rounds = 0.1, 1
	}
	return b, nil
}

// run measures rows one after another. A failed row is aborted, the others continue.
func (b *bench) run(ctx context.Context, selected []row) (results []*result, err error) {
	if b.dir, err = os.MkdirTemp("", "rkb"); err != nil {
		return nil, err
	}
	defer func() {
		if b.keep {
			fmt.Println("What is left is in", b.dir)
			return
		}
		err = errors.Join(err, os.RemoveAll(b.dir))
	}()
	b.swallow = swallowing(filepath.Join(b.build, "reskafka"), filepath.Join(b.dir, "swallow"))
	b.apache = apacheKafka(newestApache(), filepath.Join(b.dir, "apache"))
	defer func() { err = errors.Join(err, b.down()) }()
	for i := range selected {
		if ctx.Err() != nil { // earlier results deserve their table
			results = append(results, &result{row: &selected[i], err: fmt.Errorf("row %q: %w", selected[i].name, context.Cause(ctx))})
			continue
		}
		results = append(results, b.measure(ctx, &selected[i]))
	}
	return results, nil
}
