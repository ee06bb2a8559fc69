package options

import (
	"fmt"
	"strings"
)

// Document is the table as documentation/options-tested.md shows it.
func Document() string {
	var text strings.Builder
	text.WriteString(`# Every option and the test that sees its effect

Made from the table in ` + "`test/options`" + `, which is what runs; ` + "`go test ./test/options -run TestDocument -update`" + ` writes it.

Each row is run twice: with the option in ` + "`kafka.conf`" + `, when its effect must be seen, and without it, when it must not. The second
run is what an engine that ignored the option would do, so it proves that the first would fail then. Where the option
cannot be left out, the second run has another value, and the row says why.

The tests are ` + "`TestOptions/<option>=<value>`" + ` of ` + "`test/options`" + `, against the embedded broker. Rows with a cross are run against Apache Kafka
too, ` + "`TestOptions/<option>=<value>`" + ` of ` + "`test/apache/options`" + `; those with two also look for the effect in the broker's own log of requests.

| option | value | effect | where it is seen | in the second run | Apache Kafka | held further by |
| --- | --- | --- | --- | --- | --- | --- |
`)
	for i := range Rows {
		r := &Rows[i]
		second := "left out"
		if r.Instead != nil {
			second = "`" + strings.Join(r.Instead, "`, `") + "`: " + r.Why
		}
		of := ""
		if r.Case != "" {
			of = ", " + r.Case
		}
		crosses := ""
		if r.Apache {
			crosses = "x"
		}
		if r.Logged != "" {
			crosses = "xx"
		}
		fmt.Fprintf(&text, "| `%s` | `%s`%s | %s | %s | %s | %s | %s |\n", r.Option, r.Value, of, r.Effect, r.Where, second, crosses, r.Beyond)
	}
	return text.String()
}
