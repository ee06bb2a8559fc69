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
		Long: "No caller ever waits for the disk. A module can ask for another one for its own messages, as call detail" +
			" records do. Messages on disk do not expire with message_timeout_ms, and those that a broker refuses for" +
			" good are put aside there as dead letters.",
	}, func(c *Connection) any { return &c.Durability }},
	{Info{
		Name: "spool_dir", Label: "Spool directory", Kind: Directory, Reload: NextLoad, Since: "1.0.0",
		Short: "Directory for what waits on disk", Example: "/var/spool/asterisk/kafka",
		Unset: "kafka below Asterisk's spool directory (astspooldir)",
		Long: "Each connection has a directory of its own below it, for Asterisk alone to read. Without it, kafka below" +
			" Asterisk's spool directory is used. What waits in another directory stays there; reskafka spool replay" +
			" sends it.",
	}, func(c *Connection) any { return &c.SpoolDir }},
	{Info{
		Name: "spool_max_mbytes", Label: "Spool mbytes", Kind: Number, Unit: "MB",
		Default: "1024", Min: 1, Max: 1048576, Reload: AtOnce, Since: "1.0.0",
		Short: "Most room that the connection's messages may take on disk",
		Long: "In units of 1048576 bytes. An outage needs the bytes of what is produced while it lasts, and about 40" +
			" more for each message: a call detail record is about a kilobyte, so 1024 is good for about a million" +
			" calls. Dead letters come on top, bounded by themselves.",
	}, func(c *Connection) any { return &c.SpoolMaxMbytes }},
	{Info{
		Name: "spool_sync", Label: "Spool sync", Kind: Enumeration, Default: "interval", Reload: AtOnce, Since: "1.0.0",
		Also: []string{"spool_fsync", "fsync"},
		// The further synonyms are those of a well-known database (Redis, appendfsync).
		Words: []Word{
			{Text: "always", Short: "each time something is written"},
			{Text: "interval", Short: "within a second", Synonyms: []string{"everysec"}},
			{Text: "none", Short: "when the kernel likes, mostly within half a minute", Synonyms: []string{"no", "never"}},
		},
		Short: "When what is on disk survives a power cut",
		Long: "It survives the end of the process before that, always. No call waits for it; with always, a slow disk" +
			" limits how many messages a second get onto it.",
	}, func(c *Connection) any { return &c.SpoolSync }},
	{Info{
		Name: "spool_full", Label: "Spool full", Kind: Enumeration, Default: "refuse", Reload: AtOnce, Since: "1.0.0",
		Words: []Word{
			{Text: "refuse", Short: "what is new, so that the calling module knows"},
			{Text: "drop_oldest", Short: "what has waited longest is dropped, counted and logged", Synonyms: []string{"drop-oldest"}},
		},
		Short: "What is given up when spool_max_mbytes is reached or the disk is full",
		Long:  "With refuse, what waits already is kept.",
	}, func(c *Connection) any { return &c.SpoolFull }},
	{Info{
		Name: "spool_max_hours", Label: "Spool hours", Kind: Number, Unit: "hours",
		Default: "0", Min: 0, Max: 87600, Reload: AtOnce, Since: "1.0.0",
		Short: "How long a message may wait on disk",
		Long: "0 is for as long as it takes. What is older becomes a dead letter with the reason expired, which kafka" +
			" spool retry sends all the same. It counts from when a message was written to disk; setting the machine's clock" +
			" changes nothing. Only how long the machine itself was off is told by that clock, if it can be true.",
	}, func(c *Connection) any { return &c.SpoolMaxHours }},
	{Info{
		Name: "flush_timeout_ms", Label: "Flush timeout", Kind: Milliseconds, Unit: "ms",
		Default: "500", Min: 0, Max: 60000, Reload: AtOnce, Since: "1.0.0",
		Short: "How long a stop goes on delivering what waits in memory only",
		Long: "It is about messages whose durability is memory: when Asterisk stops or the module is unloaded, what is" +
			" not acknowledged by then is dropped, counted and logged. With more than 500, a stop can take longer than" +
			" a second.",
	}, func(c *Connection) any { return &c.FlushTimeout }},
}

// spoolNames lists the options above: they are shown after all others, because there were scripts before them that
// count lines.
func spoolNames() []string {
	var names []string
	for i := range spoolOptions {
		names = append(names, spoolOptions[i].Name)
	}
	return names
}
