package configtest

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

// OddFile is the path of the table of odd files, below the folder of package config.
const OddFile = "testdata/odd.txt"

// Odd is an odd configuration file: what it says, and what becomes of it.
type Odd struct {
	File string // kafka.conf or cdr_kafka.conf
	Name string
	// There and Ours say what the module on librdkafka and res_kafka make of the file: "nothing", or who is served,
	// as in "produces a b, consumes b". What follows a semicolon in There says why.
	There, Ours string
	Deviates    string // the row of the README's table of deviations; empty = both do the same
	Text        string // with @DIR@ for the folder of keys
	Log         string // a line for each problem, with its level before it
}

// Serves lists what a word of There or Ours serves: "produces a", "consumes b".
func Serves(outcome string) []string {
	outcome, _, _ = strings.Cut(outcome, ";")
	var out []string
	for part := range strings.SplitSeq(outcome, ", ") {
		verb, names, _ := strings.Cut(strings.TrimSpace(part), " ")
		for name := range strings.FieldsSeq(names) {
			out = append(out, verb+" "+name)
		}
	}
	return out
}

// In returns the text of the file with the folder of keys in it, and a byte that is not UTF-8 where one belongs.
func (o *Odd) In(keys string) string {
	return strings.NewReplacer("@DIR@", keys, "@E9@", "\xe9").Replace(o.Text)
}

// Delivers reports whether everything that the module on librdkafka serves is served here too.
func (o *Odd) Delivers() bool {
	ours := Serves(o.Ours)
	return !slices.ContainsFunc(Serves(o.There), func(s string) bool { return !slices.Contains(ours, s) })
}

// ReadOdd reads the table and what stands before it.
func ReadOdd(path string) (head string, table []*Odd, err error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return "", nil, err
	}
	parts := strings.Split(string(content), "\n== ")
	for _, part := range parts[1:] {
		o := &Odd{}
		title, rest, _ := strings.Cut(part, "\n")
		o.File, o.Name, _ = strings.Cut(title, ": ")
		for _, field := range []struct {
			name string
			into *string
		}{{"there: ", &o.There}, {"ours: ", &o.Ours}, {"deviates: ", &o.Deviates}} {
			if after, found := strings.CutPrefix(rest, field.name); found {
				*field.into, rest, _ = strings.Cut(after, "\n")
			}
		}
		text, log, found := strings.Cut(rest, "\n--\n")
		if !found {
			return "", nil, fmt.Errorf("%s: %s: %s has no line --", path, o.File, o.Name)
		}
		o.Text = text + "\n"
		if log = strings.TrimSuffix(log, "\n"); log != "" {
			o.Log = log + "\n"
		}
		table = append(table, o)
	}
	return parts[0], table, nil
}

// WriteOdd is the inverse of ReadOdd.
func WriteOdd(path, head string, table []*Odd) error {
	var b strings.Builder
	b.WriteString(head)
	for _, o := range table {
		fmt.Fprintf(&b, "\n== %s: %s\nthere: %s\nours: %s\n", o.File, o.Name, o.There, o.Ours)
		if o.Deviates != "" {
			b.WriteString("deviates: " + o.Deviates + "\n")
		}
		b.WriteString(o.Text + "--\n" + o.Log)
	}
	return os.WriteFile(path, []byte(b.String()), 0o644)
}
