package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode/utf8"
)

// line is a line of the table: a metric of a row, judged.
type line struct {
	row, what, measured, other, ratio, goal string
	verdict                                 verdict
}

// heads are the columns' names.
var heads = []string{"row", "what", "measured", "compared with", "ratio", "goal", "verdict"}

func (l line) cells() []string {
	return []string{l.row, l.what, l.measured, l.other, l.ratio, l.goal, string(l.verdict)}
}

// lines judges all metrics of a row. An aborted row has one line.
func (r *result) lines() []line {
	if r.err != nil {
		return []line{{row: r.row.name, what: "not measured, see below", verdict: unknown}}
	}
	var all []line
	for _, m := range r.row.metrics {
		measured, other := r.median(m.owner(), m.key), r.median(m.opponent(), m.key)
		l := line{
			row: r.row.name, what: m.label, measured: r.cell(m, m.owner()), goal: m.goalText(),
			verdict: m.goal.judge(m.in(measured), m.in(other)),
		}
		if !math.IsNaN(other) {
			l.other = string(m.opponent()) + " " + r.cell(m, m.opponent())
			l.ratio = number(ratio(measured, other), 3)
		}
		all = append(all, l)
	}
	if refused := r.refused(); refused != "" {
		all = append(all, line{row: r.row.name, what: "calls that were refused", measured: refused})
	}
	return all
}

// refused names the variants with refused calls, and their rounds; "" = none.
func (r *result) refused() string {
	var found []string
	for _, v := range r.row.variants {
		if most := slices.Max(append(r.all(v, "refused"), 0)); most > 0 {
			found = append(found, fmt.Sprintf("%s up to %.0f a round", v, most))
		}
	}
	return strings.Join(found, ", ")
}

// cell returns the median of a metric, with the least and the largest of all rounds in brackets.
func (r *result) cell(m metric, v variant) string {
	all := r.all(v, m.key)
	if len(all) < 2 {
		return m.show(median(all))
	}
	return fmt.Sprintf("%s (%s–%s)", m.show(median(all)), number(m.in(slices.Min(all)), 3), number(m.in(slices.Max(all)), 3))
}

func (m metric) goalText() string {
	text := m.goal.String()
	if (m.goal.how == absoluteAtMost || m.goal.how == differenceAtMost) && m.unit != "" {
		text += " " + m.unit
	}
	return text
}

// show renders a value in the metric's unit.
func (m metric) show(value float64) string {
	if math.IsNaN(value) {
		return "–"
	}
	return strings.TrimSpace(number(m.in(value), 3) + " " + m.unit)
}

// number renders a number with this many significant digits, and at most four decimals.
func number(value float64, digits int) string {
	if math.IsNaN(value) {
		return "–"
	}
	decimals := 0
	if value != 0 {
		decimals = min(max(digits-1-int(math.Floor(math.Log10(math.Abs(value)))), 0), 4)
	}
	return fmt.Sprintf("%.*f", decimals, value)
}

// markdown renders lines as a table, also aligned as plain text. A row's name is in its first line.
func markdown(lines []line) string {
	table := [][]string{heads}
	last := ""
	for _, l := range lines {
		cells := l.cells()
		if l.row == last {
			cells[0] = ""
		}
		last = l.row
		table = append(table, cells)
	}
	widths := make([]int, len(heads))
	for _, cells := range table {
		for i, cell := range cells {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var text strings.Builder
	for i, cells := range table {
		for j, cell := range cells {
			text.WriteString("| " + cell + strings.Repeat(" ", widths[j]-utf8.RuneCountInString(cell)) + " ")
		}
		text.WriteString("|\n")
		if i == 0 {
			for _, width := range widths {
				text.WriteString("| " + strings.Repeat("-", width) + " ")
			}
			text.WriteString("|\n")
		}
	}
	return text.String()
}

// tally counts verdicts, for the last line.
func tally(lines []line) string {
	counts := map[verdict]int{}
	for _, l := range lines {
		counts[l.verdict]++
	}
	text := fmt.Sprintf("%d goals met, %d missed", counts[met], counts[missed])
	if counts[unknown] > 0 {
		text += fmt.Sprintf(", %d not known", counts[unknown])
	}
	return text
}
