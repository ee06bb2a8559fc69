package docs

import (
	"bytes"
	"fmt"
	"strings"

	"reskafka/internal/config"
)

// Markdown renders the options of a file as tables for the README, a table for each kind of section.
func Markdown(f *config.File) []byte {
	var b bytes.Buffer
	for _, s := range f.Sections {
		heading := "`[" + s.Name + "]`"
		if s.Typed {
			heading = "`[name]` with `type = " + s.Name + "`"
		}
		fmt.Fprintf(&b, "\n%s: %s\n\n| option | default | accepted | meaning |\n| --- | --- | --- | --- |\n",
			heading, cell(s.Short))
		for _, o := range s.Options {
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", o.Name, defaultCell(o), cell(accepted(o)), cell(o.Short))
		}
	}
	b.WriteString("\n")
	return b.Bytes()
}

func defaultCell(o *config.Info) string {
	switch {
	case o.Required:
		return "required"
	case o.Default == "" && o.Unset != "":
		return cell(o.Unset)
	case o.Default == "":
		return "none"
	}
	return "`" + o.Default + "`"
}

// cell escapes text for a cell of a table.
func cell(text string) string {
	return strings.NewReplacer("|", `\|`, "<", "&lt;", "\n", " ").Replace(text)
}
