// Package configtest reads configuration files like Asterisk's loader, for tests without Asterisk. The engine
// itself never reads a configuration file.
package configtest

import (
	"slices"
	"strings"

	"reskafka/internal/config"
)

// category is a section while the file is read.
type category struct {
	name     string
	template bool
	entries  []config.Entry
}

// Read returns the lines of a file in the order and form of the modules, after Asterisk's loader
// (main/config.c). Sections are announced without a place. Templates are left out, and their lines are copied
// into the sections that name them. Read supports comments, (!), (base) and (+), but no includes. Lines
// rejected by the loader are left out.
func Read(text string) []config.Entry {
	var categories []*category
	var current *category
	comment := false
	for number, line := range strings.Split(text, "\n") {
		line, comment = uncomment(line, comment)
		if strings.HasPrefix(line, "[") {
			categories, current = open(categories, line)
			continue
		}
		name, value, found := strings.Cut(line, "=")
		name = strings.TrimSpace(name)
		if !found || name == "" || current == nil || strings.HasPrefix(name, "#") {
			continue
		}
		value = strings.TrimSpace(strings.TrimPrefix(value, ">"))
		current.entries = append(current.entries,
			config.Entry{Line: number + 1, Section: current.name, Name: name, Value: value})
	}
	var out []config.Entry
	for _, c := range categories {
		if !c.template {
			out = append(out, config.Entry{Section: c.name})
			out = append(out, c.entries...)
		}
	}
	return out
}

// open begins the section of a line like [name](base,+), or continues an existing section.
func open(categories []*category, line string) ([]*category, *category) {
	name, options, closed := strings.Cut(line[1:], "]")
	if !closed {
		return categories, nil
	}
	find := func(name string) *category {
		i := slices.IndexFunc(categories, func(c *category) bool { return strings.EqualFold(c.name, name) })
		if i < 0 {
			return nil
		}
		return categories[i]
	}
	fresh := &category{name: name}
	c := fresh
	options = strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(options), "("), ")")
	for option := range strings.SplitSeq(options, ",") {
		switch option = strings.TrimSpace(option); option {
		case "":
		case "!":
			c.template = true
		case "+":
			if c = find(name); c == nil {
				return categories, nil
			}
		default:
			base := find(option)
			if base == nil {
				return categories, nil
			}
			for _, e := range slices.Clone(base.entries) {
				e.Section, e.Inherited = name, true
				c.entries = append(c.entries, e)
			}
		}
	}
	if c == fresh {
		categories = append(categories, c)
	}
	return categories, c
}

// uncomment removes comments, and blanks at both ends, from a line. inside reports whether a block comment is
// open.
func uncomment(line string, inside bool) (string, bool) {
	var out strings.Builder
	for i := 0; i < len(line); i++ {
		rest := line[i:]
		switch {
		case inside:
			if strings.HasPrefix(rest, "--;") {
				inside = false
				i += 2
			}
		case strings.HasPrefix(rest, `\;`):
			out.WriteByte(';')
			i++
		case strings.HasPrefix(rest, ";--") && !strings.HasPrefix(rest, ";---"):
			inside = true
			i += 2
		case rest[0] == ';':
			return strings.TrimSpace(out.String()), false
		default:
			out.WriteByte(rest[0])
		}
	}
	return strings.TrimSpace(out.String()), inside
}
