package kafka

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kerr"
)

// One table has a sentence for each refusal and failure that a broker or the network can cause: words_codes.go has the rows
// of Kafka's error codes, words_table.go those of the network, TLS, SASL, the client library and this package. The log,
// `kafka show connection` and `kafka test send` print these sentences.
//
// To add a failure, add one row. If errors.Is does not recognize it, add a constant to words_table.go as well and
// return inWords(theConstant, arguments...) where cause.go recognizes it. `go test ./internal/kafka -run TestWords -update`
// rewrites testdata/words.golden. A row has a cause and, unless the failure passes by itself, an option or a remedy. A %s in
// cause or remedy is an argument. Text from outside goes in as it is: the log and the console escape it.

// words is one row of the table.
type words struct {
	of      error  // a Kafka error, an errno, a constant of ours, or an error of the client library
	purpose what   // the row is for such requests only; empty = for all that have no row of their own
	area    string // stands before the cause; the name of a Kafka error stands there without being named here
	cause   string
	option  string // of kafka.conf; several are joined by "and"
	remedy  string
	address bool // the sentence says where the broker's address comes from
	varies  bool // the arguments differ each time
}

// what is the purpose of a request. Some error codes mean something else to each.
type what string

const (
	toProduce what = "produce"
	toConsume what = "consume"
	toJoin    what = "join"   // a group
	toCommit  what = "commit" // offsets
	toCreate  what = "create" // a topic
)

// failure is one that no other error value stands for.
type failure string

func (s failure) Error() string { return string(s) }

// libraryError is an error that the client library does not export. It is recognized by its text.
type libraryError string

func (e libraryError) Error() string { return string(e) }

// sentence is a row with what belongs to one failure.
type sentence struct {
	row  *words
	args []any
	said string // the broker's own message
	from string // where the broker's address comes from
}

// inWords returns the sentence of a failure.
func inWords(of failure, args ...any) sentence { return sentence{row: rowOf(of, ""), args: args} }

// rowOf finds the row of a failure, or nil.
func rowOf(err error, purpose what) *words {
	var found *words
	for _, rows := range [...][]words{codeWords, otherWords} {
		for i := range rows {
			row := &rows[i]
			if row.purpose != "" && row.purpose != purpose || found != nil && row.purpose == "" || !row.is(err) {
				continue
			}
			if found = row; row.purpose != "" {
				return found
			}
		}
	}
	return found
}

func (w *words) is(err error) bool {
	if text, ok := w.of.(libraryError); ok {
		return strings.Contains(err.Error(), string(text))
	}
	return errors.Is(err, w.of)
}

// maxSaid is how much of a broker's own message is repeated, in bytes.
const maxSaid = 300

// String returns the sentence: "area: cause; the broker says: ... (see option; remedy)".
func (s sentence) String() string { return s.render(s.said) }

// key returns the sentence without what may differ each time, such as the broker's own message: the log's throttle goes by it.
func (s sentence) key() string {
	if s.row.varies {
		return s.row.of.Error()
	}
	return s.render("")
}

func (s sentence) render(said string) string {
	inCause := strings.Count(s.row.cause, "%s")
	var text strings.Builder
	if area := s.row.title(); area != "" {
		text.WriteString(area + ": ")
	}
	text.WriteString(fmt.Sprintf(s.row.cause, s.args[:inCause]...))
	if said != "" {
		text.WriteString("; the broker says: " + brief(said))
	}
	var hints []string
	if s.row.option != "" {
		hints = append(hints, "see "+s.row.option)
	}
	if s.row.address && s.from != "" {
		hints = append(hints, s.from)
	}
	if s.row.remedy != "" {
		hints = append(hints, fmt.Sprintf(s.row.remedy, s.args[inCause:]...))
	}
	if len(hints) > 0 {
		text.WriteString(" (" + strings.Join(hints, "; ") + ")")
	}
	return text.String()
}

// brief cuts a text that is too long, between two characters.
func brief(text string) string {
	if len(text) <= maxSaid {
		return text
	}
	end := maxSaid
	for end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + "..."
}

// is reports whether the sentence is that of a failure.
func (s sentence) is(of failure) bool { return s.row != nil && s.row.of == error(of) }

// empty reports whether there is no sentence.
func (s sentence) empty() bool { return s.row == nil }

func (w *words) title() string {
	if code, ok := w.of.(*kerr.Error); ok && w.area == "" {
		return code.Message
	}
	return w.area
}

// described is an error with its sentence.
type described struct {
	sentence
	err error
}

func (e *described) Error() string { return e.String() }
func (e *described) Unwrap() error { return e.err }

// withSentence returns err with the sentence of a failure.
func withSentence(err error, of failure, args ...any) error {
	return &described{inWords(of, args...), err}
}

// withDescription returns err with its sentence as the failure of a request.
func withDescription(err error, purpose what) error {
	return &described{describe(answerTo(purpose, err)), err}
}

// answer is an error code that a broker answered a request with.
type answer struct {
	err     error // a *kerr.Error
	purpose what
	number  int16  // the code, where the client library does not know it
	said    string // the broker's own message
}

// answerOf returns the error of a code, or nil for 0. said is the broker's own message, which may be nil.
func answerOf(code int16, said *string, purpose what) error {
	err := kerr.ErrorForCode(code)
	if err == nil {
		return nil
	}
	a := &answer{err: err, purpose: purpose}
	if said != nil {
		a.said = *said
	}
	if errors.Is(err, kerr.UnknownServerError) && code != kerr.UnknownServerError.Code {
		a.number = code
	}
	return a
}

// answerTo returns err as the answer to a request, if err is an error code of Kafka, and else err.
func answerTo(purpose what, err error) error {
	code, ok := errors.AsType[*kerr.Error](err)
	if _, known := errors.AsType[*answer](err); !ok || known {
		return err
	}
	return &answer{err: code, purpose: purpose, said: messageIn(err, code)}
}

// messageIn returns the broker's own message in an error of the client library, which appends it to that of the code.
func messageIn(err error, code *kerr.Error) string {
	_, said, _ := strings.Cut(err.Error(), code.Error()+": ")
	return said
}

func (a *answer) Error() string { return a.sentence().String() }
func (a *answer) Unwrap() error { return a.err }

// Refused makes an answer one that outbox.Refusal describes, if it is not final.
func (a *answer) Refused() string {
	reason, on, _ := verdictOf(a.err)
	if on == onRecord {
		return ""
	}
	return reason
}

func (a *answer) sentence() sentence {
	if a.number != 0 {
		s := inWords(unknownCode, fmt.Sprint(a.number))
		s.said = a.said
		return s
	}
	if row := rowOf(a.err, a.purpose); row != nil {
		return sentence{row: row, said: a.said}
	}
	code, _ := errors.AsType[*kerr.Error](a.err)
	return sentence{row: &words{of: code, cause: code.Description}, said: a.said}
}
