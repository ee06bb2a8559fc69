package docs

import (
	"bytes"
	"fmt"
	"strings"

	"reskafka/internal/config"
)

// sampleWidth is how wide a sample file may be: a terminal's 80 columns.
const sampleWidth = 79

// Sample renders a configuration file to start from. A line that begins with "; " is an explanation. A line
// that begins with ";" alone is an option at its default or, without a default, an example; removing the
// semicolon sets the option. Only necessary lines are active: a section of each kind, and required options.
// The installed samples therefore work together.
func Sample(f *config.File) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, ";\n; %s: %s\n;\n", f.Name, f.Title)
	intro := append([]string{}, f.Intro...)
	intro = append(intro, "To set an option, remove the semicolon before it. Below, each option stands with its"+
		" default or, where it has none, with an example.")
	for _, paragraph := range intro {
		prose(&b, "; ", "; ", paragraph)
		b.WriteString(";\n")
	}
	for _, s := range f.Sections {
		sampleSection(&b, s)
	}
	for _, e := range f.Examples {
		b.WriteString("\n")
		prose(&b, "; ", "; ", e.Title+":")
		b.WriteString(";\n")
		for _, line := range e.Lines {
			b.WriteString(";" + line + "\n")
		}
	}
	return b.Bytes()
}

func sampleSection(b *bytes.Buffer, s config.Section) {
	b.WriteString("\n")
	prose(b, "; ", "; ", strings.TrimSpace(s.Short+". "+s.Long))
	b.WriteString(";\n")
	name := s.Name
	if s.Typed {
		name = s.Example
	}
	fmt.Fprintf(b, "[%s]\n", name)
	for i, o := range s.Options {
		if i > 0 || !s.Typed {
			b.WriteString("\n")
		}
		sampleOption(b, o)
	}
}

// sampleOption writes an option, as a comment unless required.
func sampleOption(b *bytes.Buffer, o *config.Info) {
	prose(b, "; ", "; ", o.Short+". "+o.Long)
	switch {
	case hasExplanations(o):
		for _, w := range o.Words {
			line := w.Text
			if w.Short != "" {
				line += ": " + w.Short
			}
			prose(b, ";   ", ";     ", line)
		}
		prose(b, "; ", "; ", defaultSentence(o))
	case acceptsAnyText(o):
		prose(b, "; ", "; ", defaultSentence(o))
	default:
		prose(b, "; ", "; ", "Accepted: "+accepted(o)+". "+defaultSentence(o))
	}
	value := o.Example
	if value == "" {
		value = o.Default
	}
	if !o.Required {
		b.WriteString(";")
	}
	fmt.Fprintf(b, "%s = %s\n", o.Name, value)
}

func defaultSentence(o *config.Info) string {
	switch {
	case o.Required:
		return "Required."
	case o.Default == "" && o.Unset != "":
		return "Default: " + o.Unset + "."
	case o.Default == "":
		return "Default: none."
	}
	return "Default: " + o.Default + "."
}

// prose writes text in lines of at most sampleWidth, the first with prefix, the others with next. A setting,
// "name = value", stays on one line.
func prose(b *bytes.Buffer, prefix, next, text string) {
	width := 0
	for _, word := range strings.Fields(strings.ReplaceAll(text, " = ", "\x00=\x00")) {
		word = strings.ReplaceAll(word, "\x00", " ")
		if width > 0 && width+1+len(word) > sampleWidth {
			b.WriteString("\n")
			prefix, width = next, 0
		}
		if width == 0 {
			b.WriteString(prefix + word)
			width = len(prefix) + len(word)
			continue
		}
		b.WriteString(" " + word)
		width += 1 + len(word)
	}
	b.WriteString("\n")
}
