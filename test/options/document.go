package options

import (
	"fmt"
	"strings"
)

// Document renders documentation/options-tested.md.
func Document() string {
	var text strings.Builder
	text.WriteString(`# Every option and its test

Generated from the test's own table in ` + "`test/options`" + ` by ` + "`go test ./test/options -run TestDocument -update`" + `.

Each row runs twice. The first run has the option in ` + "`kafka.conf`" + ` and must show the effect. The second run has no
such option and must not show the effect; an engine without the option would behave like the second run. A required
option has another value in the second run, with the reason in the row.

The tests are ` + "`TestOptions/<option>=<value>`" + ` of ` + "`test/options`" + `, against the embedded broker. A row with a cross also
runs against Apache Kafka, ` + "`TestOptions/<option>=<value>`" + ` of ` + "`test/apache/options`" + `. Two crosses mean: the test also finds
the effect in the broker's own log of requests.

| option | value | effect | seen | in the second run | Apache Kafka | also checked by |
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
