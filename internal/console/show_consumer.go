package console

import (
	"strings"

	"reskafka/internal/config"
)

var showConsumer = Command{
	Words:   "kafka show consumer",
	Summary: "Show a Kafka consumer",
	Usage: "Usage: kafka show consumer <name>\n" +
		"       Shows the consumer of a connection of kafka.conf that has a group_id.\n",
	Complete: func(env Env, before []string, word string) []string {
		rest := arguments("kafka show consumer", before)
		if rest == nil || len(rest) > 0 {
			return nil
		}
		var names []string
		for _, c := range env.Consumers() {
			names = append(names, c.Name)
		}
		return candidates(word, names...)
	},
	Run: runShowConsumer,
}

func runShowConsumer(env Env, args []string) (string, bool) {
	rest := arguments("kafka show consumer", args)
	if len(rest) != 1 {
		return "", false
	}
	for _, c := range env.Consumers() {
		if config.NameKey(c.Name) == config.NameKey(rest[0]) {
			var b strings.Builder
			line(&b, "Name", printable(c.Name))
			line(&b, "Group ID", printable(c.GroupID))
			line(&b, "Subscribed", yesNo(c.Subscribed))
			return b.String(), true
		}
	}
	if _, ok := env.Connection(rest[0]); !ok {
		return noConnection(env, rest[0]), true
	}
	return Failure("Connection " + printable(rest[0]) + " does not consume: it has no group_id in kafka.conf\n"), true
}
