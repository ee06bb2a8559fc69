package config

import "strings"

var consumerOptions = []Option[Connection]{
	{Info{
		Name: "group_id", Label: "Group ID", Kind: Text, Since: "1.0.0",
		Also:  []string{"consumer_group", "group"},
		Short: "Consumer group", Example: "asterisk",
		Long: "Needed for consuming only. The members of a group share the partitions of a topic; give each Asterisk a" +
			" group of its own where every one must see every message.",
	}, func(c *Connection) any { return &c.GroupID }},
	{Info{
		Name: "auto_offset_reset", Label: "Auto offset reset", Kind: Enumeration, Default: "latest", Since: "1.0.0",
		// The synonyms are librdkafka's.
		Words: []Word{
			{Text: "earliest", Short: "at the oldest message there is", Synonyms: []string{"smallest", "beginning"}},
			{Text: "latest", Short: "at the messages that come from now on", Synonyms: []string{"largest", "end"}},
			{Text: "none", Short: "nowhere: the log says so and nothing is consumed", Synonyms: []string{"error"}},
		},
		Short: "Where a group without a committed offset begins",
		Long:  "It also decides when the committed offset is no longer there.",
	}, func(c *Connection) any { return &c.AutoOffsetReset }},
	{Info{
		Name: "enable_auto_commit", Label: "Enable auto commit", Kind: Boolean, Default: "yes", Since: "1.0.0",
		Short: "Whether the offsets of delivered messages are committed",
		Long: "With yes, an offset is committed after the callback has returned: a crash repeats messages and loses none." +
			" With no, only ast_kafka_consumer_commit commits: the subscription of a module that never calls it always" +
			" begins where auto_offset_reset says.",
	}, func(c *Connection) any { return &c.AutoCommit }},
	{Info{
		Name: "auto_commit_interval_ms", Label: "Auto commit interval", Kind: Milliseconds, Unit: "ms",
		Default: "5000", Min: 1, Max: 86400000, Since: "1.0.0",
		Short: "How often offsets are committed",
		Long:  "Messages delivered since the last commit are delivered again after a crash.",
	}, func(c *Connection) any { return &c.AutoCommitInterval }},
	{Info{
		Name: "session_timeout_ms", Label: "Session timeout", Kind: Milliseconds, Unit: "ms",
		Default: "45000", Min: 1000, Max: 3600000, Since: "1.0.0",
		Short: "How long the group waits for a sign of life before it gives a member's partitions away",
		Long: "The brokers allow 6 s to 30 min unless they are set up otherwise. It may not be more than" +
			" max_poll_interval_ms.",
	}, func(c *Connection) any { return &c.SessionTimeout }},
	{Info{
		Name: "max_poll_interval_ms", Label: "Max poll interval", Kind: Milliseconds, Unit: "ms",
		Default: "300000", Min: 1000, Max: 86400000, Since: "1.0.0",
		Short: "Longest time a module may take over one message",
		Long:  "After that the consumer leaves its group, so that others get its partitions, until the module is done.",
	}, func(c *Connection) any { return &c.MaxPollInterval }},
}

// debugOptions come last.
var debugOptions = []Option[Connection]{
	{Info{
		Name: "debug", Label: "Debug", Kind: WordList, Since: "1.0.0",
		Words: debugContexts,
		Short: "Which client events reach the debug log",
		Long: "The names are librdkafka's. In this client " + strings.Join(silentContexts, ", ") + " print nothing." +
			" Asterisk's debug messages must be switched on as well (core set debug).",
		Example: "broker,security",
	}, func(c *Connection) any { return &c.Debug }},
}

// silentContexts are the debugContexts for parts of librdkafka without a counterpart here.
var silentContexts = []string{"interceptor", "plugin", "mock", "telemetry"}

// debugContexts are librdkafka's (CONFIGURATION.md, property debug).
var debugContexts = []Word{
	{Text: "generic"}, {Text: "broker"}, {Text: "topic"}, {Text: "metadata"}, {Text: "feature"}, {Text: "queue"},
	{Text: "msg"}, {Text: "protocol"}, {Text: "cgrp"}, {Text: "security"}, {Text: "fetch"}, {Text: "interceptor"},
	{Text: "plugin"}, {Text: "consumer"}, {Text: "admin"}, {Text: "eos"}, {Text: "mock"}, {Text: "assignor"},
	{Text: "conf"}, {Text: "telemetry"}, {Text: "all"},
}
