package config

import (
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Severity says what a problem costs.
type Severity int

// The severities.
const (
	// Warning leaves the configuration usable: the text names what is used instead.
	Warning Severity = iota
	// Error leaves out what it is about: a connection, or a file of one section as a whole.
	Error
)

// String gives the severity in lower case.
func (s Severity) String() string {
	if s == Error {
		return "error"
	}
	return "warning"
}

// Problem is one thing that is wrong in a configuration file. It never holds a password.
type Problem struct {
	Severity Severity
	File     string // as the loader named it, or the file's usual name
	Line     int    // 0 = not known
	Section  string // empty = the file as a whole
	Option   string // empty = the section as a whole
	Value    string // as written; empty when nothing was, *** where it may be a secret
	Text     string // what is wrong and what would be right: what follows "option = value" in a sentence
}

// String gives one line that names the place, the option, its value, what is wrong and what would be right. It
// carries no word for the severity.
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

// shortened cuts a value that would bury what is said about it.
func shortened(value string) string {
	const most = 200
	if runes := []rune(value); len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return value
}

// oneLine replaces what could break a line of the log or steer a terminal.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' {
			return '?'
		}
		return r
	}, text)
}

// problemLog collects problems and puts them into the order of the file, whatever the order of the checks.
type problemLog struct {
	file     string // the usual name of the file, for entries that name none
	problems []placedProblem
}

type placedProblem struct {
	Problem
	index int // of the entry it is about
}

// add notes a problem about entry at and returns it. option and value may be empty; an option that may hold a secret has its
// value hidden by the caller.
func (l *problemLog) add(severity Severity, at placedEntry, option, value, text string) Problem {
	file := at.File
	if file == "" {
		file = l.file
	}
	p := Problem{severity, file, at.Line, at.Section, option, value, text}
	l.problems = append(l.problems, placedProblem{p, at.index})
	return p
}

// inOrder gives the problems in the order of the file.
func (l *problemLog) inOrder() []Problem {
	slices.SortStableFunc(l.problems, func(a, b placedProblem) int { return a.index - b.index })
	var out []Problem
	for _, p := range l.problems {
		out = append(out, p.Problem)
	}
	return out
}
