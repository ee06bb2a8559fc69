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

What the engine counts and measures. ` + "`kafka show status`, `kafka show connection`, `kafka show consumer`" + ` and
` + "`kafka show spool`" + ` print these numbers. A counter only grows, and starts at zero with the engine. Counters of a
subscription and of responses start anew with their client, which a reload of ` + "`kafka.conf`" + ` may replace.

A value may lack a label. It is then about everything that the label would tell apart: records that have no topic yet, or
the producer of a connection where others name a subscription. A value that is not known is absent, not zero.

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
