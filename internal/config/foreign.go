package config

import "strings"

// foreignKeys are missing options of librdkafka (CONFIGURATION.md) and of Kafka's Java clients, with the
// replacement or the reason: the end of "is not an option of a connection; …". A key with a final star
// matches a prefix. An exact key precedes a key with a star.
var foreignKeys = []struct{ advice, keys string }{
	{"records go to the partitions that librdkafka's default gives them (consistent_random), which cannot be changed",
		"partitioner partitioner.* partitioner_cb sticky.partitioning.linger.ms"},
	{"the queue of each topic is sent in order, which cannot be changed",
		"msg_order_cmp queuing.strategy max.in.flight max.in.flight.requests.per.connection"},
	{"use message_max_bytes for the largest message, and batch_size for a batch", "max.request.size"},
	{"use queue_buffering_max_kbytes", "buffer.memory buffer.memory.*"},
	{"no call to produce ever waits; how much may wait is queue_buffering_max_messages", "max.block.ms"},
	{"use compression_level", "compression.gzip.level compression.lz4.level compression.zstd.level"},
	{"transactions are not offered; enable_idempotence = yes keeps out duplicates", "transactional.id transaction.*"},
	{"use enable_idempotence", "enable.gapless.guarantee"},
	{"use reconnect_backoff_ms and reconnect_backoff_max_ms, by which retries wait too",
		"retry.backoff.ms retry.backoff.max.ms reconnect.backoff.jitter.ms"},
	{"brokers create a topic that is produced to where they are set up to, and not for consumers; this cannot be changed",
		"allow.auto.create.topics"},

	{"consumers read committed messages only, which cannot be changed", "isolation.level"},
	{"members of a group have no fixed identity here; session_timeout_ms is how long a restart may take unnoticed",
		"group.instance.id"},
	{"consumers offer the strategies range and roundrobin by the classic protocol, which cannot be changed",
		"partition.assignment.strategy group.protocol group.protocol.type group.remote.assignor"},
	{"heartbeats go out every third of session_timeout_ms, every 3 seconds at least", "heartbeat.interval.ms"},
	{"use enable_auto_commit", "auto.commit.enable"},
	{"a message counts as consumed once its callback has returned; enable_auto_commit says whether that is committed",
		"enable.auto.offset.store offset.store.method offset.store.path offset.store.sync.interval.ms"},
	{"a consumer fetches by message_max_bytes and by what its module keeps up with, which cannot be changed",
		"fetch.* queued.max.messages.kbytes queued.min.messages max.partition.fetch.bytes receive.message.max.bytes" +
			" max.poll.records consume.callback.max.messages check.crcs enable.partition.eof exclude.internal.topics"},
	{"consumers read from the leader of each partition, whatever the rack", "client.rack"},
	{"share groups are not offered", "share.*"},

	{"use ssl_key_location with a key that has no passphrase, as openssl pkey -in KEY -out NEWKEY writes it",
		"ssl.key.password"},
	{"use ssl_certificate_location and ssl_key_location, PEM files that openssl pkcs12 makes of a keystore",
		"ssl.keystore.*"},
	{"use ssl_ca_location, a PEM file that openssl pkcs12 -nokeys makes of a truststore", "ssl.truststore.*"},
	{"write the certificates into a PEM file and name it in ssl_ca_location",
		"ssl.ca.pem ssl_ca ssl.ca.certificate.stores https.ca.location https.ca.pem"},
	{"write it into a PEM file and name that in ssl_certificate_location",
		"ssl.certificate.pem ssl_certificate ssl.keystore.certificate.chain"},
	{"write it into a PEM file and name that in ssl_key_location", "ssl.key.pem ssl_key ssl.keystore.key"},
	{"certificates are always verified: name the authority in ssl_ca_location; ssl_endpoint_identification_algorithm =" +
		" none leaves out the host's name alone", "enable.ssl.certificate.verification ssl.certificate.verify_cb"},
	{"TLS 1.2 and 1.3 are spoken with the suites of Go's library, which cannot be changed",
		"ssl.cipher.suites ssl.curves.list ssl.sigalgs.list ssl.enabled.protocols ssl.protocol ssl.provider ssl.providers" +
			" ssl.engine.id ssl.engine.location ssl.engine.factory.class ssl_engine_callback_data" +
			" ssl.secure.random.implementation ssl.keymanager.algorithm ssl.trustmanager.algorithm security.providers"},
	{"lists of revoked certificates are not read", "ssl.crl.location"},
	{"use sasl_mechanisms, sasl_username and sasl_password", "sasl.jaas.config"},
	{"PLAIN, SCRAM-SHA-256 and SCRAM-SHA-512 are the mechanisms there are: use sasl_username and sasl_password",
		"sasl.kerberos.* sasl.oauthbearer.* sasl.login.* sasl.client.callback.handler.class" +
			" enable.sasl.oauthbearer.unsecure.jwt oauthbearer_token_refresh_cb"},

	{"use socket_timeout_ms, which limits connecting too",
		"socket.connection.setup.timeout.ms socket.connection.setup.timeout.max.ms api.version.request.timeout.ms" +
			" default.api.timeout.ms bootstrap.resolve.timeout.ms socket.blocking.max.ms"},
	{"sockets are set up as the system does it, which cannot be changed",
		"socket.keepalive.enable socket.max.fails socket.nagle.disable socket.receive.buffer.bytes" +
			" socket.send.buffer.bytes receive.buffer.bytes send.buffer.bytes"},
	{"every address of a name is tried, of IPv4 and IPv6", "client.dns.lookup broker.address.family broker.address.ttl"},
	{"the client asks for metadata when it needs some, which cannot be changed",
		"metadata.* topic.metadata.* topic.blacklist coordinator.query.interval.ms"},
	{"use brokers", "bootstrap.controllers"},
	{"versions are agreed on with each broker", "api.version.request api.version.fallback.ms broker.version.fallback"},

	{"kafka show connection has the figures, and brokers are sent none",
		"statistics.interval.ms stats_cb metric.reporters metrics.* enable.metrics.push"},
	{"Asterisk's logger says what is logged, and debug which contexts",
		"log_level log_cb log.* delivery.report.only.error produce.offset.report"},
	{"there is no code of others to load: modules use asterisk/kafka.h",
		"plugin.library.paths interceptors interceptor.classes config.providers key.serializer value.serializer" +
			" key.deserializer value.deserializer"},
	{"it is for programs on librdkafka alone",
		"background_event_cb builtin.features closesocket_cb connect_cb consume_cb default_topic_conf dr_cb dr_msg_cb" +
			" enable.random.seed enabled_events error_cb internal.* message.copy.max.bytes offset_commit_cb opaque open_cb" +
			" queue.buffering.backpressure.threshold rebalance_cb resolve_cb socket_cb throttle_cb"},
	{"it is an option of the brokers or of a topic", "min.insync.replicas num.partitions replication.factor" +
		" default.replication.factor retention.* advertised.listeners listeners"},
}

// adviceFor returns the replacement of another client's option, or "" for any other name.
func adviceFor(name string) string {
	name = plain(name)
	begins := ""
	for _, k := range foreignKeys {
		for key := range strings.FieldsSeq(k.keys) {
			start, star := strings.CutSuffix(key, "*")
			if star && strings.HasPrefix(name, strings.ReplaceAll(start, ".", "_")) {
				begins = k.advice
			}
			if !star && plain(key) == name {
				return k.advice
			}
		}
	}
	return begins
}
