package config

// durabilityWords are the values of durability, from the least to the most.
var durabilityWords = []Word{
	{Text: "memory", Short: "messages wait in memory, for message_timeout_ms at most"},
	{Text: "overflow", Short: "as memory, but what would be dropped there is kept on disk until it is delivered"},
	{Text: "disk", Short: "every message is kept on disk until it is delivered, and survives the end of the process"},
}

var spoolOptions = []Option[Connection]{
	{Info{
		Name: "durability", Label: "Durability", Kind: Enumeration, Default: "overflow", Reload: AtOnce, Since: "1.0.0",
		Also:  []string{"persistence"},
		Words: durabilityWords,
		Short: "Where messages wait for their delivery",
		Long: "No caller ever waits for the disk. A module can choose another durability for its own messages, as cdr_kafka" +
			" does. Messages on disk do not expire with message_timeout_ms. A message that a broker refuses for good" +
			" becomes a dead letter there. Messages of a topic that brokers refuse, such as for a missing right, wait" +
			" until that changes.",
	}, func(c *Connection) any { return &c.Durability }},
	{Info{
		Name: "spool_dir", Label: "Spool directory", Kind: Directory, Reload: NextLoad, Since: "1.0.0",
		Short: "Directory for messages that wait on disk", Example: "/var/spool/asterisk/kafka",
		Unset: "kafka below Asterisk's spool directory (astspooldir)",
		Long: "Each connection has a directory of its own below it, for Asterisk alone to read. Without it, kafka below" +
			" Asterisk's spool directory is used. After a change, messages in the old directory stay there;" +
			" reskafka spool replay sends them.",
	}, func(c *Connection) any { return &c.SpoolDir }},
	{Info{
		Name: "spool_max_mbytes", Label: "Spool mbytes", Kind: Number, Unit: "MB",
		Default: "1024", Min: 1, Max: 1048576, Reload: AtOnce, Since: "1.0.0",
		Short: "Most room that the connection's messages may take on disk",
		Long: "In units of 1048576 bytes. A message takes its size and about 40 bytes until it is acknowledged. A call" +
			" detail record is about a kilobyte, so 1024 lasts for about a million calls. Dead letters come on top," +
			" an eighth of this at most.",
	}, func(c *Connection) any { return &c.SpoolMaxMbytes }},
	{Info{
		Name: "spool_sync", Label: "Spool sync", Kind: Enumeration, Default: "interval", Reload: AtOnce, Since: "1.0.0",
		Also: []string{"spool_fsync", "fsync"},
		// The other synonyms come from a well-known database (Redis, appendfsync).
		Words: []Word{
			{Text: "always", Short: "each time something is written"},
			{Text: "interval", Short: "within a second", Synonyms: []string{"everysec"}},
			{Text: "none", Short: "when the kernel likes, mostly within half a minute", Synonyms: []string{"no", "never"}},
		},
		Short: "When messages on disk survive a power cut",
		Long: "They always survive the end of the process. No call waits for the disk; with always, a slow disk limits how" +
			" many messages a second are written.",
	}, func(c *Connection) any { return &c.SpoolSync }},
	{Info{
		Name: "spool_full", Label: "Spool full", Kind: Enumeration, Default: "refuse", Reload: AtOnce, Since: "1.0.0",
		Words: []Word{
			{Text: "refuse", Short: "new messages once the queue is full too, so that the calling module knows; waiting ones are kept"},
			{Text: "drop_oldest", Short: "the oldest messages of the topic that takes most room, counted and logged", Synonyms: []string{"drop-oldest"}},
		},
		Short: "Which messages are lost when spool_max_mbytes is reached or the disk is full",
		Long:  "All topics of a connection share its spool.",
	}, func(c *Connection) any { return &c.SpoolFull }},
	{Info{
		Name: "spool_max_hours", Label: "Spool hours", Kind: Number, Unit: "hours",
		Default: "0", Min: 0, Max: 87600, Reload: AtOnce, Since: "1.0.0",
		Short: "How long a message may wait on disk",
		Long: "0 is without limit. An older message becomes a dead letter with the reason expired, which kafka spool retry" +
			" still sends. The time since the message was written to disk counts, whatever the machine's clock is set to." +
			" Only the time that the machine was off is read from its clock, unless that is impossible.",
	}, func(c *Connection) any { return &c.SpoolMaxHours }},
	{Info{
		Name: "flush_timeout_ms", Label: "Flush timeout", Kind: Milliseconds, Unit: "ms",
		Default: "500", Min: 0, Max: 60000, Reload: AtOnce, Since: "1.0.0",
		Short: "How long a stop continues to deliver messages that are in memory only",
		Long: "Messages with durability = memory that are not acknowledged by then are dropped, counted and logged when" +
			" Asterisk stops or the module is unloaded. With more than 500, a stop can take longer than a second.",
	}, func(c *Connection) any { return &c.FlushTimeout }},
}

// spoolNames lists the options above, shown last, because older scripts count lines.
func spoolNames() []string {
	var names []string
	for i := range spoolOptions {
		names = append(names, spoolOptions[i].Name)
	}
	return names
}
