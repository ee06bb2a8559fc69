package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Kind is the type of an option's value.
type Kind int

// The kinds.
const (
	Text         Kind = iota // any text, at most Max bytes where Max is set
	SecretText               // a text never shown
	PEMFile                  // the path of a file in PEM format
	Directory                // the absolute path of a directory, which need not be there yet
	Topic                    // the name of a topic
	Number                   // a whole number, Min to Max
	Milliseconds             // a whole number of milliseconds, Min to Max
	Boolean                  // Asterisk's words for true or false
	Enumeration              // an element of Words, in any case
	WordList                 // any of Words, in any case, separated by commas
	BrokerList               // host[:port], separated by commas
)

// Word is a value of an enumeration.
type Word struct {
	Text     string
	Short    string   // meaning
	Synonyms []string // also accepted, read as Text
}

// Reload is the effect of a reload on a changed option.
type Reload int

// The effects of a reload.
const (
	// Reconnects rebuilds the connection's clients; queued records and subscriptions stay.
	Reconnects Reload = iota
	// AtOnce applies the value to running clients.
	AtOnce
	// NextLoad keeps the running value until the module is unloaded and loaded; a reload with a change warns.
	NextLoad
)

// Side says which use of a connection an option is for.
type Side int

// The sides.
const (
	Both Side = iota
	Producing
	Consuming
)

// Info is the whole description of an option. The tables of these rows drive parsing, defaults, validation,
// messages, the CLI and every document; no other place names, bounds or describes an option.
type Info struct {
	Name     string
	Label    string // in `kafka show connection`; equal to the module on librdkafka's label, if it has the option
	Kind     Kind
	Unit     string // ms, bytes, kB, MB, messages, hours or empty
	Default  string // in the form of the file; empty = none
	Unset    string // effect of an unset option in words, if Default is empty; empty = nothing
	Min, Max int64
	Clamp    bool // a number above Max becomes Max rather than the default
	Lift     bool // a number below Min becomes Min rather than the default
	Words    []Word
	Also     []string // names in other clients, only to recognize a mistake
	Required bool
	Tolerant bool // an unknown word is a warning, and the default is used
	Side     Side
	Reload   Reload
	Since    string // first release of res_kafka with the option
	Short    string // a line, no full stop
	Long     string // sentences: reasons for a change, and its cost
	Give     string // the request of a message, if Accepts is too short
	Example  string // a value worth showing, where the default is none
}

// Accepts says which values are right.
func (o *Info) Accepts() string {
	switch o.Kind {
	case Number, Milliseconds:
		if len(o.Words) == 0 {
			return fmt.Sprintf("%d to %d", o.Min, o.Max)
		}
		return alternatives(o.wordTexts())
	case Boolean:
		return "yes or no"
	case Enumeration:
		return alternatives(o.wordTexts())
	case WordList:
		return "any of " + strings.Join(o.wordTexts(), ", ")
	case BrokerList:
		return "host:port, with commas between several"
	case PEMFile:
		return "the path of a PEM file"
	case Directory:
		return "an absolute path"
	case Topic:
		return fmt.Sprintf("1 to %d letters, digits, dots, underscores or hyphens", TopicLengthMax)
	}
	if o.Max > 0 {
		return fmt.Sprintf("text of at most %d bytes", o.Max)
	}
	return "text"
}

// advice returns the correction at the end of a message.
func (o *Info) advice() string {
	if o.Default == "" {
		return "give " + o.asked()
	}
	return fmt.Sprintf("give %s (default %s)", o.asked(), o.Default)
}

// asked returns the request of a message.
func (o *Info) asked() string {
	if o.Give != "" {
		return o.Give
	}
	return o.Accepts()
}

// shown returns a value of the option in printable form.
func (o *Info) shown(value string) string {
	if o.Kind == SecretText {
		return Secret(value).String()
	}
	if o.Kind == BrokerList {
		return withoutCredentials(value)
	}
	return value
}

func (o *Info) wordTexts() []string {
	texts := make([]string, len(o.Words))
	for i, w := range o.Words {
		texts[i] = w.Text
	}
	return texts
}

// word returns the enumeration's word for text, by name or synonym.
func (o *Info) word(text string) (string, bool) {
	for i := range o.Words {
		w := &o.Words[i]
		same := func(name string) bool { return strings.EqualFold(name, text) }
		if same(w.Text) || slices.ContainsFunc(w.Synonyms, same) {
			return w.Text, true
		}
	}
	return "", false
}

// integer parses the text of a Number or Milliseconds option known to be valid, for example its default.
func (o *Info) integer(text string) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		panic("config: " + o.Name + ": " + err.Error())
	}
	return n
}

// alternatives joins words as in "a, b or c".
func alternatives(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// of returns the options with their side set.
func of[T any](side Side, options []Option[T]) []Option[T] {
	for i := range options {
		options[i].Side = side
	}
	return options
}

// Option is a row of the table of sections with the type T.
type Option[T any] struct {
	Info
	// field returns the destination of the value: *string, *Secret, *int, *time.Duration, *bool, *[]string or
	// brokerField.
	field func(*T) any
}
