package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"reskafka/test/child"
)

// This file compares two commits on the same machine: both trees run in turn, each with its own bench, engine and
// modules.

// tree is a checked-out commit.
type tree struct {
	name, dir string
	rounds    map[goalOf][]float64
	units     map[goalOf]string
}

// turns measures another commit and this tree in turn (A B A B), and prints each figure of the rows in both.
func (o *options) turns(ctx context.Context, mine []row) (err error) {
	dir, err := os.MkdirTemp("", "rkb")
	if err != nil {
		return err
	}
	old := &tree{name: o.against, dir: filepath.Join(dir, "tree")}
	defer func() {
		// Not bound to ctx: the worktree goes after an interrupt too.
		err = errors.Join(err, git("worktree", "remove", "--force", old.dir), os.RemoveAll(dir))
	}()
	if err := git("worktree", "add", "--quiet", "--detach", old.dir, o.against); err != nil {
		return err
	}
	fresh := &tree{name: "this tree", dir: "."}
	listed, err := old.run(ctx, "-list")
	if err != nil {
		return err
	}
	names := inBoth(mine, listed)
	if len(names) == 0 {
		return fmt.Errorf("%s has none of these rows", o.against)
	}
	args := []string{"-rounds", "1", "-row", exactly(names)}
	if o.only != "" {
		args = append(args, "-variant", o.only)
	}
	if o.quick {
		args = append(args, "-quick")
	}
	for number := 1; number <= o.rounds; number++ {
		for _, t := range []*tree{old, fresh} {
			began := time.Now()
			printed, err := t.run(ctx, args...)
			if err != nil {
				return err
			}
			fmt.Printf("%d/%d %-12s %5.1f s\n", number, o.rounds, t.name, time.Since(began).Seconds())
			t.add(readTable(printed))
		}
	}
	fmt.Printf("\n%s", compared(old, fresh, mine))
	return nil
}

// run runs the tree's own bench, which also builds, and returns its output.
func (t *tree) run(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(t.dir, "scripts", "bench"), args...)
	// The script and its compilers are a group of their own, so an interrupt ends all of them, once.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	ended := make(chan error, 1)
	err := child.Start(cmd, func(err error) { ended <- err })
	if err == nil {
		err = <-ended
	}
	if err != nil {
		lines := strings.Split(strings.TrimSpace(output.String()), "\n")
		return "", fmt.Errorf("%s: %w:\n%s", t.name, err, lastLines(lines))
	}
	return output.String(), nil
}

// add adds the figures of a run of one round.
func (t *tree) add(lines []line) {
	if t.rounds == nil {
		t.rounds, t.units = map[goalOf][]float64{}, map[goalOf]string{}
	}
	seen := map[goalOf]bool{} // a figure with two comparisons has two lines
	for _, l := range lines {
		at := goalOf{l.row, l.what}
		if found, ok := readCell(l.measured); ok && !seen[at] {
			t.rounds[at], t.units[at], seen[at] = append(t.rounds[at], found.value), found.unit, true
		}
	}
}

// git runs a command of git in the present directory.
func git(args ...string) error {
	if output, err := exec.Command("git", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("git %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(output))
	}
	return nil
}

// inBoth returns the names of the rows that the output of -list has too. A line begins with the name.
func inBoth(mine []row, listed string) []string {
	var names []string
	for _, r := range mine {
		if slices.ContainsFunc(strings.Split(listed, "\n"), func(line string) bool { return strings.HasPrefix(line, r.name+" ") }) {
			names = append(names, r.name)
		}
	}
	return names
}

// exactly returns a pattern of these names.
func exactly(names []string) string {
	var quoted []string
	for _, name := range names {
		quoted = append(quoted, regexp.QuoteMeta(name))
	}
	return "^(" + strings.Join(quoted, "|") + ")$"
}

// compared renders the figures of both trees: medians, with the least and the largest in brackets. A new median is
// worse or better if it is outside the old range.
func compared(old, fresh *tree, mine []row) string {
	var text strings.Builder
	fmt.Fprintf(&text, "| row | what | %s | %s | new / old | |\n| --- | --- | --- | --- | --- | --- |\n", old.name, fresh.name)
	seen := map[goalOf]bool{}
	for _, r := range mine {
		for _, m := range r.metrics {
			at := goalOf{r.name, m.label}
			before, now := old.rounds[at], fresh.rounds[at]
			if seen[at] || len(before) == 0 || len(now) == 0 || old.units[at] != fresh.units[at] {
				continue
			}
			seen[at] = true
			fmt.Fprintf(&text, "| %s | %s | %s | %s | %s | %s |\n", r.name, m.label, spread(before, old.units[at]), spread(now, old.units[at]),
				number(ratio(median(now), median(before)), 3), outside(before, median(now), m.more))
		}
	}
	return text.String()
}

func spread(numbers []float64, unit string) string {
	return fmt.Sprintf("%s (%s–%s)", strings.TrimSpace(number(median(numbers), 3)+" "+unit), number(slices.Min(numbers), 3), number(slices.Max(numbers), 3))
}

// outside names the side of the old range on which a new median is; "" = inside.
func outside(before []float64, now float64, more bool) string {
	switch {
	case now > slices.Max(before) && more, now < slices.Min(before) && !more:
		return "better"
	case now > slices.Max(before), now < slices.Min(before):
		return "**worse**"
	default:
		return ""
	}
}
