package config

import (
	"fmt"
	"strings"
)

// Entry is a line of a configuration file from Asterisk's loader, after templates and includes.
type Entry struct {
	File      string // empty = the file itself, not an included file
	Line      int    // 0 = not known, as for the announcement of a section
	Section   string
	Name      string // empty announces a section, perhaps an empty section
	Value     string
	Inherited bool // from a template; the section's own lines follow and override it
}

// placedEntry is an entry with its index among all entries.
type placedEntry struct {
	Entry
	index int
}

// section is a section of a file with its options in order.
type section struct {
	name    string
	at      placedEntry // the announcement, with the first line known to belong to the section
	entries []placedEntry
	foreign bool // of another module of our name
}

// NameKey returns name in a form without case, like strcasecmp.
func NameKey(name string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, name)
}

// joinedSections returns the sections of a file. Sections whose names differ only in case are joined, like in
// Asterisk's option framework: the later lines follow the first section's lines. Each join is reported.
func joinedSections(entries []Entry, log *problemLog) []*section {
	var out []*section
	first := map[string]*section{}
	for _, s := range sectionsOf(entries) {
		key := NameKey(s.name)
		before := first[key]
		if before == nil {
			first[key] = s
			out = append(out, s)
			continue
		}
		text := "is there twice"
		if before.at.Line > 0 {
			text += fmt.Sprintf(", first at line %d", before.at.Line)
		}
		log.add(Warning, s.at, "", "", text+"; the two are joined, of an option that both set the later line counts")
		before.entries = append(before.entries, s.entries...)
	}
	return out
}

// sectionsOf groups entries. A section begins with an announcement, or with an entry of another section.
func sectionsOf(entries []Entry) []*section {
	var out []*section
	var current *section
	for i, e := range entries {
		placed := placedEntry{Entry: e, index: i}
		if current == nil || e.Name == "" || e.Section != current.name {
			current = &section{name: e.Section, at: placed}
			out = append(out, current)
		}
		if e.Name == "" {
			continue
		}
		current.entries = append(current.entries, placed)
		// The loader does not report the start of a section; the first own line replaces it.
		if current.at.Line == 0 && !e.Inherited {
			current.at.File, current.at.Line = e.File, e.Line
		}
	}
	return out
}
