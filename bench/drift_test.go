package main

import (
	"math"
	"os"
	"slices"
	"strings"
	"testing"
)

func fixture(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestDrifts_TwoRuns_ListsWorseFigures checks the alarm: the CPU at 300/s is above all rounds before, the throughput
// below, and the threads above. The median call at 300/s is within the spread, the other has another unit, the CPU
// flat out is better, and the row over a WAN is new.
func TestDrifts_TwoRuns_ListsWorseFigures(t *testing.T) {
	before, now := fixture(t, "testdata/before.md"), readTable(fixture(t, "testdata/now.md"))
	const same = "2 processors (AMD EPYC), 24 GB, Linux 6.20"
	want := `Compared with 7cc8c6a, go1.26.8, franz-go v1.22.2, 2026-11-23 04:58 UTC, took 14m36s:

- 300/s, CPU: 2.90 % of a core (2.50–3.00), before 2.31 % of a core (2.10–2.40); librdkafka 3.10 % of a core (2.60–3.30), before 2.50 % of a core (2.40–2.60).
- flat out, 1 thread, to the broker, messages: 1420 1,000/s (1350–1490), before 1540 1,000/s (1500–1580); librdkafka 1223 1,000/s (1189–1547), before 1223 1,000/s (1189–1547).
- garbage collection, threads: 33.0 (32.0–33.0), before 30.0 (30.0–31.0).
`
	better := moreIsBetter(rows())
	if got := drifts(before, now, same, better); got != want {
		t.Errorf("it is\n%s\nwant\n%s", got, want)
	}
	for name, got := range map[string]string{
		"another machine": drifts(before, now, "4 processors (AMD EPYC), 24 GB, Linux 6.20", better),
		"a quick run":     drifts(strings.Replace(before, "bench -results", "bench -quick -results", 1), now, same, better),
		"no run before":   drifts("", now, same, better),
		"the same run":    drifts(before, readTable(before), same, better),
	} {
		if got != "" {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// TestReadTable_OfMarkdown_IsTheSame checks that a written table is read back.
func TestReadTable_OfMarkdown_IsTheSame(t *testing.T) {
	want := example().lines()
	if got := readTable("# Costs\n\n- date: x\n\n" + markdown(want) + "\n4 | 5\n"); !slices.Equal(got, want) {
		t.Errorf("it is\n%s\nwant\n%s", markdown(got), markdown(want))
	}
}

func TestReadCell(t *testing.T) {
	for text, want := range map[string]cell{
		"4.72 µs (3.94–5.42)":      {4.72, 3.94, 5.42, "µs"},
		"1540 1,000/s (1527–2111)": {1540, 1527, 2111, "1,000/s"},
		"0 % of a core (0–0)":      {0, 0, 0, "% of a core"},
		"1.00 (0.862–1.12)":        {1, 0.862, 1.12, ""},
		"46.5 1,000/s":             {46.5, 46.5, 46.5, "1,000/s"},
		"29.0":                     {29, 29, 29, ""},
	} {
		if got, ok := readCell(text); !ok || got != want {
			t.Errorf("%q is %v, %v, want %v", text, got, ok, want)
		}
	}
	for _, text := range []string{"–", "", "res_kafka up to 3 a round", "not measured, see below"} {
		if got, ok := readCell(text); ok {
			t.Errorf("%q is %v", text, got)
		}
	}
}

// TestResults_EveryFigure_IsReadBack checks the reader against the results in the repository.
func TestResults_EveryFigure_IsReadBack(t *testing.T) {
	text := fixture(t, "RESULTS.md")
	read := 0
	for _, l := range readTable(text) {
		found, ok := readCell(l.measured)
		if !ok && l.what != "calls that were refused" {
			t.Errorf("%s, %s: %q is no figure", l.row, l.what, l.measured)
		}
		if ok && (found.low > found.value || found.value > found.high || math.IsNaN(found.value)) {
			t.Errorf("%s, %s: %q is read as %v", l.row, l.what, l.measured, found)
		}
		read++
	}
	if facts := readFacts(text); read == 0 || machineKind(facts["machine"]) == "" || facts["date"] == "" || facts["res_kafka"] == "" {
		t.Errorf("%d lines, %v", read, facts)
	}
}

// TestDirection_OfEachGoal_IsThatOfTheMetric checks that an alarm and a goal agree on the better direction.
func TestDirection_OfEachGoal_IsThatOfTheMetric(t *testing.T) {
	for _, r := range rows() {
		for _, m := range r.metrics {
			if m.goal.how != noGoal && m.more != (m.goal.how == ratioAtLeast) {
				t.Errorf("%s, %s: more is better: %v, where the goal is %v", r.name, m.label, m.more, m.goal)
			}
		}
	}
}
