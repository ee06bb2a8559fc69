package main

import (
	"context"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		numbers []float64
		want    float64
	}{
		{[]float64{3}, 3}, {[]float64{9, 1, 4}, 4}, {[]float64{4, 1, 3, 100}, 3.5}, {[]float64{5, 5, 1, 9, 7}, 5},
	} {
		before := slices.Clone(c.numbers)
		if got := median(c.numbers); got != c.want || !slices.Equal(before, c.numbers) {
			t.Errorf("median of %v is %v, want %v; left %v", before, got, c.want, c.numbers)
		}
	}
	if got := median(nil); !math.IsNaN(got) {
		t.Errorf("median of nothing is %v", got)
	}
}

func TestPercentile_OfSorted_IsNearestRank(t *testing.T) {
	var hundred []float64
	for i := range 100 {
		hundred = append(hundred, float64(i+1))
	}
	for share, want := range map[float64]float64{0: 1, 0.5: 50, 0.99: 99, 1: 100} {
		if got := percentile(hundred, share); got != want {
			t.Errorf("%v of 1 to 100 is %v, want %v", share, got, want)
		}
	}
	if got := percentile(nil, 0.5); !math.IsNaN(got) {
		t.Errorf("half of nothing is %v", got)
	}
}

func TestVerdicts(t *testing.T) {
	none := math.NaN()
	for _, c := range []struct {
		goal            goal
		measured, other float64
		want            verdict
	}{
		{goal{ratioAtMost, 0.25}, 25, 100, met},
		{goal{ratioAtMost, 0.25}, 26, 100, missed},
		{goal{ratioAtLeast, 1.2}, 120, 100, met},
		{goal{ratioAtLeast, 1.2}, 119, 100, missed},
		{goal{absoluteAtMost, 1}, 1, none, met},
		{goal{absoluteAtMost, 1}, 1.1, 100, missed},
		{goal{differenceAtMost, 15}, 75, 60, met},
		{goal{differenceAtMost, 15}, 76, 60, missed},
		{goal{differenceAtMost, 15}, 50, 60, met},
		{goal{}, 1, 2, shown},
		{goal{ratioAtMost, 1}, 1, none, unknown},
		{goal{ratioAtMost, 1}, none, 1, unknown},
		{goal{ratioAtMost, 1}, 1, 0, unknown},
		{goal{differenceAtMost, 1}, 1, none, unknown},
		{goal{absoluteAtMost, 1}, none, 1, unknown},
	} {
		if got := c.goal.judge(c.measured, c.other); got != c.want {
			t.Errorf("%v of %v and %v is %q, want %q", c.goal, c.measured, c.other, got, c.want)
		}
	}
}

func TestGrowth(t *testing.T) {
	for _, c := range []struct {
		points []int
		costs  []float64
		bySize bool
		want   float64
	}{
		{[]int{1, 10, 100}, []float64{2, 2, 2}, false, 1},
		{[]int{1, 10, 100}, []float64{2, 5, 3}, false, 2.5},
		{[]int{1, 10}, []float64{2, 1}, false, 0.5},
		{[]int{100, 1000, 2000}, []float64{1, 2, 4}, true, 1},
		{[]int{100, 1000, 2000}, []float64{1, 20, 20}, true, 2},
	} {
		if got := growth(c.points, c.costs, c.bySize); got != c.want {
			t.Errorf("growth of %v over %v is %v, want %v", c.costs, c.points, got, c.want)
		}
	}
	if got := growth([]int{1, 2, 3}, []float64{1, math.NaN(), 1}, false); !math.IsNaN(got) {
		t.Errorf("growth with a point that is missing is %v", got)
	}
}

func TestWhatCommandsPrint(t *testing.T) {
	got, err := parse("calls 1000\nseconds 3.250000\np50_ns 820\nNo line of ours 1\n")
	if err != nil || len(got) != 3 || got["calls"] != 1000 || got["seconds"] != 3.25 || got["p50_ns"] != 820 {
		t.Errorf("parsed %v, %v", got, err)
	}
	for _, text := range []string{"calls 7\nerror no producer x\n", "No such command 'kafka bench'\n", ""} {
		if got, err := parse(text); err == nil {
			t.Errorf("%q is parsed as %v", text, got)
		}
	}
}

// TestPauses checks that only the first and the last phase of a collection count.
func TestPauses(t *testing.T) {
	longest, cycles := pauses(`something else
gc 1 @0.010s 2%: 0.021+0.55+0.004 ms clock, 0.042+0.1/0.5/0.9+0.009 ms cpu, 4->4->1 MB, 4 MB goal, 0 MB stacks, 0 MB globals, 2 P
gc 12 @3.200s 1%: 0.030+9.1+1.25 ms clock, 0.060+0.1/0.5/0.9+2.5 ms cpu, 40->44->21 MB, 42 MB goal, 0 MB stacks, 0 MB globals, 2 P
gc 13 @3.900s 1%: 0.5+9.1+0.02 ms clock, 0.060+0.1/0.5/0.9+2.5 ms cpu, 40->44->21 MB, 42 MB goal, 0 MB stacks, 0 MB globals, 2 P
`)
	if longest != 1.25 || cycles != 3 {
		t.Errorf("%v ms in %v cycles", longest, cycles)
	}
}

