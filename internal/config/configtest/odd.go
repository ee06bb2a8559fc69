package configtest

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

// OddFile is the path of the table of odd files, below the folder of package config.
const OddFile = "testdata/odd.txt"

// Odd is an odd configuration file with its results.
type Odd struct {
	File string // kafka.conf or cdr_kafka.conf
	Name string
	// There and Ours are the results of the module on librdkafka and of res_kafka: "nothing", or the served
	// connections, as in "produces a b, consumes b". The reason follows a semicolon in There.
	There, Ours string
	Deviates    string // the row of the README's table of deviations; empty = both do the same
	Text        string // with @DIR@ for the folder of keys
	Log         string // a line for each problem, after its level
}

// Serves lists the services in There or Ours: "produces a", "consumes b".
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

// In returns the text of the file with the folder of keys and, where marked, a byte outside UTF-8.
func (o *Odd) In(keys string) string {
	return strings.NewReplacer("@DIR@", keys, "@E9@", "\xe9").Replace(o.Text)
}

// Delivers reports whether all services of the module on librdkafka exist here too.
func (o *Odd) Delivers() bool {
	ours := Serves(o.Ours)
	return !slices.ContainsFunc(Serves(o.There), func(s string) bool { return !slices.Contains(ours, s) })
}

// ReadOdd reads the table and the text before it.
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
