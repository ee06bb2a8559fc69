package config

var producerOptions = []Option[Connection]{
	{Info{
		Name: "message_max_bytes", Label: "Message max bytes", Kind: Number, Unit: "bytes",
		Default: "1000000", Min: 1000, Max: 1000000000, Lift: true, Since: "1.0.0",
		Short: "Largest message",
		Long: "Key, payload, headers and an overhead of 36 bytes count; a larger message is refused at once. The brokers" +
			" have a limit of their own (message.max.bytes), and so has each topic.",
	}, func(c *Connection) any { return &c.MessageMaxBytes }},
	{Info{
		Name: "compression_codec", Label: "Compression codec", Kind: Enumeration, Default: "none", Since: "1.0.0",
		Also: []string{"compression_type"},
		Words: []Word{
			{Text: "none"},
			{Text: "gzip", Short: "small, slow"},
			{Text: "snappy", Short: "fast"},
			{Text: "lz4", Short: "fast"},
			{Text: "zstd", Short: "small and fast; brokers since Kafka 2.1"},
		},
		Short: "How batches are compressed",
		Long:  "Call records and events are repetitive text: zstd or lz4 saves most of the traffic for little work.",
	}, func(c *Connection) any { return &c.CompressionCodec }},
	{Info{
		Name: "compression_level", Label: "Compression level", Kind: Number,
		Default: "-1", Min: -1, Max: 12, Since: "1.0.0",
		Short: "How hard to compress",
		Long:  levelText() + " -1 is the codec's own default.",
	}, func(c *Connection) any { return &c.CompressionLevel }},
	{Info{
		// 60 s is the client library's limit (kgo.ProducerLinger).
		Name: "linger_ms", Label: "Linger ms", Kind: Milliseconds, Unit: "ms",
		Default: "5", Min: 0, Max: 60000, Clamp: true, Since: "1.0.0",
		Also:  []string{"queue_buffering_max_ms"},
		Short: "How long a message may wait for others to share a request with",
		Long: "A higher value sends fewer and larger requests and delays every message by up to that much. It must be" +
			" less than message_timeout_ms.",
	}, func(c *Connection) any { return &c.Linger }},
	{Info{
		Name: "batch_num_messages", Label: "Batch num messages", Kind: Number, Unit: "messages",
		Default: "10000", Min: 1, Max: 1000000, Since: "1.0.0",
		Short: "Most messages in one batch",
		Long:  "A batch is what goes to one partition in one request.",
	}, func(c *Connection) any { return &c.BatchNumMessages }},
	{Info{
		Name: "batch_size", Label: "Batch size", Kind: Number, Unit: "bytes",
		Default: "1000000", Min: 1, Max: 2147483647, Since: "1.0.0",
		Short: "Most bytes in one batch",
		Long: "A single message may be larger, up to message_max_bytes; it then makes a batch of its own. A batch also has to fit" +
			" into a request, see request_max_bytes.",
	}, func(c *Connection) any { return &c.BatchSize }},
	{Info{
		Name: "request_max_bytes", Label: "Request max bytes", Kind: Number, Unit: "bytes",
		Default: "1000000", Min: 32768, Max: 1000000000, Since: "1.0.0",
		Short: "Most bytes in one request to produce",
		Long: "A request carries a batch for each of several partitions; a single larger message goes in a request of its own." +
			" Some services close the connection on a larger request: Azure Event Hubs on more than 1046528 bytes. A broker that" +
			" does so twice gets requests of half that length, until a restart or a reload that changes the connection. Bytes" +
			" count before compression.",
	}, func(c *Connection) any { return &c.RequestMaxBytes }},
	{Info{
		Name: "queue_buffering_max_messages", Label: "Queue buffering max messages", Kind: Number, Unit: "messages",
		Default: "100000", Min: 1, Max: 2147483647, Reload: AtOnce, Since: "1.0.0",
		Short: "Most messages that may wait in the producer",
		Long: "Beyond it, messages go to disk or are refused (see durability). To survive an outage in memory, the queue" +
			" needs the messages per second times the length of the outage.",
	}, func(c *Connection) any { return &c.QueueMaxMessages }},
	{Info{
		Name: "queue_buffering_max_kbytes", Label: "Queue buffering max kbytes", Kind: Number, Unit: "kB",
		Default: "1048576", Min: 1, Max: 2147483647, Reload: AtOnce, Since: "1.0.0",
		Short: "Most memory that may wait in the producer",
		Long: "In units of 1024 bytes. The limit of the queue that is reached first counts. All queues together take a quarter" +
			" of the memory that the machine or the memory control group allows at most.",
	}, func(c *Connection) any { return &c.QueueMaxKbytes }},
	{Info{
		Name: "acks", Label: "Acks", Kind: Number, Default: "-1", Min: -1, Max: 1, Since: "1.0.0",
		Also: []string{"request_required_acks"},
		Words: []Word{
			{Text: "-1", Short: "all replicas that are in sync have it; all means the same", Synonyms: []string{"all"}},
			{Text: "0", Short: "no broker answers: a message counts once it was sent, and a broken connection loses it unseen"},
			{Text: "1", Short: "the partition's leader has it"},
		},
		Short: "When a message counts as delivered",
		Long:  "0 and 1 are faster and lose messages when a broker dies.",
	}, func(c *Connection) any { return &c.Acks }},
	{Info{
		Name: "retries", Label: "Retries", Kind: Number, Default: "2147483647", Min: 0, Max: 2147483647, Since: "1.0.0",
		Also:  []string{"message_send_max_retries"},
		Short: "How often a message is sent again after a failure",
		Long:  "The attempts end with message_timeout_ms in any case. With 0, a message fails at the first error of a broker.",
	}, func(c *Connection) any { return &c.Retries }},
	{Info{
		Name: "enable_idempotence", Label: "Enable idempotence", Kind: Boolean, Default: "no", Since: "1.0.0",
		Short: "Whether the brokers keep out duplicates that come from retries",
		Long: "It needs acks = -1, retries above 0 and, where the brokers check permissions, IdempotentWrite on the" +
			" cluster.",
	}, func(c *Connection) any { return &c.Idempotence }},
}
