package docs

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"strings"

	"reskafka/internal/config"
)

// XML renders the documentation for `config show help`, by Asterisk's appdocsxml.dtd.
func XML(f *config.File) []byte {
	x := &xmlWriter{}
	x.raw(`<?xml version="1.0" encoding="UTF-8"?>`)
	x.raw(`<!DOCTYPE docs SYSTEM "appdocsxml.dtd">`)
	x.raw(`<!-- Made from the option tables by: go run ./internal/docs/generate -->`)
	x.open("docs", "xmlns:xi", "http://www.w3.org/2001/XInclude")
	x.open("configInfo", "name", f.Module, "language", "en_US")
	x.text("synopsis", f.Title)
	x.open("description")
	for _, paragraph := range f.Intro {
		x.text("para", paragraph)
	}
	x.close("description")
	x.open("configFile", "name", f.Name)
	for _, s := range f.Sections {
		x.section(s)
	}
	x.close("configFile")
	x.close("configInfo")
	x.close("docs")
	return x.Bytes()
}

// xmlWriter writes indented elements. encoding/xml would need a type for every element of the DTD.
type xmlWriter struct {
	bytes.Buffer
	depth int
}

func (x *xmlWriter) section(s config.Section) {
	x.open("configObject", "name", s.Name)
	x.since(s.Options[0].Since)
	x.text("synopsis", s.Short+".")
	if s.Long != "" {
		x.open("description")
		x.text("para", s.Long)
		x.close("description")
	}
	// The sections in the output of `config show help`.
	x.open("syntax")
	x.open("matchInfo")
	if s.Typed {
		x.text("category", "^general$", "match", "false")
		x.text("field", s.Name, "name", s.Options[0].Name)
	} else {
		x.text("category", "^"+s.Name+"$", "match", "true")
	}
	x.close("matchInfo")
	x.close("syntax")
	for _, o := range s.Options {
		x.option(o)
	}
	x.close("configObject")
}

func (x *xmlWriter) option(o *config.Info) {
	attributes := []string{"name", o.Name, "type", typeName(o)}
	if o.Default != "" {
		attributes = append(attributes, "default", o.Default)
	}
	x.open("configOption", attributes...)
	x.since(o.Since)
	x.text("synopsis", o.Short+".")
	x.open("description")
	x.text("para", o.Long)
	switch {
	case hasExplanations(o):
		x.open("enumlist")
		for _, w := range o.Words {
			x.open("enum", "name", w.Text)
			if w.Short != "" {
				x.text("para", strings.ToUpper(w.Short[:1])+w.Short[1:]+".")
			}
			x.close("enum")
		}
		x.close("enumlist")
	case !acceptsAnyText(o):
		x.text("para", "Accepted: "+accepted(o)+".")
	}
	if o.Required {
		x.text("para", "Required.")
	}
	if o.Reload == config.Reconnects && !o.Required {
		x.text("para", "A reload that changes it builds the clients of the connection anew; what is queued is kept.")
	}
	if o.Reload == config.NextLoad {
		x.text("para", "A reload that changes it warns and goes on with the value that was in force: the new one takes effect when"+
			" the module is loaded next.")
	}
	x.close("description")
	x.close("configOption")
}

// typeName returns a word or two for the brackets of `config show help`.
func typeName(o *config.Info) string {
	switch o.Kind {
	case config.Number:
		return "Integer"
	case config.Milliseconds:
		return "Milliseconds"
	case config.Boolean:
		return "Boolean"
	case config.Enumeration:
		return "Enumeration"
	case config.WordList, config.BrokerList:
		return "List"
	case config.PEMFile:
		return "File"
	case config.Directory:
		return "Directory"
	}
	return "String"
}

func (x *xmlWriter) since(version string) {
	x.open("since")
	x.text("version", version)
	x.close("since")
}

// open begins an element with attributes as name, value, name, value.
func (x *xmlWriter) open(element string, attributes ...string) {
	x.raw(tag(element, attributes))
	x.depth++
}

func (x *xmlWriter) close(element string) {
	x.depth--
	x.raw("</" + element + ">")
}

func (x *xmlWriter) text(element, content string, attributes ...string) {
	x.raw(tag(element, attributes) + escape(content) + "</" + element + ">")
}

func (x *xmlWriter) raw(line string) {
	x.WriteString(strings.Repeat("\t", x.depth) + line + "\n")
}

func tag(element string, attributes []string) string {
	var b strings.Builder
	b.WriteString("<" + element)
	for i := 0; i < len(attributes); i += 2 {
		fmt.Fprintf(&b, ` %s="%s"`, attributes[i], escape(attributes[i+1]))
	}
	return b.String() + ">"
}

func escape(text string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(text)) // A strings.Builder never fails.
	return b.String()
}
