package host

import "testing"

func TestPrintable_AnyText_StaysOnItsLine(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"", ""}, {"my-kafka", "my-kafka"}, {"Zürich 通話", "Zürich 通話"}, {"\ufffd", "\ufffd"},
		{"a\x1b[31mb", `a\x1b[31mb`}, {"a\r\n\tb\x7f\x00", `a\x0d\x0a\x09b\x7f\x00`}, {"\xe9t\xff", `\xe9t\xff`},
		{"\u009b\u202e\u2028", `\u009b\u202e\u2028`}, {"\U000e0001", `\U000e0001`}, {"\xff\ufffd", `\xff` + "\ufffd"},
	} {
		if got := Printable(c.in); got != c.want {
			t.Errorf("%q: got %q, want %q", c.in, got, c.want)
		}
	}
}

// TestLogf_TextFromOutside_IsEscaped guards the log and the terminal of its reader: a broker's message may
// contain anything.
func TestLogf_TextFromOutside_IsEscaped(t *testing.T) {
	var log lines
	Logf(&log, Error, "the broker says: %s", "a\r\n[2026] ERROR: b\x1b[2J\a\x00\xff\u202e")
	if want := `the broker says: a\x0d\x0a[2026] ERROR: b\x1b[2J\x07\x00\xff\u202e`; len(log) != 1 || log[0] != want {
		t.Errorf("logged %q, want %q", log, want)
	}
}
