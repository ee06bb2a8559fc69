package metrics

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestTable_Names_FollowPrometheus checks the rules of Prometheus' format: unique names with their unit,
// _total for counters only, known labels, the connection first.
func TestTable_Names_FollowPrometheus(t *testing.T) {
	suffixes := map[Unit]string{Bytes: "_bytes", Seconds: "_seconds", Timestamp: "_timestamp_seconds"}
	seen := map[string]bool{}
	for _, m := range Table {
		if !regexp.MustCompile(`^reskafka(_[a-z]+)+$`).MatchString(m.Name) || seen[m.Name] {
			t.Errorf("%s: not a name, or there twice", m.Name)
		}
		seen[m.Name] = true
		if strings.HasSuffix(m.Name, "_total") != (m.Kind == Counter) {
			t.Errorf("%s is a %s", m.Name, m.Kind)
		}
		if !strings.HasSuffix(strings.TrimSuffix(m.Name, "_total"), suffixes[m.Unit]) {
			t.Errorf("%s counts %s", m.Name, m.Unit)
		}
		if m.Labels[0] != Connection {
			t.Errorf("%s: the first label is %s", m.Name, m.Labels[0])
		}
		for _, label := range m.Labels {
			if !slices.ContainsFunc(Labels, func(l struct{ Name, Help string }) bool { return l.Name == label }) {
				t.Errorf("%s: unknown label %s", m.Name, label)
			}
		}
		if !strings.HasSuffix(m.Help, ".") || strings.Contains(m.Help, "|") {
			t.Errorf("%s: %q is no sentence for a table", m.Name, m.Help)
		}
	}
}
