package console

var spoolRetry = Command{
	Words:   "kafka spool retry",
	Summary: "Send what a Kafka connection has given up again",
	Usage: "Usage: kafka spool retry <connection>\n" +
		"       Makes the dead letters of a connection messages again, which are sent like all others, and\n" +
		"       tries every topic at once that waits after a failure.\n",
	Complete: completeConnection("kafka spool retry"),
	Run: func(env Env, args []string) (string, bool) {
		return changeSpool(env, "kafka spool retry", args, retrySpool)
	},
}

var spoolPurge = Command{
	Words:   "kafka spool purge",
	Summary: "Throw away what waits on disk for Kafka",
	Usage: "Usage: kafka spool purge <connection>\n" +
		"       Throws away for good what a connection has on disk: the messages that wait there, which\n" +
		"       are counted as dropped, and the dead letters. Messages in memory stay. To look at them\n" +
		"       first: reskafka spool dump.\n",
	Complete: completeConnection("kafka spool purge"),
	Run: func(env Env, args []string) (string, bool) {
		return changeSpool(env, "kafka spool purge", args, purgeSpool)
	},
}

// changeSpool runs a command on the spool of the one connection that it names, if there is one.
func changeSpool(env Env, words string, args []string, change func(Env, string) string) (string, bool) {
	rest := arguments(words, args)
	if len(rest) != 1 {
		return "", false
	}
	if _, ok := env.Spool(rest[0]); !ok {
		return noConnection(env, rest[0]), true
	}
	return change(env, rest[0]) + "\n", true
}

// retrySpool says also after a failure what was done before it.
func retrySpool(env Env, name string) string {
	r, err := env.RetrySpool(name)
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

func purgeSpool(env Env, name string) string {
	r, err := env.PurgeSpool(name)
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

// failed says what went wrong, and behind it what had been done by then.
func failed(what, done string, err error) string {
	if done != "" {
		done = "\nDone before that: " + done
	}
	return Failure(what + " failed: " + printable(err.Error()) + done)
}
