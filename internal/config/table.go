package config

import (
	"fmt"
	"slices"
	"strings"
	"sync"
)

// Table describes a kind of section: its options, in the order in which they are shown, and the rules between them.
type Table[T any] struct {
	// Section is the name the section has; empty means that it has a name of the administrator's and is known by
	// its type.
	Section string
	Type    string // value of the option "type" where Section is empty
	What    string // what a section is, as in "an option of ..."
	Short   string
	Long    string
	Example string // a name for the section in documents, where Section is empty
	Options []Option[T]
	front   []string // options that are shown before all others
	back    []string // and after
	rules   []rule[T]
	// idle says why an option has no effect in a section, or nothing; nil = every option has.
	idle func(*scope[T], *Info) string

	once     sync.Once
	defaults T // with every option at its default, once that was asked for
}

// rule checks options against each other. It is skipped when one of its options was refused already, so that one
// mistake gives one message.
type rule[T any] struct {
	name    string
	options []string
	check   func(*scope[T])
}

// option finds a row by name, in any case, or gives nil.
func (t *Table[T]) option(name string) *Option[T] {
	for i := range t.Options { // as it is nearly always written: comparing is quicker than folding
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

// filled gives a T with every option at its default. What several share of it is only read.
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

// scope is one section being read.
type scope[T any] struct {
	table  *Table[T]
	value  *T
	at     placedEntry
	set    map[string]*placedEntry // the line in force of every option that was given
	failed map[string]bool         // options with an error
	errors [Consuming + 1]string   // the first error of each side
	log    *problemLog
}

// read puts what the section says into *into, which is filled, and notes what is wrong with it.
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

// take notes an entry as the line in force of its option, as the last line is in Asterisk's own option framework.
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

// apply reads the line in force of an option, if there is one.
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

// report notes a problem with an option, at its line if it was given and at the section if it was not.
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

// given says whether the section sets the option.
func (sc *scope[T]) given(name string) bool {
	_, ok := sc.set[name]
	return ok
}

// say names an option with its value and where that comes from, for the text about another one.
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

// unknown reports an option that the table does not have.
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
