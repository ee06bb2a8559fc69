package config

// CDR is the content of cdr_kafka.conf.
type CDR struct {
	Connection   string
	Topic        string
	Key          string // the CDR field for the key, in lower case; empty = no key
	LogUniqueID  bool
	LogUserField bool
	Durability   string // memory, overflow, disk

	TopicPartitions  int // of the topic, at its creation; 0 = the brokers choose
	TopicReplication int // the same for its replicas; with both 0 the topic is not created
}

// cdrTable is [global] of cdr_kafka.conf.
var cdrTable = Table[CDR]{
	Section: "global",
	What:    "[global]",
	Short:   "Where call detail records go",
	Options: []Option[CDR]{
		{Info{
			Name: "connection", Label: "Connection", Kind: Text, Required: true, Reload: AtOnce, Since: "1.0.0",
			Short: "Connection to publish on", Give: "the name of a connection of kafka.conf", Example: "my-kafka",
			Long: "Records are kept and sent by the settings of that connection.",
		}, func(c *CDR) any { return &c.Connection }},
		{Info{
			Name: "topic", Label: "Topic", Kind: Topic, Default: "asterisk_cdr", Reload: AtOnce, Since: "1.0.0",
			Short: "Topic to publish to",
			Long:  "Every call detail record becomes one message: a JSON object.",
		}, func(c *CDR) any { return &c.Topic }},
		{Info{
			Name: "key", Label: "Key", Kind: Enumeration, Tolerant: true, Reload: AtOnce, Since: "1.0.0",
			Words: []Word{
				{Text: "linkedid"}, {Text: "uniqueid"}, {Text: "channel"}, {Text: "dstchannel"}, {Text: "accountcode"},
				{Text: "src"}, {Text: "dst"}, {Text: "dcontext"},
				{Text: "tenantid", Short: "where the Asterisk version has it"},
				{Text: "peertenantid", Short: "where the Asterisk version has it"},
			},
			Short: "Field of the record that becomes the message's key", Example: "linkedid",
			Long: "Messages of one key go to one partition and keep their order; linkedid keeps all records of a call" +
				" together. Without it they are spread over all partitions.",
		}, func(c *CDR) any { return &c.Key }},
		{Info{
			Name: "loguniqueid", Label: "Unique ID", Kind: Boolean, Default: "no", Reload: AtOnce, Since: "1.0.0",
			Short: "Whether records carry uniqueid",
			Long:  "The unique ID of the channel.",
		}, func(c *CDR) any { return &c.LogUniqueID }},
		{Info{
			Name: "loguserfield", Label: "User field", Kind: Boolean, Default: "no", Reload: AtOnce, Since: "1.0.0",
			Short: "Whether records carry userfield",
			Long:  "What the dialplan put into CDR(userfield).",
		}, func(c *CDR) any { return &c.LogUserField }},
		{Info{
			Name: "durability", Label: "Durability", Kind: Enumeration, Default: "disk", Reload: AtOnce, Since: "1.0.0",
			Words: durabilityWords,
			Short: "Where records wait for their delivery",
			Long: "It replaces the connection's own durability. If other modules publish to the same topic, the strictest" +
				" one counts for all of its records. The connection limits the disk (spool_max_mbytes, spool_full).",
		}, func(c *CDR) any { return &c.Durability }},
		{Info{
			Name: "topic_partitions", Label: "Topic partitions", Kind: Number, Default: "0", Min: 0, Max: 2147483647, Reload: AtOnce,
			Since: "1.0.0",
			Short: "Partitions of the topic, if it is to be created",
			Long: "If topic_partitions or topic_replication is above 0, the topic is created as soon as brokers can be reached." +
				" 0 in one of the two leaves that number to the brokers. With 0 in both the topic is not created, except by" +
				" the brokers (auto.create.topics.enable). An existing topic is not changed.",
		}, func(c *CDR) any { return &c.TopicPartitions }},
		{Info{
			Name: "topic_replication", Label: "Topic replication", Kind: Number, Default: "0", Min: 0, Max: 32767, Reload: AtOnce,
			Since: "1.0.0",
			Short: "Replicas of the topic, if it is to be created",
			Long:  "See topic_partitions. The cluster needs at least as many brokers.",
		}, func(c *CDR) any { return &c.TopicReplication }},
	},
}

// ParseCDR reads cdr_kafka.conf from the lines of Asterisk's loader. It reports every problem, in the order
// of the file; with an Error among them the configuration is nil. The caller checks whether the connection
// exists.
func ParseCDR(entries []Entry) (*CDR, []Problem) {
	return parseOne(&cdrTable, CDRFile.Name, entries)
}

// parseOne reads a file with a single section of a fixed name.
func parseOne[T any](t *Table[T], file string, entries []Entry) (*T, []Problem) {
	log := &problemLog{file: file}
	cfg := t.filled()
	found := false
	for _, s := range joinedSections(entries, log) {
		if NameKey(s.name) != t.Section {
			log.add(Warning, s.at, "", "", "is not a section of this file and is ignored; write ["+t.Section+"]")
			continue
		}
		found = true
		t.read(s, cfg, log)
	}
	if !found {
		none := placedEntry{Entry: Entry{Section: t.Section}, index: len(entries)}
		t.read(&section{name: t.Section, at: none}, cfg, log)
	}
	problems := log.inOrder()
	if HasErrors(problems) {
		return nil, problems
	}
	return cfg, problems
}
