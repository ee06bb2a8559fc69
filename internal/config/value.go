package config

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// fault is why a value was not used as written. After an Error the field has the default.
type fault struct {
	severity Severity
	text     string
}

func wrong(format string, args ...any) *fault {
	return &fault{Error, fmt.Sprintf(format, args...)}
}

func odd(format string, args ...any) *fault {
	return &fault{Warning, fmt.Sprintf(format, args...)}
}

// set parses text into the option's field of *into.
func (o *Option[T]) set(into *T, text string) *fault {
	if text == "" && o.needsValue() {
		o.set(into, o.Default)
		return odd("is empty; the default %s is used, give %s", o.Default, o.asked())
	}
	switch field := o.field(into).(type) {
	case *int:
		n, fault := o.number(text)
		*field = int(n)
		return fault
	case *time.Duration:
		n, fault := o.number(text)
		*field = time.Duration(n) * time.Millisecond
		return fault
	case *bool:
		value, ok := truth(text)
		*field = value
		if !ok {
			return odd("is neither yes nor no and counts as no; %s", o.advice())
		}
		return nil
	case *Secret:
		*field = Secret(text)
		return nil
	case *[]string:
		words, fault := o.words(text)
		*field = words
		return fault
	case brokerField:
		return o.brokers(field, text)
	case *string:
		value, fault := o.text(text)
		*field = value
		return fault
	default:
		panic(fmt.Sprintf("config: %s is kept in a %T", o.Name, field))
	}
}

// render is the inverse of set, with the unit of a duration and without a secret.
func (o *Option[T]) render(from *T) string {
	switch field := o.field(from).(type) {
	case *int:
		return strconv.Itoa(*field)
	case *time.Duration:
		unit := " ms"
		if strings.HasSuffix(o.Label, unit) {
			unit = ""
		}
		return strconv.FormatInt(field.Milliseconds(), 10) + unit
	case *bool:
		if *field {
			return "yes"
		}
		return "no"
	case *Secret:
		return field.String()
	case *[]string:
		return strings.Join(*field, ",")
	case brokerField:
		return field.String()
	case *string:
		return *field
	default:
		panic(fmt.Sprintf("config: %s is kept in a %T", o.Name, field))
	}
}

// needsValue reports whether an empty value is worth a warning. Empty means unset.
func (o *Info) needsValue() bool {
	switch o.Kind {
	case Number, Milliseconds, Boolean:
		return true
	case Enumeration:
		return o.Default != ""
	}
	return false
}

// number parses a whole number within the option's range, in the forms of C's strtol: 16, 0x10 and 020 are
// equal. An invalid number is an error, not a reason to use the default: a typing mistake must not run
// unnoticed.
func (o *Info) number(text string) (int64, *fault) {
	if word, known := o.word(text); known {
		text = word
	}
	n, err := strconv.ParseInt(text, 10, 64)
	plain := err == nil && !strings.HasPrefix(strings.TrimLeft(text, "+-"), "0")
	if !plain && cNumber.MatchString(text) {
		n, err = strconv.ParseInt(text, 0, 64)
	} else if !plain {
		err = strconv.ErrSyntax
	}
	switch {
	case err != nil && !errors.Is(err, strconv.ErrRange):
		return o.integer(o.Default), wrong("is not a whole number%s; %s", o.ofUnit(), o.advice())
	case err == nil && n >= o.Min && n <= o.Max:
		if shown := strconv.FormatInt(n, 10); shown != strings.TrimPrefix(text, "+") && n != 0 {
			return n, odd("is read as %d, because of its first digit; write %d", n, n)
		}
		return n, nil
	case o.Clamp && n > o.Max:
		return o.Max, odd("is more than the client can do; %d is used instead, %s", o.Max, o.advice())
	case o.Lift && n < o.Min:
		return o.Min, odd("is out of range; %d is used instead, give %s", o.Min, o.Accepts())
	}
	return o.integer(o.Default), odd("is out of range; the default %s is used instead, give %s", o.Default, o.Accepts())
}

