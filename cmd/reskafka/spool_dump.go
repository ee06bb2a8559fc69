package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"reskafka/internal/record"
	"reskafka/internal/spool"
)

// dump prints a spool's records.
func (o *spoolOptions) dump(ctx context.Context, dir string) error {
	v, err := o.view(dir)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(o.env.stdout)
	print := printText
	if o.json {
		print = printJSON
	}
	each := func(position uint64, letter record.DeadLetter) error {
		if o.topic != "" && letter.Record.Topic != o.topic {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		return print(out, position, letter)
	}
	if o.dead {
		err = v.Letters(each)
	} else {
		err = dumpTopics(v, each)
	}
	if err == nil {
		err = out.Flush()
	}
	if err != nil {
		return fmt.Errorf("dumping %s: %w", dir, err)
	}
	return nil
}

func dumpTopics(v *spool.View, each func(uint64, record.DeadLetter) error) error {
	for _, l := range v.Logs() {
		err := v.Records(l.Topic, func(position uint64, r *record.Record) error {
			return each(position, record.DeadLetter{Record: r})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// printText prints a record on a line, with tabs between its fields: unusual text is quoted as in Go, null is
// -.
func printText(w *bufio.Writer, position uint64, letter record.DeadLetter) error {
	r := letter.Record
	var headers []string
	for _, h := range r.Headers {
		headers = append(headers, quoted(h.Name)+"="+text(h.Value))
	}
	fields := []string{quoted(r.Topic), strconv.FormatUint(position, 10), stamp(r.Accepted), text(r.Key), strings.Join(headers, ","), text(r.Value)}
	if !letter.At.IsZero() || letter.Reason != "" {
		fields = append(fields, stamp(letter.At), quoted(letter.Reason), quoted(letter.Cause))
	}
	_, err := w.WriteString(strings.Join(fields, "\t") + "\n")
	return err
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format(time.RFC3339Nano)
}

func text(b []byte) string {
	if b == nil {
		return "-"
	}
	return quoted(string(b))
}

// quoted returns unambiguous text unchanged, and other text as a Go string.
func quoted(s string) string {
	if s == "" || s == "-" || s[0] == '"' || !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(s)
	}
	return s
}

// jsonValue is bytes in a JSON object: a string for text, an object with "base64" for other bytes, or null.
type jsonValue []byte

// MarshalJSON implements json.Marshaler.
func (v jsonValue) MarshalJSON() ([]byte, error) {
	switch {
	case v == nil:
		return []byte("null"), nil
	case utf8.Valid(v):
		return json.Marshal(string(v))
	default:
		return json.Marshal(map[string][]byte{"base64": v})
	}
}

type jsonHeader struct {
	Name  jsonValue `json:"name"`
	Value jsonValue `json:"value"`
}

type jsonRecord struct {
	Topic    string       `json:"topic"`
	Position uint64       `json:"position"`
	Accepted *time.Time   `json:"accepted"`
	Key      jsonValue    `json:"key"`
	Headers  []jsonHeader `json:"headers"`
	Value    jsonValue    `json:"value"`
	Reason   string       `json:"reason,omitempty"`
	Cause    string       `json:"cause,omitempty"`
	Died     *time.Time   `json:"died,omitempty"`
}

func printJSON(w *bufio.Writer, position uint64, letter record.DeadLetter) error {
	r := letter.Record
	out := jsonRecord{Topic: r.Topic, Position: position, Accepted: utc(r.Accepted), Key: jsonValue(r.Key), Headers: []jsonHeader{},
		Value: jsonValue(r.Value), Reason: letter.Reason, Cause: letter.Cause, Died: utc(letter.At)}
	for _, h := range r.Headers {
		out.Headers = append(out.Headers, jsonHeader{jsonValue(h.Name), jsonValue(h.Value)})
	}
	var line bytes.Buffer
	encoder := json.NewEncoder(&line)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(out); err != nil {
		return err
	}
	_, err := w.Write(escaped(line.Bytes()))
	return err
}

// escaped returns a line of JSON without terminal sequences. The encoder handles ASCII; all other characters
// are inside strings.
func escaped(line []byte) []byte {
	var out []byte
	for _, r := range string(line) {
		switch {
		case r < 0x7f || unicode.IsPrint(r):
			out = utf8.AppendRune(out, r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			out = fmt.Appendf(out, `\u%04x\u%04x`, high, low)
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
	}
	return out
}

func utc(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}