// example returns a row with rounds of known medians.
func example() *result {
	return &result{
		row: &row{
			name: "example", variants: []variant{ours, disk, reference},
			metrics: []metric{
				callP50.must(ratioAtMost, 0.25), callWorst.must(absoluteAtMost, 1), callP99,
				onDisk(callP50.must(ratioAtMost, 0.4))[0], callLongest.must(absoluteAtMost, 2.5), callP50.versus(disk).must(ratioAtMost, 0.4),
			},
		},
		rounds: map[variant][]values{
			ours:      {{"p50_ns": 200, "max_ns": 2e6, "own_max_ns": 2e6, "refused": 0}, {"p50_ns": 100, "own_max_ns": 3e6, "refused": 3}, {"p50_ns": 900, "own_max_ns": 1e6}},
			disk:      {{"p50_ns": 500}},
			reference: {{"p50_ns": 800}, {"p50_ns": 700}, {"p50_ns": 1000}},
		},
	}
}

func TestLines(t *testing.T) {
	want := []line{
		{"example", "call, median", "0.200 µs (0.100–0.900)", "librdkafka 0.800 µs (0.700–1.00)", "0.250", "ratio ≤ 0.25", met},
		{"example", "longest call, waiting for a processor aside", "2.00 ms (1.00–3.00)", "", "", "≤ 1 ms", missed},
		{"example", "call, p99", "–", "", "", "", shown},
		{"example", "call, median, durability = disk", "0.500 µs", "librdkafka 0.800 µs (0.700–1.00)", "0.625", "ratio ≤ 0.4", missed},
		{"example", "longest call, all in", "2.00 ms", "", "", "≤ 2.5 ms", met},
		{"example", "call, median", "0.200 µs (0.100–0.900)", "res_kafka, disk 0.500 µs", "0.400", "ratio ≤ 0.4", met},
		{row: "example", what: "calls that were refused", measured: "res_kafka up to 3 a round"},
	}
	got := example().lines()
	if !slices.Equal(got, want) {
		t.Errorf("lines are\n%s\nwant\n%s", markdown(got), markdown(want))
	}
	if got, want := tally(got), "3 goals met, 2 missed"; got != want {
		t.Errorf("the tally is %q, want %q", got, want)
	}
	failed := &result{row: &row{name: "example"}, err: errors.New("why")}
	if got := failed.lines(); len(got) != 1 || got[0].verdict != unknown {
		t.Errorf("a row that failed gives %v", got)
	}
}

func TestMarkdown(t *testing.T) {
	want := `| row     | what                                        | measured                  | compared with                    | ratio | goal         | verdict    |
| ------- | ------------------------------------------- | ------------------------- | -------------------------------- | ----- | ------------ | ---------- |
| example | call, median                                | 0.200 µs (0.100–0.900)    | librdkafka 0.800 µs (0.700–1.00) | 0.250 | ratio ≤ 0.25 | met        |
|         | longest call, waiting for a processor aside | 2.00 ms (1.00–3.00)       |                                  |       | ≤ 1 ms       | **missed** |
|         | calls that were refused                     | res_kafka up to 3 a round |                                  |       |              |            |
`
	lines := example().lines()
	if got := markdown([]line{lines[0], lines[1], lines[6]}); got != want {
		t.Errorf("it is\n%swant\n%s", got, want)
	}
}

// TestInTurn checks that variants alternate, that each round counts, and that a failure ends a row.
func TestInTurn(t *testing.T) {
	var order []string
	r := row{name: "r", variants: []variant{ours, reference}, metrics: []metric{callP50}, measure: func(_ context.Context, r *round) error {
		order = append(order, string(r.variant))
		r.values["p50_ns"] = float64(len(order))
		if len(order) > 6 {
			return errors.New("enough")
		}
		return nil
	}}
	b := &bench{rounds: 3, reference: "somewhere", dir: t.TempDir(), progress: io.Discard}
	got := b.measure(t.Context(), &r)
	if want := strings.TrimSpace(strings.Repeat("res_kafka librdkafka ", 3)); strings.Join(order, " ") != want {
		t.Errorf("the order is %v", order)
	}
	if got.err != nil || got.median(ours, "p50_ns") != 3 || got.median(reference, "p50_ns") != 4 {
		t.Errorf("found %v, %v", got.rounds, got.err)
	}
	if got := b.measure(t.Context(), &r); got.err == nil || len(got.rounds) != 0 {
		t.Errorf("a round that fails gives %v, %v", got.rounds, got.err)
	}
	b.reference, order = "", nil
	if b.measure(t.Context(), &r); !slices.Equal(order, []string{"res_kafka", "res_kafka", "res_kafka"}) {
		t.Errorf("without a reference the order is %v", order)
	}
}

