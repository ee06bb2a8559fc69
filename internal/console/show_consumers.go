package console

import (
	"slices"
	"strconv"

	"reskafka/internal/metrics"
)

var showConsumers = Command{
	Words:   "kafka show consumers",
	Summary: "Show the Kafka consumers",
	Usage: "Usage: kafka show consumers\n" +
		"       Lists the connections of kafka.conf that have a group_id, and whether a module is\n" +
		"       subscribed on them; the state of its membership, how many partitions it has, how many\n" +
		"       messages they hold that were not delivered yet, and how many were.\n",
	Run: runShowConsumers,
}

func runShowConsumers(env Env, args []string) (string, bool) {
	if rest := arguments("kafka show consumers", args); rest == nil || len(rest) > 0 {
		return "", false
	}
	if !env.Enabled() {
		return disabledText, true
	}
	consumers := env.Consumers()
	if len(consumers) == 0 {
		return "No consumers: no connection in kafka.conf has a group_id\n", true
	}
	var rows [][]string
	for _, c := range consumers {
		row := []string{printable(c.Name), printable(c.GroupID), yesNo(c.Subscribed), c.state()}
		for _, m := range consumerColumns {
			row = append(row, strconv.FormatUint(c.sum(m.metrics...), 10))
		}
		rows = append(rows, row)
	}
	columns := []column{
		{title: "Name", least: 16},
		{title: "Group ID", least: 26},
		{title: "Subscribed", least: 12},
		{title: "State", least: 9},
	}
	for _, m := range consumerColumns {
		columns = append(columns, numberColumn(m.title))
	}
	return table(columns, rows), true
}

var consumerColumns = []count{
	number("Partitions", metrics.Assigned), number("Lag", metrics.Lag), number("Delivered", metrics.Delivered),
}

// sum adds up the numbers of all subscriptions.
func (c *ConsumerStatus) sum(of ...*metrics.Metric) (n uint64) {
	for _, m := range c.Members {
		n += m.Numbers.Sum(of...)
	}
	return n
}

// state returns the state of the subscription most in need of attention.
func (c *ConsumerStatus) state() string {
	for _, state := range []string{"error", "left", "joining", "paused", "stable"} {
		if slices.ContainsFunc(c.Members, func(m MemberStatus) bool { return m.State == state }) {
			return state
		}
	}
	return "-"
}
