package main

import (
	"slices"
	"strings"
	"testing"
)

// TestInBoth_ListsOfTwoCommits_AreIntersected checks that names with a common begin are told apart, with any width of
// the list.
func TestInBoth_ListsOfTwoCommits_AreIntersected(t *testing.T) {
	listed := "300/s                            300 calls a second\nidle, 10 connections             ten\nstart, 50 connections, no broker a module\nold row  x\n"
	mine := []row{{name: "300/s"}, {name: "idle"}, {name: "idle, 1"}, {name: "start, 50 connections, no broker"}, {name: "WAN 50 ms, 300/s"}}
	got := inBoth(mine, listed)
	if want := []string{"300/s", "start, 50 connections, no broker"}; !slices.Equal(got, want) {
		t.Errorf("both have %q, want %q", got, want)
	}
	if got, want := exactly(got), `^(300/s|start, 50 connections, no broker)$`; got != want {
		t.Errorf("the pattern is %s, want %s", got, want)
	}
}

// TestCompared_TwoTrees_ComparesMediansWithOldSpread checks the verdict of each direction.
func TestCompared_TwoTrees_ComparesMediansWithOldSpread(t *testing.T) {
	mine := []row{{name: "r", metrics: []metric{throughput, millionCPU, callP50, callP50.versus(bare), callP99, wakeUps, steadyCPU}}}
	of := func(name string, runs ...string) *tree {
		t := &tree{name: name}
		for _, run := range runs {
			cells := strings.Split(run, ",")
			var lines []line
			for i, label := range []string{throughput.label, callP50.label, callP50.label, callP99.label, wakeUps.label, steadyCPU.label} {
				lines = append(lines, line{row: "r", what: label, measured: cells[i]})
			}
			t.add(lines)
		}
		return t
	}
	old := of("abc", "100 x,5 µs,5 µs,9 µs,7 1/s,1 %", "120 x,7 µs,7 µs,8 µs,7 1/s,1 %", "110 x,6 µs,6 µs,7 µs,7 1/s,1 %")
	fresh := of("this tree", "99 x,5 µs,5 µs,6 µs,8 1/s,1 s", "130 x,5 µs,5 µs,9 µs,8 1/s,1 s", "99 x,8 µs,8 µs,6 µs,8 1/s,1 s")
	want := `| row | what | abc | this tree | new / old | |
| --- | --- | --- | --- | --- | --- |
| r | to the broker, messages | 110 x (100–120) | 99.0 x (99.0–130) | 0.900 | **worse** |
| r | call, median | 6.00 µs (5.00–7.00) | 5.00 µs (5.00–8.00) | 0.833 |  |
| r | call, p99 | 8.00 µs (7.00–9.00) | 6.00 µs (6.00–9.00) | 0.750 | better |
| r | voluntary context switches | 7.00 1/s (7.00–7.00) | 8.00 1/s (8.00–8.00) | 1.14 | **worse** |
`
	if got := compared(old, fresh, mine); got != want {
		t.Errorf("it is\n%s\nwant\n%s", got, want)
	}
}
