package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"reskafka/internal/host"
	"reskafka/internal/spool"
)

var spoolCommand = command{
	name:    "spool",
	summary: "Look into the records that Asterisk keeps on disk, or send them without it",
	usage:   "ls|verify|dump|replay DIR [flags]",
	details: `DIR is the option spool_dir, by default Asterisk's spool directory with kafka behind it, or the directory of
one connection below that.

  ls      what there is, for each connection and topic
  verify  read everything, and print what is damaged; the exit status is 1 when there is something
  dump    print the records, one on each line: topic, position, when it was accepted, key, headers, value
  replay  send the records to brokers, in order, and remove what these have acknowledged. Records that the
          brokers refuse for good become dead letters. Not while Asterisk uses the directory.

ls, verify and dump change nothing and may be used while Asterisk runs; the newest records may then be missing
or incomplete. Run by root, the command works as the user that DIR belongs to.

Brokers are asked with the settings that a connection has when kafka.conf says nothing else, or with those of a
section: --config /etc/asterisk/kafka.conf --connection NAME. Templates and includes are not read.
`,
	setup: func(flags *flag.FlagSet) func(context.Context, environment) error {
		o := &spoolOptions{flags: flags}
		flags.StringVar(&o.topic, "topic", "", "dump, replay: only this `topic`")
		flags.BoolVar(&o.dead, "dead", false, "dump, replay: the dead letters instead")
		flags.BoolVar(&o.json, "json", false, "dump: each record as a JSON object")
		flags.StringVar(&o.brokers, "brokers", "", "replay: brokers, `host:port` with commas between them")
		flags.StringVar(&o.config, "config", "", "replay: take the settings from this `file`")
		flags.StringVar(&o.connection, "connection", "", "replay: and this `section` of it (default the directory's name)")
		flags.DurationVar(&o.patience, "patience", time.Minute, "replay: give up after this `time` without an acknowledgement")
		return o.run
	},
}

// spoolOptions is the command line of spool.
type spoolOptions struct {
	flags      *flag.FlagSet
	topic      string
	dead, json bool
	brokers    string
	config     string
	configText string // content of the file
	connection string
	patience   time.Duration

	env environment
}

func (o *spoolOptions) run(ctx context.Context, env environment) error {
	o.env = env
	words, err := o.words(env.args)
	if err != nil {
		return err
	}
	if len(words) == 0 {
		return usagef("say what to do: ls, verify, dump or replay")
	}
	actions := map[string]func(context.Context, string) error{"ls": o.list, "verify": o.verify, "dump": o.dump, "replay": o.replay}
	action := actions[words[0]]
	switch {
	case action == nil:
		return usagef("%q is not one of ls, verify, dump, replay", words[0])
	case len(words) == 1:
		return usagef("%s needs the directory of a spool", words[0])
	case len(words) > 2:
		return usagef("unexpected argument %q", words[2])
	}
	if err := o.check(words[0]); err != nil {
		return err
	}
	path, err := filepath.Abs(words[1]) // the owner may not be let into the working directory
	if err != nil {
		return fmt.Errorf("looking for spools: %w", err)
	}
	if err := o.readConfig(); err != nil { // perhaps readable by root only
		return err
	}
	if err := becomeOwner(path, env.args); err != nil {
		return err
	}
	dirs, err := spool.Find(path)
	if err != nil {
		return err
	}
	if words[0] == "replay" && len(dirs) > 1 {
		return usagef("%s has %d connections, and each has brokers of its own: name the directory of one", words[1], len(dirs))
	}
	var failed []error
	for _, dir := range dirs {
		if err := action(ctx, dir); err != nil {
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}

// words returns the arguments that are no flags; flags may be anywhere.
func (o *spoolOptions) words(args []string) (words []string, err error) {
	for len(args) > 0 {
		words = append(words, args[0])
		if err := o.flags.Parse(args[1:]); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				return nil, err
			}
			return nil, usageError{err}
		}
		args = o.flags.Args()
	}
	return words, nil
}

