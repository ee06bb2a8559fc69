package console

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"reskafka/internal/host"
)

// printable is host.Printable: text without line breaks and terminal sequences.
func printable(text string) string { return host.Printable(text) }

// age prints a duration in its two largest units: 12s, 4m12s, 3h5m, 2d4h.
func age(d time.Duration) string {
	s := max(0, int64(d/time.Second))
	switch {
	case s < 60:
		return fmt.Sprintf("%ds", s)
	case s < 3600:
		return fmt.Sprintf("%dm%ds", s/60, s%60)
	case s < 86400:
		return fmt.Sprintf("%dh%dm", s/3600, s%3600/60)
	}
	return fmt.Sprintf("%dd%dh", s/86400, s%86400/3600)
}

// took prints how long a callback took: 0.25 ms, 12.3 ms, 1.2 s.
func took(d time.Duration) string {
	precision := time.Microsecond
	switch {
	case d >= time.Second:
		return strconv.FormatFloat(d.Round(10*time.Millisecond).Seconds(), 'f', -1, 64) + " s"
	case d >= 10*time.Millisecond:
		precision = 100 * time.Microsecond
	}
	return strconv.FormatFloat(float64(d.Round(precision).Microseconds())/1000, 'f', -1, 64) + " ms"
}

// yesNo prints a truth as Asterisk's commands do.
func yesNo(b bool) string {
	if b {
		return "Yes"
	}
	return "No"
}

// pad fills text with blanks to width characters. Longer text gets a single blank before the next column, so
// it moves its own line only.
func pad(text string, width int) string {
	return text + strings.Repeat(" ", max(1, width-utf8.RuneCountInString(text)))
}

// valueColumn is the column of values in a list of labels. Spec §4 fixes it: "Name:              my-kafka".
const valueColumn = 19

// line adds a line "label: value" to b.
func line(b *strings.Builder, label, value string) {
	if value == "" {
		fmt.Fprintf(b, "%s:\n", label)
		return
	}
	b.WriteString(pad(label+":", valueColumn) + value + "\n")
}

// column is a column of a table.
type column struct {
	title string
	least int  // characters, the gap to the next column included
	most  int  // largest width; a wider cell moves the rest of its own row only. 0 = fixed at least
	right bool // numbers, flush right
}

// table prints columns with titles and rows, a line each. The last column has any width.
func table(columns []column, rows [][]string) string {
	var b strings.Builder
	widths := make([]int, len(columns))
	titles := make([]string, len(columns))
	for i, c := range columns {
		titles[i] = c.title
		widths[i] = max(c.least, utf8.RuneCountInString(c.title)+1)
		for _, row := range rows {
			if width := utf8.RuneCountInString(row[i]) + 2; width <= c.most {
				widths[i] = max(widths[i], width)
			}
		}
	}
	for _, row := range append([][]string{titles}, rows...) {
		var text strings.Builder
		for i, cell := range row {
			if columns[i].right {
				cell = strings.Repeat(" ", max(0, widths[i]-2-utf8.RuneCountInString(cell))) + cell
			}
			text.WriteString(pad(cell, widths[i]))
		}
		b.WriteString(strings.TrimRight(text.String(), " ") + "\n")
	}
	return b.String()
}
