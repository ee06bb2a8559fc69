// Command reskafka is res_kafka's command for people, for use beside a running Asterisk.
//
// Each subcommand has its own file and a row in the table of commands below.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"reskafka/internal/host"
)

// command is a subcommand.
type command struct {
	name    string
	summary string // a line for the list of commands
	usage   string // arguments on the command line
	details string // whole sentences below the flags in the command's help; may be empty
	// setup declares the command's flags and returns the function to run after the parsing of flags. The
	// function returns at the end of ctx at the latest.
	setup func(flags *flag.FlagSet) func(ctx context.Context, env environment) error
}

// environment is a command's view of the process, so tests can run it in their own process.
type environment struct {
	args   []string // arguments after the flags
	stdout io.Writer
	stderr io.Writer
}

// commands is every subcommand, in the order of the help.
var commands = []command{
	devBroker,
	spoolCommand,
	engineCommand,
}

// Exit statuses, in the convention of shells and tools with subcommands.
const (
	exitOK    = 0
	exitError = 1
	exitUsage = 2
)

// usageError is a mistake on the command line, unlike a later failure.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// usagef makes a usageError of a formatted text.
func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second signal ends the process the hard way when an orderly end takes too long.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run runs the command named by args and returns the process's exit status.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		writeHelp(stderr)
		return exitUsage
	}
	switch args[0] {
	case "help", "-h", "-help", "--help":
		return help(args[1:], stdout, stderr)
	}
	found := find(args[0])
	if found == nil {
		return unknownCommand(args[0], stderr)
	}
	return found.run(ctx, args[1:], stdout, stderr)
}

func (c *command) run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags, body := c.flags()
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		c.writeHelp(stdout)
		return exitOK
	case err != nil:
		return c.report(usageError{err}, stderr)
	}
	err := body(ctx, environment{args: flags.Args(), stdout: stdout, stderr: stderr})
	if errors.Is(err, flag.ErrHelp) { // -help behind an argument
		c.writeHelp(stdout)
		return exitOK
	}
	return c.report(err, stderr)
}

// report converts a command's result to a message and an exit status.
func (c *command) report(err error, stderr io.Writer) int {
	var mistake usageError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &mistake):
		_, _ = fmt.Fprintf(stderr, "reskafka %s: %s\nSee \"reskafka %s --help\".\n", c.name, onLines(err), c.name)
		return exitUsage
	default:
		_, _ = fmt.Fprintf(stderr, "reskafka %s: %s\n", c.name, onLines(err))
		return exitError
	}
}

// onLines returns the text of an error, which may hold a broker's or a file's, fit for a terminal: joined errors on a line each.
func onLines(err error) string {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return host.Printable(err.Error())
	}
	var lines []string
	for _, one := range joined.Unwrap() {
		lines = append(lines, onLines(one))
	}
	return strings.Join(lines, "\n")
}

// flags declares the command's flags in a new set; the flag package itself prints nothing.
func (c *command) flags() (*flag.FlagSet, func(context.Context, environment) error) {
	flags := flag.NewFlagSet(c.name, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	return flags, c.setup(flags)
}

func find(name string) *command {
	for i := range commands {
		if commands[i].name == name {
			return &commands[i]
		}
	}
	return nil
}

func help(args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		writeHelp(stdout)
		return exitOK
	}
	found := find(args[0])
	if found == nil {
		return unknownCommand(args[0], stderr)
	}
	found.writeHelp(stdout)
	return exitOK
}

func unknownCommand(name string, stderr io.Writer) int {
	_, _ = fmt.Fprintf(stderr, "reskafka: unknown command %q\n", name)
	writeHelp(stderr)
	return exitUsage
}

func writeHelp(w io.Writer) {
	_, _ = fmt.Fprint(w, "Usage: reskafka <command> [flags]\n\nCommands:\n")
	for _, c := range commands {
		_, _ = fmt.Fprintf(w, "  %-14s %s\n", c.name, c.summary)
	}
	_, _ = fmt.Fprint(w, "\n\"reskafka <command> --help\" says more about a command.\n")
}

func (c *command) writeHelp(w io.Writer) {
	_, _ = fmt.Fprintf(w, "Usage: reskafka %s %s\n\n%s.\n\nFlags:\n", c.name, c.usage, c.summary)
	flags, _ := c.flags()
	flags.VisitAll(func(f *flag.Flag) {
		value, text := flag.UnquoteUsage(f)
		_, _ = fmt.Fprintf(w, "  %-18s %s", "--"+f.Name+" "+value, text)
		if f.DefValue != "" {
			_, _ = fmt.Fprintf(w, " (default %s)", f.DefValue)
		}
		_, _ = fmt.Fprintln(w)
	})
	if c.details != "" {
		_, _ = fmt.Fprintf(w, "\n%s", c.details)
	}
}