// check refuses flags without meaning for an action.
func (o *spoolOptions) check(action string) error {
	takes := map[string]string{"dump": "topic dead json", "replay": "topic dead brokers config connection patience"}
	var wrong error
	o.flags.Visit(func(f *flag.Flag) {
		if !strings.Contains(" "+takes[action]+" ", " "+f.Name+" ") {
			wrong = usagef("%s takes no --%s", action, f.Name)
		}
	})
	if wrong == nil && action == "replay" && o.brokers == "" && o.config == "" {
		wrong = usagef("replay needs --brokers, or --config")
	}
	return wrong
}

// view opens a spool for reading, and reports a spool in use.
func (o *spoolOptions) view(dir string) (*spool.View, error) {
	v, err := spool.OpenView(dir)
	if err != nil {
		return nil, err
	}
	if v.InUse {
		who := "a process"
		if v.PID > 0 {
			who = fmt.Sprintf("process %d", v.PID)
		}
		o.note("%s is in use by %s: its newest records may be missing or incomplete here", dir, who)
	}
	return v, nil
}

func (o *spoolOptions) note(format string, args ...any) {
	_, _ = fmt.Fprintf(o.env.stderr, "reskafka spool: %s\n", host.Printable(fmt.Sprintf(format, args...)))
}

func nameOf(v *spool.View) string {
	if v.Connection == "" {
		return host.Printable(filepath.Base(v.Dir))
	}
	return host.Printable(v.Connection)
}

// list is ls.
func (o *spoolOptions) list(_ context.Context, dir string) error {
	v, err := o.view(dir)
	if err != nil {
		return err
	}
	out := &failing{w: o.env.stdout}
	_, _ = fmt.Fprintf(out, "connection %s, %s\n", nameOf(v), host.Printable(dir))
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	now := time.Now()
	row := func(topic string, l spool.LogView) {
		_, _ = fmt.Fprintf(table, "  %s\t%d\t%d\t%s\t%s\n", topic, l.Next-l.First, l.Bytes, age(now, l.Oldest), age(now, l.Newest))
	}
	_, _ = fmt.Fprint(table, "  TOPIC\tRECORDS\tBYTES\tOLDEST\tNEWEST\n")
	logs, dead := v.Logs(), v.Dead()
	for _, l := range logs {
		row(quoted(l.Topic), l)
	}
	if dead.Next > dead.First {
		row("(dead letters)", dead)
	}
	if len(logs) == 0 && dead.Next == dead.First {
		_, _ = fmt.Fprint(table, "  (nothing waits)\n")
	}
	_ = table.Flush()
	for _, f := range v.SetAside() {
		_, _ = fmt.Fprintf(out, "  set aside: %s, %d bytes\n", host.Printable(f.Name), f.Bytes)
	}
	return out.err
}

// failing is a writer that remembers its first error, for a single check at the end.
type failing struct {
	w   io.Writer
	err error
}

func (f *failing) Write(b []byte) (int, error) {
	if f.err != nil {
		return 0, f.err
	}
	n, err := f.w.Write(b)
	if err != nil {
		f.err = fmt.Errorf("printing: %w", err)
	}
	return n, f.err
}

// age says how long ago something was.
func age(now, t time.Time) string {
	if t.IsZero() {
		return "?"
	}
	return now.Sub(t).Truncate(time.Second).String()
}

// verify is verify.
func (o *spoolOptions) verify(_ context.Context, dir string) error {
	v, err := o.view(dir)
	if err != nil {
		return err
	}
	damages, records, err := v.Verify()
	if err != nil {
		return fmt.Errorf("verifying %s: %w", dir, err)
	}
	out := &failing{w: o.env.stdout}
	wrong, lost := 0, uint64(0)
	for _, d := range damages {
		what := "damage"
		if d.Harmless {
			what = "note"
		} else {
			wrong++
			lost += d.Records
		}
		_, _ = fmt.Fprintf(out, "%s: %s: %s\n", nameOf(v), what, host.Printable(d.String()))
	}
	for _, f := range v.SetAside() {
		_, _ = fmt.Fprintf(out, "%s: note: %s was set aside earlier and is not looked at\n", nameOf(v), host.Printable(f.Name))
	}
	_, _ = fmt.Fprintf(out, "%s: %d records are whole\n", nameOf(v), records)
	if wrong > 0 {
		return fmt.Errorf("connection %s is damaged in %d places, %d records are lost", nameOf(v), wrong, lost)
	}
	return out.err
}
