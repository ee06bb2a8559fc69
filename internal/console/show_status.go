package console

import (
	"fmt"
	"time"

	"reskafka/internal/metrics"
)

var showStatus = Command{
	Words:   "kafka show status",
	Summary: "Show the Kafka connections",
	Usage: "Usage: kafka show status\n" +
		"       Lists the connections of kafka.conf, whether their brokers are connected, and how many\n" +
		"       messages wait for delivery, in memory or on disk, have been dropped, or are dead letters,\n" +
		"       which kafka spool retry sends again.\n",
	Run: runShowStatus,
}

func runShowStatus(env Env, args []string) (string, bool) {
	if rest := arguments("kafka show status", args); rest == nil || len(rest) > 0 {
		return "", false
	}
	if !env.Enabled() {
		return disabledText, true
	}
	connections := env.Connections()
	if len(connections) == 0 {
		return noConnections, true
	}
	now := env.Now()
	var rows [][]string
	for _, c := range connections {
		rows = append(rows, []string{
			printable(c.Name), printable(c.Brokers), stateOf(c.States, c.Numbers, now),
			waiting.cell(c.Numbers), spooled.cell(c.Numbers), dropped.cell(c.Numbers), deadLetters.cell(c.Numbers),
		})
	}
	return "Connections:\n" + table([]column{
		{title: "Name", least: 16},
		{title: "Brokers", least: 26, most: 60},
		{title: "State", least: 14, most: 40},
		{title: "Waiting", least: 10, most: 24, right: true},
		{title: "Spooled", least: 10, most: 24, right: true},
		{title: "Dropped", least: 10, most: 24, right: true},
		{title: "Dead letters", least: 14, most: 24, right: true},
	}, rows), true
}

// stateOf describes a connection's brokers in a few words. Unneeded brokers do not count.
func stateOf(states []BrokerState, v *metrics.Values, now time.Time) string {
	connected := v.Sum(metrics.BrokerConnected)
	idle, needed := uint64(0), uint64(0)
	var since, connecting time.Time // loss of the last broker, and start of the oldest connection attempt
	for _, s := range states {
		if s.Unneeded && s.Connecting.IsZero() {
			continue
		}
		needed++
		switch {
		case s.Connected:
		case !s.Connecting.IsZero() && (s.Since.IsZero() || s.Idle):
			if connecting.IsZero() || s.Connecting.Before(connecting) {
				connecting = s.Connecting
			}
		case s.Idle:
			idle++
		case s.Since.After(since):
			since = s.Since
		}
	}
	switch {
	case needed == 0:
		return "not used yet"
	case connected > 0 && connected+idle == needed:
		return "connected"
	case connected > 0:
		return fmt.Sprintf("connected to %d of %d", connected, needed)
	case !since.IsZero():
		return "not connected for " + age(now.Sub(since))
	case !connecting.IsZero():
		return "connecting for " + age(now.Sub(connecting))
	case idle == needed:
		return "idle"
	}
	return "not connected"
}
