package console

import (
	"context"
	"math"
	"strconv"
	"strings"
)

var topicCreate = Command{
	Words:   "kafka topic create",
	Summary: "Create a Kafka topic",
	Usage: "Usage: kafka topic create <connection> <topic> [partitions <n>] [replication <n>]\n" +
		"       Creates a topic with the rights of a connection of kafka.conf. What is left out is\n" +
		"       for the brokers to choose. A topic that is there already stays as it is.\n",
	Waits:    true,
	Complete: completeTopicCreate,
	Run:      runTopicCreate,
}

// topicNumbers are the words before a number, with Kafka's largest value.
var topicNumbers = []struct {
	word string
	most int
}{{"partitions", math.MaxInt32}, {"replication", math.MaxInt16}}

func completeTopicCreate(env Env, before []string, word string) []string {
	rest := arguments("kafka topic create", before)
	switch {
	case rest == nil:
		return nil
	case len(rest) == 0:
		return candidates(word, connectionNames(env)...)
	case len(rest)%2 != 0: // a topic or a number
		return nil
	}
	var offered []string
	for _, n := range topicNumbers {
		if !contains(rest[2:], n.word) {
			offered = append(offered, n.word)
		}
	}
	return candidates(word, offered...)
}

// contains reports whether a word is at an even index, in any case.
func contains(rest []string, word string) bool {
	for i := 0; i < len(rest); i += 2 {
		if strings.EqualFold(rest[i], word) {
			return true
		}
	}
	return false
}

func runTopicCreate(env Env, args []string) (string, bool) {
	rest := arguments("kafka topic create", args)
	if len(rest) < 2 || len(rest)%2 != 0 {
		return "", false
	}
	numbers := make([]int, len(topicNumbers))
	for i := 2; i < len(rest); i += 2 {
		known := false
		for j, n := range topicNumbers {
			if !strings.EqualFold(rest[i], n.word) || numbers[j] != 0 {
				continue
			}
			known = true
			number, err := strconv.Atoi(rest[i+1])
			if err != nil || number < 1 || number > n.most {
				return Failure(n.word + " = " + printable(rest[i+1]) + " is not a whole number from 1 to " + strconv.Itoa(n.most) + "\n"), true
			}
			numbers[j] = number
		}
		if !known {
			return "", false
		}
	}
	if _, ok := env.Connection(rest[0]); !ok {
		return noConnection(env, rest[0]), true
	}
	created, err := env.CreateTopic(context.Background(), rest[0], rest[1], numbers[0], numbers[1])
	switch {
	case err != nil:
		return Failure("Topic not created: " + printable(err.Error()) + "\n"), true
	case created:
		return "Topic " + printable(rest[1]) + " created\n", true
	}
	return "Topic " + printable(rest[1]) + " is there already, it stays as it is\n", true
}