// cNumber matches texts that strtol reads to the end with base 0.
var cNumber = regexp.MustCompile(`^[+-]?(0[0-7]*|[1-9][0-9]*|0[xX][0-9a-fA-F]+)$`)

func (o *Info) ofUnit() string {
	switch o.Unit {
	case "":
		return ""
	case "ms":
		return " of milliseconds"
	case "kB":
		return " of kilobytes"
	case "MB":
		return " of megabytes"
	}
	return " of " + o.Unit
}

// text parses kinds stored as a string. An empty text leaves the option unset.
func (o *Info) text(text string) (string, *fault) {
	if text == "" {
		return o.Default, nil
	}
	if o.Kind == Enumeration {
		word, ok := o.word(text)
		if !ok && o.Tolerant {
			return o.Default, odd("is not known and is not used; %s", o.advice())
		}
		if !ok {
			return o.Default, wrong("is not known; %s", o.advice())
		}
		return word, nil
	}
	if o.Kind == Text && o.Max > 0 && int64(len(text)) > o.Max {
		short := strings.ToValidUTF8(text[:o.Max], "")
		return short, odd("is %d bytes long; the first %d are used, give at most %d", len(text), len(short), o.Max)
	}
	if o.Kind == Directory {
		if !filepath.IsAbs(text) {
			return o.Default, wrong("does not begin with /; %s", o.advice())
		}
		return filepath.Clean(text), nil
	}
	if o.Kind == Topic {
		if why := TopicFault(text); why != "" {
			return o.Default, wrong("%s; %s", why, o.advice())
		}
	}
	return text, nil
}

// words parses a list of the enumeration's words. Empty items and repetitions are ignored.
func (o *Info) words(text string) ([]string, *fault) {
	var out, unknown []string
	for item := range strings.SplitSeq(text, ",") {
		item = strings.TrimSpace(item)
		if item == "" {
			continue
		}
		word, ok := o.word(item)
		if !ok {
			unknown = append(unknown, strconv.Quote(item))
		} else if !slices.Contains(out, word) {
			out = append(out, word)
		}
	}
	if len(unknown) > 0 {
		return nil, wrong("holds %s, which is not known; %s", strings.Join(unknown, ", "), o.advice())
	}
	return out, nil
}

// truth parses exactly the words of Asterisk's ast_true and ast_false (main/utils.c).
func truth(text string) (value, ok bool) {
	switch strings.ToLower(text) {
	case "yes", "true", "y", "t", "1", "on":
		return true, true
	case "no", "false", "n", "f", "0", "off":
		return false, true
	}
	return false, false
}

// TopicLengthMax is the longest name of a topic in bytes, by Kafka's rule (org.apache.kafka.common.internals.Topic).
const TopicLengthMax = 249

// Weights against message_max_bytes: of a record beside key, value and headers, and of a header beside name
// and value. The first is librdkafka's constant (measured: with message_max_bytes = 1000000 the largest value
// without a key has 999964 bytes). The second is the largest size of a header's two lengths on the wire.
const (
	RecordOverhead = 36
	HeaderOverhead = 10
)

// TopicByte reports whether Kafka allows the byte in the name of a topic.
func TopicByte(b byte) bool {
	return 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' || '0' <= b && b <= '9' || b == '.' || b == '_' || b == '-'
}

// TopicFault says why Kafka would refuse the name of a topic, or nothing.
func TopicFault(name string) string {
	if len(name) > TopicLengthMax {
		return fmt.Sprintf("is %d bytes long", len(name))
	}
	if name == "." || name == ".." {
		return "cannot be the name of a topic"
	}
	for _, r := range name {
		if r >= utf8.RuneSelf || !TopicByte(byte(r)) {
			return fmt.Sprintf("holds %q, which no topic's name can", r)
		}
	}
	return ""
}
