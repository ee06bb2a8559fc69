package client

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kerr"
)

// One table has a sentence for each refusal and failure by a broker or the network. words_codes.go has the
// rows of Kafka's error codes. words_table.go has the rows of the network, TLS, SASL, the client library and
// this package. The log, `kafka show connection` and `kafka test send` print these sentences.
//
// To add a failure, add a row. For a failure unknown to errors.Is, add a constant to words_table.go too, and
// return SentenceOf(theConstant, arguments...) in cause.go. `go test ./internal/kafka/client -run TestWords
// -update` rewrites testdata/words.golden. A row has a cause and, unless the failure ends without help, an
// option or a remedy. A %s in cause or remedy is an argument. Text from outside is inserted unchanged: the
// log and the console escape the text.

// words is a row of the table.
type words struct {
	of      error   // a Kafka error, an errno, a constant of ours, or an error of the client library
	purpose Purpose // kind of requests; empty = all without a row of their own
	area    string  // prefix of the cause; a Kafka error has its own name there
	cause   string
	option  string // of kafka.conf; several are joined by "and"
	remedy  string
	address bool // the sentence says where the broker's address comes from
	varies  bool // the arguments differ each time
}

// Purpose is the purpose of a request. Some error codes depend on the purpose.
type Purpose string

const (
	ToProduce Purpose = "produce" // records
	ToConsume Purpose = "consume" // records
	ToJoin    Purpose = "join"    // a group
	ToCommit  Purpose = "commit"  // offsets
	ToCreate  Purpose = "create"  // a topic
)

// Situation is a failure without another error value. It has a row in the table of sentences.
type Situation string

func (s Situation) Error() string { return string(s) }

// libraryError is an unexported error of the client library, recognized by its text.
type libraryError string

func (e libraryError) Error() string { return string(e) }

// Sentence is a row of the table with the arguments of a failure. The zero value is no sentence.
type Sentence struct {
	row  *words
	args []any
	said string // the broker's own message
	from string // where the broker's address comes from
}

// SentenceOf returns the sentence of a failure.
func SentenceOf(of Situation, args ...any) Sentence { return Sentence{row: rowOf(of, ""), args: args} }

// rowOf finds the row of a failure, or nil.
func rowOf(err error, purpose Purpose) *words {
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
func (s Sentence) String() string { return s.render(s.said) }

// Key returns the sentence without changing parts, such as the broker's own message, for the log's throttle.
func (s Sentence) Key() string {
	if s.row.varies {
		return s.row.of.Error()
	}
	return s.render("")
}

func (s Sentence) render(said string) string {
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

// brief cuts a long text between two characters.
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

// Is reports whether the sentence belongs to a situation.
func (s Sentence) Is(of Situation) bool { return s.row != nil && s.row.of == error(of) }

// Empty reports whether there is no sentence.
func (s Sentence) Empty() bool { return s.row == nil }

func (w *words) title() string {
	if code, ok := w.of.(*kerr.Error); ok && w.area == "" {
		return code.Message
	}
	return w.area
}

// described is an error with its sentence.
type described struct {
	Sentence
	err error
}

func (e *described) Error() string { return e.String() }
func (e *described) Unwrap() error { return e.err }

// WithSentence returns err with the sentence of a failure.
func WithSentence(err error, of Situation, args ...any) error {
	return &described{SentenceOf(of, args...), err}
}

// WithDescription returns err with its sentence as the failure of a request.
func WithDescription(err error, purpose Purpose) error {
	return &described{Describe(AnswerTo(purpose, err)), err}
}

// answer is a broker's error code for a request.
type answer struct {
	err     error // a *kerr.Error
	purpose Purpose
	number  int16  // the code, if unknown to the client library
	said    string // the broker's own message
}

// AnswerOf returns the error of a code, or nil for 0. said is the broker's own message, which may be nil.
func AnswerOf(code int16, said *string, purpose Purpose) error {
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

// AnswerTo returns err as the answer to a request, if err is an error code of Kafka, and else err.
func AnswerTo(purpose Purpose, err error) error {
	code, ok := errors.AsType[*kerr.Error](err)
	if _, known := errors.AsType[*answer](err); !ok || known {
		return err
	}
	return &answer{err: code, purpose: purpose, said: messageIn(err, code)}
}

// messageIn returns the broker's own message from an error of the client library, which appends the message
// to the code's text.
func messageIn(err error, code *kerr.Error) string {
	_, said, _ := strings.Cut(err.Error(), code.Error()+": ")
	return said
}

func (a *answer) Error() string { return a.sentence().String() }
func (a *answer) Unwrap() error { return a.err }

// Refused returns the reason of a refusal that is not final, else "". The outbox reads it.
func (a *answer) Refused() string {
	reason, on, _ := VerdictOf(a.err)
	if on == OnRecord {
		return ""
	}
	return reason
}

func (a *answer) sentence() Sentence {
	if a.number != 0 {
		s := SentenceOf(unknownCode, fmt.Sprint(a.number))
		s.said = a.said
		return s
	}
	if row := rowOf(a.err, a.purpose); row != nil {
		return Sentence{row: row, said: a.said}
	}
	code, _ := errors.AsType[*kerr.Error](a.err)
	return Sentence{row: &words{of: code, cause: code.Description}, said: a.said}
}
