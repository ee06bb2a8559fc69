package console

import (
	"context"
	"strings"
)

var testSend = Command{
	Words:   "kafka test send connection",
	Summary: "Send a test message to Kafka",
	Usage: "Usage: kafka test send connection <name> topic <topic> message <message> [key <key>]\n" +
		"       Sends one message on a connection of kafka.conf and says whether the broker has\n" +
		"       acknowledged it, or why not.\n",
	Waits:    true,
	Complete: completeTestSend,
	Run:      runTestSend,
}

// testSendWords are the literal words among the arguments, by index; the indices in between have values.
var testSendWords = []string{1: "topic", 3: "message", 5: "key"}

// testSendWordsFit reports whether every literal word of the arguments is at its index.
func testSendWordsFit(rest []string) bool {
	for i, want := range testSendWords {
		if want != "" && i < len(rest) && !strings.EqualFold(rest[i], want) {
			return false
		}
	}
	return true
}

func completeTestSend(env Env, before []string, word string) []string {
	rest := arguments("kafka test send connection", before)
	switch {
	case rest == nil, !testSendWordsFit(rest):
		return nil
	case len(rest) == 0:
		return candidates(word, connectionNames(env)...)
	case len(rest) < len(testSendWords):
		return candidates(word, testSendWords[len(rest)])
	}
	return nil
}

func runTestSend(env Env, args []string) (string, bool) {
	rest := arguments("kafka test send connection", args)
	if len(rest) != 5 && len(rest) != 7 || !testSendWordsFit(rest) {
		return "", false
	}
	if _, ok := env.Connection(rest[0]); !ok {
		return noConnection(env, rest[0]), true
	}
	var key *string
	if len(rest) == 7 {
		key = &rest[6]
	}
	// Env has the limit of request_timeout_ms.
	if err := env.TestSend(context.Background(), rest[0], rest[2], rest[4], key); err != nil {
		return Failure("Message not sent: " + printable(err.Error()) + "\n"), true
	}
	return "Message sent successfully\n", true
}
