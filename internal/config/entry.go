package config

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
