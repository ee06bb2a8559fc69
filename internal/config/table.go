package config

import (
	"fmt"
	"slices"
	"strings"
	"sync"
)

// Table describes a kind of section: its options in display order, and the rules between them.
type Table[T any] struct {
	// Section is the name of the section; empty for a section with a name of the administrator's choice,
	// known by its type.
	Section string
	Type    string // value of the option "type" where Section is empty
	What    string // kind of section, as in "an option of ..."
	Short   string
	Long    string
	Example string // a name for the section in documents, where Section is empty
	Options []Option[T]
	front   []string // options shown first
	back    []string // and after
	rules   []rule[T]
	// idle says why an option has no effect in a section, or nothing; nil = every option has.
	idle func(*scope[T], *Info) string

	once     sync.Once
	defaults T // every option at its default, after the first use
}

// rule checks options against each other. It is skipped after an error in one of its options, so a mistake
// has a single message.
type rule[T any] struct {
	name    string
	options []string
	check   func(*scope[T])
}

// option returns a row by name, in any case, or nil.
func (t *Table[T]) option(name string) *Option[T] {
	for i := range t.Options { // the usual spelling: a comparison is faster than folding
		if t.Options[i].Name == name {
			return &t.Options[i]
		}
	}
	for i := range t.Options {
		if strings.EqualFold(t.Options[i].Name, name) {
			return &t.Options[i]
		}
	}
	return nil
}

// filled returns a T with every option at its default. Shared parts are read-only.
func (t *Table[T]) filled() *T {
	t.once.Do(func() {
		for i := range t.Options {
			o := &t.Options[i]
			if o.Default == "" && o.Kind != BrokerList {
				continue
			}
			if f := o.set(&t.defaults, o.Default); f != nil {
				panic("config: default of " + o.Name + " " + f.text)
			}
		}
	})
	value := t.defaults
	return &value
}

// scope is a section during its reading.
type scope[T any] struct {
	table  *Table[T]
	value  *T
	at     placedEntry
	set    map[string]*placedEntry // the line in force of every given option
	failed map[string]bool         // options with an error
	errors [Consuming + 1]string   // the first error of each side
	log    *problemLog
}

// read parses the section into *into, which has the defaults, and notes problems.
func (t *Table[T]) read(s *section, into *T, log *problemLog) *scope[T] {
	sc := &scope[T]{
		table: t, value: into, at: s.at, log: log,
		set: make(map[string]*placedEntry, len(s.entries)), failed: map[string]bool{},
	}
	for i := range s.entries {
		sc.take(&s.entries[i])
	}
	for i := range t.Options {
		sc.apply(&t.Options[i])
	}
	for _, r := range t.rules {
		if !slices.ContainsFunc(r.options, func(name string) bool { return sc.failed[name] }) {
			r.check(sc)
		}
	}
	return sc
}

// take notes an entry as the line in force of its option: the last line counts, like in Asterisk's own option
// framework.
func (sc *scope[T]) take(e *placedEntry) {
	if sc.table.Type != "" && strings.EqualFold(e.Name, "type") {
		return
	}
	o := sc.table.option(e.Name)
	if o == nil {
		sc.unknown(*e)
		return
	}
	if before, given := sc.set[o.Name]; given && !before.Inherited {
		text := "is given twice, first at line " + fmt.Sprint(before.Line) + "; this one is used, remove the other"
		sc.log.add(Warning, *e, o.Name, o.shown(e.Value), text)
	}
	sc.set[o.Name] = e
}

// apply parses the line in force of an option, if there is one.
func (sc *scope[T]) apply(o *Option[T]) {
	e, given := sc.set[o.Name]
	if !given {
		if o.Required {
			sc.report(Error, o.Name, "is missing; "+o.advice())
		}
		return
	}
	if o.Required && e.Value == "" {
		sc.report(Error, o.Name, "is empty; "+o.advice())
		return
	}
	if f := o.set(sc.value, e.Value); f != nil {
		sc.report(f.severity, o.Name, f.text)
	}
}

// report notes a problem with an option, at its line, or at the section for an option without a line.
func (sc *scope[T]) report(severity Severity, name, text string) {
	o := sc.table.option(name)
	if severity == Error {
		sc.failed[o.Name] = true
		if t := sc.table; t.idle != nil {
			if why := t.idle(sc, &o.Info); why != "" {
				severity = Warning
				text += "; " + why
			}
		}
	}
	at, value := sc.at, ""
	if e, given := sc.set[o.Name]; given {
		at, value = *e, o.shown(e.Value)
	}
	sc.note(severity, o.Side, at, o.Name, value, text)
}

// note adds a problem to the log and notes the first error of each side.
func (sc *scope[T]) note(severity Severity, side Side, at placedEntry, option, value, text string) {
	p := sc.log.add(severity, at, option, value, text)
	if severity == Error && sc.errors[side] == "" {
		sc.errors[side] = p.String()
	}
}

// given reports whether the section sets the option.
func (sc *scope[T]) given(name string) bool {
	_, ok := sc.set[name]
	return ok
}

// say returns an option's name, value and place, for the text about another option.
func (sc *scope[T]) say(name string) string {
	o := sc.table.option(name)
	e, given := sc.set[name]
	if !given {
		return fmt.Sprintf("%s = %s (the default)", name, o.Default)
	}
	if e.Line == 0 {
		return fmt.Sprintf("%s = %s", name, o.shown(e.Value))
	}
	return fmt.Sprintf("%s = %s (line %d)", name, o.shown(e.Value), e.Line)
}

// unknown reports an option missing in the table.
func (sc *scope[T]) unknown(e placedEntry) {
	known := make([]*Info, len(sc.table.Options))
	for i := range sc.table.Options {
		known[i] = &sc.table.Options[i].Info
	}
	text := "is not an option of " + sc.table.What
	near := nearest(e.Name, known)
	advice := ""
	if sc.table.Type != "" && (near == nil || !near.named(e.Name)) {
		advice = adviceFor(e.Name)
	}
	switch {
	case advice != "":
		text += "; " + advice
	case near != nil:
		text += "; did you mean " + near.Name + "?"
	default:
		text += "; remove it"
	}
	value := e.Value
	if value != "" && mayBeSecret(e.Name, near) {
		value = "***"
	}
	sc.note(Error, Both, e, e.Name, value, text)
}