// TestKafkaConf checks that both variants have the same settings, except options unknown to the reference.
func TestKafkaConf(t *testing.T) {
	for _, v := range []variant{ours, disk, reference} {
		text := kafkaConf("h:1", v, 2, settings{"linger_ms": "0"})
		for _, section := range []string{"[bench]", "[bench-0]", "[bench-1]"} {
			if strings.Count(text, section+"\n") != 1 {
				t.Errorf("%s: no %s in\n%s", v, section, text)
			}
		}
		if strings.Count(text, "linger_ms = 0\n") != 3 || strings.Contains(text, "linger_ms = 5") {
			t.Errorf("%s: a row's setting does not count in\n%s", v, text)
		}
		if strings.Contains(text, "durability") == (v == reference) {
			t.Errorf("%s: durability in\n%s", v, text)
		}
		for name, value := range common {
			if name != "linger_ms" && strings.Count(text, name+" = "+value+"\n") != 3 {
				t.Errorf("%s: %s is not %s in\n%s", v, name, value, text)
			}
		}
	}
}

// TestPlot checks that the plot is well-formed, with a curve of each variant in each panel.
func TestPlot(t *testing.T) {
	s := series{of: "topics", points: []int{1, 10, 100}}
	made := s.row()
	found := &result{row: &made, rounds: map[variant][]values{ours: {{}}, reference: {{}}}}
	for v, rounds := range found.rounds {
		for i, point := range s.points {
			for _, cost := range costs {
				rounds[0][s.pointKey(cost.key, point)] = float64(i+1) * float64(len(v))
			}
		}
	}
	svg := plot([]*result{found, example()})
	if err := xml.Unmarshal([]byte(svg), new(struct{})); err != nil {
		t.Errorf("it is not XML: %v", err)
	}
	if got, want := strings.Count(svg, "<circle"), len(costs)*2*len(s.points); got != want {
		t.Errorf("it has %d points, want %d", got, want)
	}
	if strings.Contains(svg, "NaN") || strings.Contains(svg, "Inf") {
		t.Errorf("a place is no number:\n%s", svg)
	}
	delete(found.rounds, reference)
	if svg := plot([]*result{found}); strings.Contains(svg, "NaN") {
		t.Errorf("without the reference a place is no number:\n%s", svg)
	}
}

// TestObstacles checks that obstacles belong to existing goals, and that each missed goal is listed.
func TestObstacles(t *testing.T) {
	goals := map[goalOf]bool{}
	for _, r := range rows() {
		for _, m := range r.metrics {
			goals[goalOf{r.name, m.label}] = goals[goalOf{r.name, m.label}] || m.goal.how != 0
		}
	}
	for at := range obstacles {
		if !goals[at] {
			t.Errorf("there is no goal %v", at)
		}
	}
	text := inTheWay([]line{{row: "lz4", what: throughput.label, ratio: "0.9", goal: "ratio ≥ 1", verdict: missed},
		{row: "new", what: "it", measured: "3 ms", goal: "≤ 1 ms", verdict: missed}, {row: "good", verdict: met}})
	for _, want := range []string{"- lz4, to the broker, messages: ratio 0.9 where the goal is ratio ≥ 1. " + goCodec + ".\n", "- new, it: 3 ms where the goal is ≤ 1 ms. Not looked into.\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("there is no %q in\n%s", want, text)
		}
	}
	if strings.Contains(text, "good") {
		t.Errorf("a goal that is met is listed:\n%s", text)
	}
}

// TestWrite checks that the written file has the facts, the table, the plot and the settings.
func TestWrite(t *testing.T) {
	dir := t.TempDir()
	b := &bench{rounds: 5, root: dir}
	noted := example()
	noted.note = "The link alone: 50 ms"
	results := []*result{noted, {row: &row{name: "gone", about: "nothing"}, err: errors.New("why it failed")}}
	lines := example().lines()
	if err := b.write(dir, results, lines, "- 300/s, CPU: worse.\n", time.Now()); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "RESULTS.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{markdown(lines), "3 goals met, 2 missed.", "why it failed", "- 300/s, CPU: worse.\n", "  The link alone: 50 ms.\n", "growth.svg", "queue_buffering_max_messages = 2000000\n", "- machine: ", runtime.Version()} {
		if !strings.Contains(string(text), want) {
			t.Errorf("there is no %q in\n%s", want, text)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "growth.svg")); err != nil {
		t.Error(err)
	}
}
