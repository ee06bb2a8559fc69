package console

import (
	"strings"

	"reskafka/internal/metrics"
)

var spoolRetry = Command{
	Words:   "kafka spool retry",
	Summary: "Send the dead letters of a Kafka connection again",
	Usage: "Usage: kafka spool retry <connection> [topic <topic>]\n" +
		"       Makes the dead letters of a connection, or of one topic, messages again, which are sent like\n" +
		"       all others and have their spool_max_hours anew, and tries at once what waits after a failure.\n",
	Waits:    true,
	Complete: completeSpool("kafka spool retry"),
	Run: func(env Env, args []string) (string, bool) {
		return changeSpool(env, "kafka spool retry", args, retrySpool)
	},
}

var spoolPurge = Command{
	Words:   "kafka spool purge",
	Summary: "Throw away what waits on disk for Kafka",
	Usage: "Usage: kafka spool purge <connection> [topic <topic>]\n" +
		"       Throws away for good what a connection has on disk, or of one topic: the messages that wait\n" +
		"       there and the dead letters, all of which are counted as dropped. Messages that are in memory only\n" +
		"       stay. To look at them first: reskafka spool dump.\n",
	Waits:    true,
	Complete: completeSpool("kafka spool purge"),
	Run: func(env Env, args []string) (string, bool) {
		return changeSpool(env, "kafka spool purge", args, purgeSpool)
	},
}

// completeSpool completes the name of a connection, the word topic, and the name of a topic with records on
// disk.
func completeSpool(words string) func(env Env, before []string, word string) []string {
	return func(env Env, before []string, word string) []string {
		rest := arguments(words, before)
		switch {
		case rest == nil:
			return nil
		case len(rest) == 0:
			return candidates(word, connectionNames(env)...)
		case len(rest) == 1:
			return candidates(word, "topic")
		case len(rest) > 2 || !strings.EqualFold(rest[1], "topic"):
			return nil
		}
		c, _ := env.Connection(rest[0])
		var names []string
		for topic, v := range c.Numbers.Each(metrics.Topic) {
			if spooled.of(v)+deadLetters.of(v) > 0 {
				names = append(names, topic)
			}
		}
		return candidates(word, names...)
	}
}

// changeSpool runs a command on the spool of the named connection, if there is one.
func changeSpool(env Env, words string, args []string, change func(env Env, name, topic string) string) (string, bool) {
	rest := arguments(words, args)
	topic := ""
	if len(rest) == 3 && strings.EqualFold(rest[1], "topic") && rest[2] != "" {
		rest, topic = rest[:1], rest[2]
	}
	if len(rest) != 1 {
		return "", false
	}
	if _, ok := env.Spool(rest[0]); !ok {
		return noConnection(env, rest[0]), true
	}
	return change(env, rest[0], topic) + "\n", true
}

// retrySpool reports the finished part even after a failure.
func retrySpool(env Env, name, topic string) string {
	r, err := env.RetrySpool(name, topic)
	done := ""
	switch letters, topics := plural(r.Letters, "dead letter"), plural(uint64(r.Topics), "topic"); {
	case r.Letters > 0 && r.Topics > 0:
		done = "Sending " + letters + " again and trying " + topics + " at once"
	case r.Letters > 0:
		done = "Sending " + letters + " again"
	case r.Topics > 0:
		done = "Trying " + topics + " at once"
	}
	if err != nil {
		return failed("Retry", done, err)
	}
	if done == "" {
		return "Nothing to retry: there are no dead letters, and no topic waits after a failure"
	}
	return done
}

func purgeSpool(env Env, name, topic string) string {
	r, err := env.PurgeSpool(name, topic)
	done := ""
	if r.Records > 0 || r.Letters > 0 || r.Bytes > 0 {
		done = "Threw away " + plural(r.Records, "record") + " and " + plural(r.Letters, "dead letter") + ", " + size(r.Bytes)
	}
	if err != nil {
		return failed("Purge", done, err)
	}
	if done == "" {
		return "Nothing to purge: there are no records and no dead letters on disk"
	}
	return done
}

// failed describes a failure, followed by the finished part.
func failed(what, done string, err error) string {
	if done != "" {
		done = "\nDone before that: " + done
	}
	return Failure(what + " failed: " + printable(err.Error()) + done)
}
