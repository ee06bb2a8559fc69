package main

import (
	"fmt"
	"os"
	"strings"
)

// drifts compares a run with the RESULTS.md of the run before. It lists our figures that are worse by more than the
// spread of both runs: no new round is as good as any round before. Beside them are the reference's figures in the
// same two runs, which move with the machine. The result is empty without such figures, or for other machines.
func drifts(before string, now []line, machine string, better map[goalOf]bool) string {
	facts := readFacts(before)
	if before == "" || machineKind(facts["machine"]) != machineKind(machine) || strings.Contains(facts["command"], " -quick") {
		return ""
	}
	old := map[goalOf]line{}
	for _, l := range readTable(before) {
		old[goalOf{l.row, l.what}] = l
	}
	var text strings.Builder
	seen := map[goalOf]bool{}
	for _, l := range now {
		at := goalOf{l.row, l.what}
		if more, known := better[at]; !known || seen[at] || !worse(old[at].measured, l.measured, more) {
			continue
		}
		seen[at] = true
		fmt.Fprintf(&text, "- %s, %s: %s, before %s", l.row, l.what, l.measured, old[at].measured)
		if theirs := old[at].other; strings.HasPrefix(theirs, string(reference)) && strings.HasPrefix(l.other, string(reference)) {
			fmt.Fprintf(&text, "; %s, before %s", l.other, strings.TrimPrefix(theirs, string(reference)+" "))
		}
		text.WriteString(".\n")
	}
	if text.Len() == 0 {
		return ""
	}
	return fmt.Sprintf("Compared with %s, %s:\n\n%s", facts["res_kafka"], facts["date"], &text)
}

// worse reports whether all rounds of a cell are worse than all rounds of the cell before. Cells without a number, or
// with another unit, are not comparable.
func worse(before, now string, more bool) bool {
	old, wasNumber := readCell(before)
	fresh, isNumber := readCell(now)
	if !wasNumber || !isNumber || old.unit != fresh.unit {
		return false
	}
	if more {
		return fresh.high < old.low
	}
	return fresh.low > old.high
}

// driftsFrom compares with a file. A missing file is no error.
func (b *bench) driftsFrom(file string, now []line) (string, error) {
	before, err := os.ReadFile(file)
	if os.IsNotExist(err) || b.share != 1 {
		return "", nil
	}
	return drifts(string(before), now, machine(), moreIsBetter(rows())), err
}
