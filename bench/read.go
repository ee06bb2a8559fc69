package main

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// cell is a number of the table, as rendered by result.cell.
type cell struct {
	value, low, high float64
	unit             string
}

// rendered matches a cell: the median, the unit, and the least and the largest of several rounds.
var rendered = regexp.MustCompile(`^([0-9.]+)(?: ([^(]+?))?(?: \(([0-9.]+)–([0-9.]+)\))?$`)

// readCell parses a cell. It reports false for a text without a number at the begin.
func readCell(text string) (c cell, ok bool) {
	found := rendered.FindStringSubmatch(text)
	if found == nil {
		return c, false
	}
	c.unit = found[2]
	for i, into := range map[int]*float64{1: &c.value, 3: &c.low, 4: &c.high} {
		number, err := strconv.ParseFloat(found[i], 64)
		if err != nil && found[i] != "" {
			return c, false
		}
		*into = number
	}
	if found[3] == "" {
		c.low, c.high = c.value, c.value
	}
	return c, true
}

// readTable parses the table of markdown, in any text around it.
func readTable(text string) []line {
	var all []line
	for row := range strings.Lines(text) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(row), "|"), " | ")
		if !strings.HasPrefix(row, "| ") || len(cells) != len(heads) {
			continue
		}
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		if slices.Equal(cells, heads) || strings.HasPrefix(cells[0], "---") {
			continue
		}
		if cells[0] == "" && len(all) > 0 {
			cells[0] = all[len(all)-1].row
		}
		all = append(all, line{cells[0], cells[1], cells[2], cells[3], cells[4], cells[5], verdict(cells[6])})
	}
	return all
}

// fact matches a condition of RESULTS.md.
var fact = regexp.MustCompile(`(?m)^- (date|command|machine|res_kafka): (.*)$`)

// readFacts returns conditions of a RESULTS.md by name.
func readFacts(text string) map[string]string {
	all := map[string]string{}
	for _, found := range fact.FindAllStringSubmatch(text, -1) {
		all[found[1]] = found[2]
	}
	return all
}

// machineKind is a machine without its kernel.
func machineKind(machine string) string {
	kind, _, _ := strings.Cut(machine, ", Linux ")
	return kind
}

// moreIsBetter reports the direction of each metric of the rows.
func moreIsBetter(all []row) map[goalOf]bool {
	found := map[goalOf]bool{}
	for _, r := range all {
		for _, m := range r.metrics {
			found[goalOf{r.name, m.label}] = m.more
		}
	}
	return found
}
