package docs

import (
	"fmt"
	"strings"

	"reskafka/internal/metrics"
)

// metricsPath is the page of the metrics.
const metricsPath = "docs/metrics.md"

const metricsHead = `# Metrics

*Generated from internal/metrics/table.go by ` + "`make generate`" + `.*

The numbers of the engine. ` + "`kafka show status`, `kafka show connection`, `kafka show consumer`" + ` and
` + "`kafka show spool`" + ` print these numbers. A counter only grows, and starts at zero with the engine. Counters of a
subscription and of responses also start at zero with their client; a reload of ` + "`kafka.conf`" + ` may replace the client.

A value without one of its labels covers everything the label would separate: records without a topic yet, or the
producer of a connection instead of a subscription. An unknown value is absent, not zero.

| label | value |
| --- | --- |
`

// Metrics renders the page of the metrics.
func Metrics() []byte {
	var b strings.Builder
	b.WriteString(metricsHead)
	for _, l := range metrics.Labels {
		fmt.Fprintf(&b, "| %s | %s |\n", l.Name, l.Help)
	}
	b.WriteString("\n| metric | kind | unit | labels | meaning |\n| --- | --- | --- | --- | --- |\n")
	for _, m := range metrics.Table {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", m.Name, m.Kind, m.Unit, strings.Join(m.Labels, ", "), m.Help)
	}
	return []byte(b.String())
}
