package scenario

import (
	"fmt"
	"path/filepath"
	"testing"

	"reskafka/test/port"
)

// TestShowConsumer checks the administrator's view of three consumers: a slow callback, a changing
// assignment, and no broker.
func TestShowConsumer(t *testing.T) { everywhere(t, showConsumer) }

func showConsumer(t *testing.T, on kind) {
	dead := "[dead]\ntype = connection\nbrokers = " + port.Refused(t) + "\ngroup_id = dead\n"
	w := newWorld(t, options{on: on, parts: 1, files: map[string]string{"kafka.conf": group + dead}})
	topic := w.name("status")
	w.expect(`ensure 0`, "kafka probe ensure one %s 2 %d wait", topic, max(on.brokers, 1))
	partition := `(?m)^` + topic + ` +%s +\d+ +\d+ +\d+ +%s +\S+ +read$`
	all := func(lag string) string { return `(?m)^one +` + w.name("calls") + ` +Yes +stable +2 +` + lag + "$" }

	w.subscribe(topic, 200)
	w.until(`  Membership       stable, \d+ assignments?, last rebalance \d+s ago\n  Member ID        asterisk-`, "kafka show consumer one")
	w.send(topic, numbers(0, 20)...)
	w.until(fmt.Sprintf(partition, `[01]`, `[1-9]\d*`), "kafka show consumer one")
	w.until(`  Callback         .*one runs for `, "kafka show consumer one")
	w.until(all(`[1-9]\d* +\d+`), "kafka show consumers")
	w.until(`  Delivered        20 messages\n  Callback         2\d\d.* ms on average in the last batch`, "kafka show consumer one")
	w.expect(all(`0 +20`), "kafka show consumers")
	w.until(`(?m)^`+topic+` +0 +(\d+) .* \d+ +read$`, "kafka show consumer one")

	w.expect(`subscribe 0`, "kafka probe second one %s %s", topic, filepath.Join(w.dir, "second"))
	w.until(`(?s)member of the group, 1 partition\n.*member of the group, 1 partition\n`, "kafka show consumer one")
	w.until(all(`0 +20`), "kafka show consumers")

	w.cli("kafka probe end")
	w.expect(`subscribe 0`, "kafka probe subscribe dead %s %s 0", topic, filepath.Join(w.dir, "dead"))
	w.until(`  Membership       error\n(?s:.*)  Last error       \d+s ago: connection refused`, "kafka show consumer dead")
	w.expect(`(?m)^dead +dead +Yes +error +0 +0 +0$`, "kafka show consumers")
}
