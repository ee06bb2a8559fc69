package metrics

// The labels.
const (
	Connection   = "connection"
	Topic        = "topic"
	Reason       = "reason"
	Broker       = "broker"
	Subscription = "subscription"
	Partition    = "partition"
)

// Labels explains the labels.
var Labels = []struct{ Name, Help string }{
	{Connection, "name of the connection in `kafka.conf`"},
	{Topic, "name of the topic; empty for dead letters of earlier runs, until a retry moves each to its topic"},
	{Reason, "a few words, the same as in the log"},
	{Broker, "address, `host:port`"},
	{Subscription, "number of the subscription"},
	{Partition, "number of the partition"},
}

// Records, from accepted to their outcome. Accepted = acknowledged + waiting + sending + spooled + dead
// letters + dropped, at every moment, for each topic and for a connection. Records without a topic are still in
// shared memory, or were impossible to encode.
var (
	RecordsAccepted = counter("reskafka_records_accepted_total", Records, "connection topic",
		"Records accepted by the connection, including records of earlier runs. Test messages are not counted.")
	RecordsRestored = counter("reskafka_records_restored_total", Records, "connection topic",
		"Accepted records of an earlier run, found on disk.")
	RecordsAcknowledged = counter("reskafka_records_acknowledged_total", Records, "connection topic",
		"Records acknowledged by a broker.")
	RecordsWaiting = gauge("reskafka_records_waiting", Records, "connection topic",
		"Records in memory only, not yet in the client.")
	RecordsSending = gauge("reskafka_records_sending", Records, "connection topic",
		"Records in memory only, in the client and without an answer.")
	RecordsSpooled = gauge("reskafka_records_spooled", Records, "connection topic",
		"Records on disk without an outcome.")
	DeadLetters = gauge("reskafka_dead_letters", Records, "connection topic reason",
		"Records refused permanently, or too old, kept until a retry or a purge.")
	RecordsDropped = counter("reskafka_records_dropped_total", Records, "connection topic reason",
		"Accepted records that were dropped.")
	RecordsRetried = counter("reskafka_records_retried_total", Records, "connection topic",
		"Failed attempts to send a record that were retried.")
	RecordsRefused = counter("reskafka_records_refused_total", Records, "connection reason",
		"Records refused by calls to produce, and never accepted.")
	TopicBlockedSince = gauge("reskafka_topic_blocked_timestamp_seconds", Timestamp, "connection topic",
		"When brokers began to refuse the waiting records of a topic. Absent without a refusal.")
)

// Brokers. A subscription has its own client, so its brokers have the label subscription.
var (
	BrokerConnected = gauge("reskafka_broker_connected", Bool, "connection subscription broker",
		"Whether there is a connection to a broker. Absent for an address no longer used by the cluster.")
	ResponsesRefused = counter("reskafka_responses_refused_total", Responses, "connection subscription",
		"Responses and record batches of brokers that were refused as impossible.")
	LastError = gauge("reskafka_last_error_timestamp_seconds", Timestamp, "connection subscription",
		"When a client last had an error of a broker. Absent before the first error.")
)

// Files of connections on disk.
var (
	SpoolBytes = gauge("reskafka_spool_bytes", Bytes, "connection",
		"Size of all files of a connection's spool, including dead letters.")
	SpoolLimit = gauge("reskafka_spool_limit_bytes", Bytes, "connection",
		"Largest size of a connection's spool: spool_max_mbytes.")
	SpoolDeadLetters = gauge("reskafka_spool_dead_letters", Records, "connection",
		"Dead letters in the files of a connection's spool.")
	SpoolDamaged = counter("reskafka_spool_damaged_records_total", Records, "connection",
		"Damaged records found on disk since the spool was opened. Damaged records are lost.")
	SpoolSetAside = gauge("reskafka_spool_files_set_aside", Files, "connection",
		"Files with damaged records, kept for inspection.")
	SpoolTopicBytes = gauge("reskafka_spool_topic_bytes", Bytes, "connection topic",
		"Size of the files with records of a topic.")
	SpoolOldest = gauge("reskafka_spool_oldest_record_timestamp_seconds", Timestamp, "connection topic",
		"When the oldest record of a topic on disk was accepted.")
)

// Consumers.
var (
	Delivered = counter("reskafka_consumer_messages_delivered_total", Records, "connection subscription",
		"Delivered messages: the callback has returned.")
	CallbackLast = gauge("reskafka_consumer_callback_last_seconds", Seconds, "connection subscription",
		"Average duration of a callback in the last delivered batch.")
	CallbackMax = gauge("reskafka_consumer_callback_max_seconds", Seconds, "connection subscription",
		"Longest callback: the largest average over a batch, or the longest observed running time.")
	CallbackRunning = gauge("reskafka_consumer_callback_running_seconds", Seconds, "connection subscription",
		"Observed running time of the present callback. Absent while no callback runs.")
	Rebalances = counter("reskafka_consumer_rebalances_total", Assignments, "connection subscription",
		"Assignments of partitions to the subscription.")
	LastRebalance = gauge("reskafka_consumer_last_rebalance_timestamp_seconds", Timestamp, "connection subscription",
		"When partitions were last assigned or revoked.")
	Assigned = gauge("reskafka_consumer_partitions", Partitions, "connection subscription",
		"Partitions assigned to the subscription.")
	SkippedBatches = counter("reskafka_consumer_skipped_batches_total", Batches, "connection subscription",
		"Unreadable batches that were skipped.")
	SkippedOffsets = counter("reskafka_consumer_skipped_offsets_total", Offsets, "connection subscription",
		"Offsets of the skipped batches.")
	Position = gauge("reskafka_consumer_position", Offset, "connection subscription topic partition",
		"Offset of the next message: its callback has not returned.")
	StableOffset = gauge("reskafka_consumer_stable_offset", Offset, "connection subscription topic partition",
		"Last stable offset at the last fetch, or at a check once a minute: start of the first open transaction.")
	HighWatermark = gauge("reskafka_consumer_high_watermark", Offset, "connection subscription topic partition",
		"End of the partition at the last fetch, or at a check once a minute between fetches.")
	Lag = gauge("reskafka_consumer_lag", Offsets, "connection subscription topic partition",
		"High watermark minus position.")
	Committed = gauge("reskafka_consumer_committed_offset", Offset, "connection subscription topic partition",
		"Committed offset: the next owner of the partition continues there.")
)
