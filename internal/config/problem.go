package config

import (
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Severity is the cost of a problem.
type Severity int

// The severities.
const (
	// Warning leaves the configuration usable: the text names the replacement.
	Warning Severity = iota
	// Error leaves out its subject: a connection, or a whole file with one section.
	Error
)

// String returns the severity in lower case.
func (s Severity) String() string {
	if s == Error {
		return "error"
	}
	return "warning"
}

// Problem is a fault in a configuration file. It never contains a password.
type Problem struct {
	Severity Severity
	File     string // the loader's name of the file, or the usual name
	Line     int    // 0 = not known
	Section  string // empty = the file as a whole
	Option   string // empty = the section as a whole
	Value    string // as written; empty if nothing was, *** for a possible secret
	Text     string // the fault and the correction: the part of a sentence after "option = value"
}

// String returns a line with the place, the option, its value, the fault and the correction, without the
// severity.
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		b.WriteString(":" + strconv.Itoa(p.Line))
	}
	b.WriteString(":")
	if p.Section != "" {
		b.WriteString(" [" + p.Section + "]")
	}
	if p.Option != "" {
		b.WriteString(" " + p.Option)
	}
	if p.Value != "" {
		b.WriteString(" = " + shortened(p.Value))
	}
	b.WriteString(" " + p.Text)
	return oneLine(b.String())
}

// HasErrors reports whether an Error is among the problems.
func HasErrors(problems []Problem) bool {
	return slices.ContainsFunc(problems, func(p Problem) bool { return p.Severity == Error })
}

// shortened cuts a long value, for the sake of the text about it.
func shortened(value string) string {
	const most = 200
	if runes := []rune(value); len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return value
}

// oneLine replaces line breaks and terminal sequences.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' {
			return '?'
		}
		return r
	}, text)
}

// problemLog collects problems and sorts them by the order of the file, for any order of the checks.
type problemLog struct {
	file     string // usual name of the file, for entries without a file name
	problems []placedProblem
}

type placedProblem struct {
	Problem
	index int // of the entry
}

// add notes a problem about entry at and returns the problem. option and value may be empty; the caller hides
// a possible secret.
func (l *problemLog) add(severity Severity, at placedEntry, option, value, text string) Problem {
	file := at.File
	if file == "" {
		file = l.file
	}
	p := Problem{severity, file, at.Line, at.Section, option, value, text}
	l.problems = append(l.problems, placedProblem{p, at.index})
	return p
}

// inOrder returns the problems in the order of the file.
func (l *problemLog) inOrder() []Problem {
	slices.SortStableFunc(l.problems, func(a, b placedProblem) int { return a.index - b.index })
	var out []Problem
	for _, p := range l.problems {
		out = append(out, p.Problem)
	}
	return out
}
