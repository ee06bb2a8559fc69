package console

import (
	"fmt"
	"strconv"
	"strings"

	"reskafka/internal/config"
)

var consumerSkip = Command{
	Words:   "kafka consumer skip",
	Summary: "Go on behind a batch of Kafka messages that cannot be read",
	Usage: "Usage: kafka consumer skip <name> topic <topic> partition <partition>\n" +
		"       Has the consumer of a connection go on behind the batch of that partition that cannot be\n" +
		"       read. kafka show consumer and the log tell which one it is. Its messages are not delivered.\n",
	Waits:    true,
	Complete: completeConsumerSkip,
	Run:      runConsumerSkip,
}

func completeConsumerSkip(env Env, before []string, word string) []string {
	rest := arguments("kafka consumer skip", before)
	switch {
	case rest == nil:
	case len(rest) == 0:
		return candidates(word, consumerNames(env)...)
	case len(rest) == 1:
		return candidates(word, "topic")
	case len(rest) == 3:
		return candidates(word, "partition")
	case len(rest) == 2 || len(rest) == 4:
		return candidates(word, unreadablePlaces(env, rest)...)
	}
	return nil
}

// unreadablePlaces lists the topics with unreadable partitions of the first named consumer, or, after a
// topic, those partitions.
func unreadablePlaces(env Env, rest []string) []string {
	var places []string
	for _, c := range env.Consumers() {
		for _, m := range c.Members {
			for _, p := range m.Partitions {
				switch {
				case config.NameKey(c.Name) != config.NameKey(rest[0]) || p.Fault == "":
				case len(rest) == 2:
					places = append(places, p.Topic)
				case p.Topic == rest[2]:
					places = append(places, strconv.Itoa(int(p.Partition)))
				}
			}
		}
	}
	return places
}

func runConsumerSkip(env Env, args []string) (string, bool) {
	rest := arguments("kafka consumer skip", args)
	if len(rest) != 5 || !strings.EqualFold(rest[1], "topic") || !strings.EqualFold(rest[3], "partition") {
		return "", false
	}
	partition, err := strconv.ParseInt(rest[4], 10, 32)
	if err != nil || partition < 0 {
		return "", false
	}
	c, ok, answer := findConsumer(env, rest[0])
	if !ok {
		return answer, true
	}
	to, err := env.SkipBatch(c.Name, rest[2], int32(partition))
	if err != nil {
		return Failure(printable(err.Error()) + "\n"), true
	}
	return fmt.Sprintf("Going on with topic %s partition %d at offset %d\n", printable(rest[2]), partition, to), true
}
