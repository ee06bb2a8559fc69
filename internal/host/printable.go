package host

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Printable returns text without line breaks and terminal sequences: every character that is neither
// printable nor a blank becomes \x1b, \u202e and so on. Logf escapes log lines; package console and
// cmd/reskafka escape their output.
func Printable(text string) string {
	clean := func(r rune) bool { return r != utf8.RuneError && strconv.IsPrint(r) }
	if strings.IndexFunc(text, func(r rune) bool { return !clean(r) }) < 0 {
		return text
	}
	var b strings.Builder
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRuneInString(text[i:])
		switch {
		case clean(r), r == utf8.RuneError && size > 1: // U+FFFD itself is as good as any character.
			b.WriteString(text[i : i+size])
		case r < utf8.RuneSelf || size == 1:
			fmt.Fprintf(&b, `\x%02x`, text[i])
		case r <= 0xffff:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\U%08x`, r)
		}
		i += size
	}
	return b.String()
}
