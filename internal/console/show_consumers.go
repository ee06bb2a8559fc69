package console

var showConsumers = Command{
	Words:   "kafka show consumers",
	Summary: "Show the Kafka consumers",
	Usage: "Usage: kafka show consumers\n" +
		"       Lists the connections of kafka.conf that have a group_id, and whether a module is\n" +
		"       subscribed on them.\n",
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
		rows = append(rows, []string{printable(c.Name), printable(c.GroupID), yesNo(c.Subscribed)})
	}
	return table([]column{
		{title: "Name", least: 16},
		{title: "Group ID", least: 26},
		{title: "Subscribed"},
	}, rows), true
}
