package config

import (
	"fmt"
	"strings"
)

// Entry is one line of a configuration file as Asterisk's loader read it, with templates and includes applied.
type Entry struct {
	File      string // empty = the file itself rather than one it includes
	Line      int    // 0 = not known, as for the announcement of a section
	Section   string
	Name      string // empty announces a section, also one that holds nothing
	Value     string
	Inherited bool // it came from a template; the section's own lines follow and override it
}

// placedEntry is an entry with its place among all entries.
type placedEntry struct {
	Entry
	index int
}

// section is one section of a file with its options in their order.
type section struct {
	name    string
	at      placedEntry // where it stands: its announcement, with the first line known to belong to it
	entries []placedEntry
	foreign bool // of another module of our name
}

// NameKey returns name in the form under which names that differ in case only are equal, as strcasecmp compares them.
func NameKey(name string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, name)
}

// joinedSections returns the sections of a file. Sections whose names differ in case only are one section, as they are for
// Asterisk's option framework: the lines of the later one follow those of the first. Each join is reported.
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

// sectionsOf groups entries. An announcement begins a section; so does an entry of another section than the one
// before it.
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
		// The loader does not tell where a section begins, so its first own line stands for it.
		if current.at.Line == 0 && !e.Inherited {
			current.at.File, current.at.Line = e.File, e.Line
		}
	}
	return out
}
