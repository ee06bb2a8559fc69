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

// Labels explains them.
var Labels = []struct{ Name, Help string }{
	{Connection, "name of the connection in `kafka.conf`"},
	{Topic, "name of the topic; empty for dead letters that earlier runs left, until a retry moves them to their topic"},
	{Reason, "a few words, as the log has them"},
	{Broker, "address, `host:port`"},
	{Subscription, "number of the subscription"},
	{Partition, "number of the partition"},
}

// Records, from accepted to their outcome. Accepted = acknowledged + waiting + sending + spooled + dead
// letters + dropped, at every moment, for each topic and for a connection. Records without a topic are still
// staged, or could not be encoded.
var (
	RecordsAccepted = counter("reskafka_records_accepted_total", Records, "connection topic",
		"Records that the connection accepted, those of earlier runs included. Test messages are not counted.")
	RecordsRestored = counter("reskafka_records_restored_total", Records, "connection topic",
		"Accepted records that an earlier run had left on disk.")
	RecordsAcknowledged = counter("reskafka_records_acknowledged_total", Records, "connection topic",
		"Records that a broker acknowledged.")
	RecordsWaiting = gauge("reskafka_records_waiting", Records, "connection topic",
		"Records in memory only, not handed to the client.")
	RecordsSending = gauge("reskafka_records_sending", Records, "connection topic",
		"Records in memory only, handed to the client and not answered.")
	RecordsSpooled = gauge("reskafka_records_spooled", Records, "connection topic",
		"Records on disk without an outcome.")
	DeadLetters = gauge("reskafka_dead_letters", Records, "connection topic reason",
		"Records that were refused for good, or waited too long, and are kept until they are retried or purged.")
	RecordsDropped = counter("reskafka_records_dropped_total", Records, "connection topic reason",
		"Accepted records that were given up.")
	RecordsRetried = counter("reskafka_records_retried_total", Records, "connection topic",
		"Attempts to send a record that failed and were repeated.")
	RecordsRefused = counter("reskafka_records_refused_total", Records, "connection reason",
		"Records that calls to produce refused, and that were therefore never accepted.")
	TopicBlockedSince = gauge("reskafka_topic_blocked_timestamp_seconds", Timestamp, "connection topic",
		"When brokers began to refuse the records of a topic that wait for that reason. Absent while they do not.")
)

// Brokers. Those of a subscription have its label: it has a client of its own.
var (
	BrokerConnected = gauge("reskafka_broker_connected", Bool, "connection subscription broker",
		"Whether there is a connection to a broker. Absent for an address that the cluster does not use any more.")
	ResponsesRefused = counter("reskafka_responses_refused_total", Responses, "connection subscription",
		"Responses and record batches of brokers that were refused because they cannot be true.")
	LastError = gauge("reskafka_last_error_timestamp_seconds", Timestamp, "connection subscription",
		"When a client last had an error of a broker. Absent before the first.")
)

// What connections have on disk.
var (
	SpoolBytes = gauge("reskafka_spool_bytes", Bytes, "connection",
		"Size of all files of a connection's spool, dead letters included.")
	SpoolLimit = gauge("reskafka_spool_limit_bytes", Bytes, "connection",
		"Largest size of a connection's spool: spool_max_mbytes.")
	SpoolDeadLetters = gauge("reskafka_spool_dead_letters", Records, "connection",
		"Dead letters in the files of a connection's spool.")
	SpoolDamaged = counter("reskafka_spool_damaged_records_total", Records, "connection",
		"Records found damaged on disk since the spool was opened. They are lost.")
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
		"Messages whose callback has returned.")
	CallbackLast = gauge("reskafka_consumer_callback_last_seconds", Seconds, "connection subscription",
		"Time that a callback took, on average over the last batch that was delivered.")
	CallbackMax = gauge("reskafka_consumer_callback_max_seconds", Seconds, "connection subscription",
		"Longest time that a callback took: the largest average over a batch, or what one was seen to take alone.")
	CallbackRunning = gauge("reskafka_consumer_callback_running_seconds", Seconds, "connection subscription",
		"How long the present callback has been seen to run. Absent while none runs.")
	Rebalances = counter("reskafka_consumer_rebalances_total", Assignments, "connection subscription",
		"Assignments of partitions that the subscription got.")
	LastRebalance = gauge("reskafka_consumer_last_rebalance_timestamp_seconds", Timestamp, "connection subscription",
		"When partitions were last assigned or revoked.")
	Assigned = gauge("reskafka_consumer_partitions", Partitions, "connection subscription",
		"Partitions that are assigned to the subscription.")
	SkippedBatches = counter("reskafka_consumer_skipped_batches_total", Batches, "connection subscription",
		"Batches that could not be read and were stepped over.")
	SkippedOffsets = counter("reskafka_consumer_skipped_offsets_total", Offsets, "connection subscription",
		"Offsets that the batches stepped over cover.")
	Position = gauge("reskafka_consumer_position", Offset, "connection subscription topic partition",
		"Offset of the next message whose callback has not returned.")
	StableOffset = gauge("reskafka_consumer_stable_offset", Offset, "connection subscription topic partition",
		"Last stable offset as of the last fetch, or of a look once a minute: the first open transaction begins there.")
	HighWatermark = gauge("reskafka_consumer_high_watermark", Offset, "connection subscription topic partition",
		"End of the partition as of the last fetch, or of a look once a minute while nothing is fetched.")
	Lag = gauge("reskafka_consumer_lag", Offsets, "connection subscription topic partition",
		"High watermark minus position.")
	Committed = gauge("reskafka_consumer_committed_offset", Offset, "connection subscription topic partition",
		"Offset from which the next owner of the partition would go on.")
)
