/*
 * res_kafka: Kafka for Asterisk modules.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */

/*! \file
 *
 * \brief Named Kafka connections for other modules.
 *
 * Connections are sections of kafka.conf. A handle names a connection and is an AO2 object: release it with
 * ao2_cleanup(). A handle stays valid through reloads and outages until its last reference is released; until then
 * res_kafka.so cannot be unloaded. A module with calls of this API declares `.requires = "res_kafka"`.
 *
 * Every function may be called from any thread, and from inside any callback of this API. In a forked child, every
 * function does nothing and returns -1 or NULL. After a failed load of res_kafka.so, handles are NULL and calls return -1.
 *
 * A function blocks only where its note says so. "The engine" is the process of res_kafka beside Asterisk; while it is
 * being restarted, calls keep their promises and their limits of time.
 */

#ifndef _ASTERISK_KAFKA_H
#define _ASTERISK_KAFKA_H

#include <stddef.h>
#include <stdint.h>

#if defined(__cplusplus) || defined(c_plusplus)
extern "C" {
#endif

/*! \brief Version of this header, 10000 * major + 100 * minor + patch. C modules written for another implementation know
 * no such macro, and use only the calls without a version below. */
#define AST_KAFKA_VERSION 200

/*! \brief A producer of one connection. */
struct ast_kafka_producer;

/*! \brief A header of a record. Neither pointer is NULL; both texts end with NUL. */
struct ast_kafka_header {
	const char *name;
	const char *value;
};

/*!
 * \brief Get the producer of a connection.
 *
 * Created on first use and cached: two calls with the same name return the same object, as long as a module holds it.
 * The call never touches the network, so an unreachable broker costs nothing here.
 *
 * \param name Name of the connection, a section of kafka.conf, in any case.
 *
 * \return A reference to the producer, to be released with ao2_cleanup().
 * \retval NULL the connection does not exist or can only consume, Kafka is disabled, name is NULL or "", Asterisk ends,
 *         or no memory is left; the log has the reason.
 *
 * \note Waits for no other process. The first call for a name allocates memory, so get the producer during your
 * module's load and keep the handle. Where the engine then cannot open the connection (an unreadable certificate), the
 * log has the reason, and records are refused until the obstacle is gone.
 */
struct ast_kafka_producer *ast_kafka_get_producer(const char *name);

/*!
 * \brief Produce a record without headers: ast_kafka_produce_hdrs() without headers.
 *
 * \retval 0 the record is accepted
 * \retval -1 the record is refused
 */
int ast_kafka_produce(struct ast_kafka_producer *producer, const char *topic, const char *key, const void *payload,
	size_t len);

/*!
 * \brief Produce a record.
 *
 * All arguments are copied; the caller may free them at once. Records of one thread with the same topic and key reach
 * the broker in the order of the calls. An accepted record is delivered in the background: for up to
 * message_timeout_ms, or without limit where the connection's durability stores the record on disk. `kafka show
 * connection` counts the outcome.
 *
 * \param producer From ast_kafka_get_producer().
 * \param topic Name of the topic: 1 to 249 letters, digits, dots, underscores and hyphens.
 * \param key The record's key; NULL is no key (null in Kafka), "" is an empty key. Records with the same key go to
 *        the same partition.
 * \param payload The record's value; NULL with length 0 is a null value (a tombstone), any other pointer with length 0
 *        an empty value.
 * \param len Length of payload, bytes.
 * \param headers The record's headers, or NULL for none.
 * \param header_count Number of headers, 65535 at most; 0 is none.
 *
 * \retval 0 the record is accepted
 * \retval -1 the record is refused, with the reason in the log: producer or topic is NULL, or payload with a length
 *         above 0, or a header's name or value; the topic's name is invalid; the record is larger than message_max_bytes;
 *         the connection's queue is full, or no memory is left; the connection has no producer now, or Asterisk ends
 *
 * \note Blocks on nothing: not the network, not a disk, not another module. The call costs a few microseconds and is
 * suitable for a thread of a call. Another thread logs refusals, one line for many.
 */
int ast_kafka_produce_hdrs(struct ast_kafka_producer *producer, const char *topic, const char *key,
	const void *payload, size_t len, const struct ast_kafka_header *headers, size_t header_count);

/*! \brief A consumer of one connection: a member of the consumer group group_id. */
struct ast_kafka_consumer;

/*!
 * \brief One message.
 *
 * \param topic, partition, offset Place of the message.
 * \param payload, len The value; NULL, 0 is a null value, any other pointer with length 0 an empty value.
 * \param key, key_len The key; NULL, 0 is no key.
 * \param userdata As given to ast_kafka_consumer_subscribe().
 *
 * All pointers are valid only during the callback. Callbacks of one consumer run one at a time, on a thread of the
 * subscription alone, in the order of the offsets of each partition. The callback may block. The message counts as
 * delivered after the return of the callback. A crash of Asterisk or the engine skips no message, but messages since the last commit come again,
 * for up to auto_commit_interval_ms. A callback longer than max_poll_interval_ms costs the consumer its partitions
 * until the return, and the message comes again.
 */
typedef void (*ast_kafka_message_cb)(const char *topic, int32_t partition, int64_t offset, const void *payload, size_t len,
	const void *key, size_t key_len, void *userdata);

/*!
 * \brief Get the consumer of a connection.
 *
 * Cached: two calls with the same name return the same object, as long as a module holds it. The call never touches
 * the network.
 *
 * \param name Name of the connection, a section of kafka.conf, in any case.
 *
 * \return A reference to the consumer, to be released with ao2_cleanup(). A subscription outlives the last
 *         reference: callbacks continue until ast_kafka_consumer_unsubscribe() or the unload of res_kafka, which such a
 *         consumer does not prevent. To unsubscribe, get the consumer again by its name. Unsubscribe before freeing
 *         userdata's memory and before unloading the code of callback.
 * \retval NULL the connection does not exist or has no group_id, Kafka is disabled, name is NULL or "", or no memory is
 *         left; the log has the reason.
 */
struct ast_kafka_consumer *ast_kafka_get_consumer(const char *name);

/*!
 * \brief Subscribe to topics. Ends the previous subscription of the consumer first.
 *
 * \param consumer From ast_kafka_get_consumer() or ast_kafka_create_consumer().
 * \param topics Names, comma-separated; blanks around names are trimmed and empty names ignored. A name with a
 *        leading ^ is a regular expression.
 * \param callback Called for each message.
 * \param userdata Passed to callback.
 *
 * \retval 0 subscribed; the group is joined in the background
 * \retval -1 consumer, topics or callback is NULL, and nothing has changed; or there is no subscription now: no topic is
 *         left, a name or an expression is invalid, the connection is no longer in kafka.conf, 1023 subscriptions exist,
 *         or no thread or memory is left. The log has the reason
 *
 * \note Blocks like ast_kafka_consumer_unsubscribe(), if there was a subscription, and then for the engine's answer:
 * milliseconds, two seconds at most. From inside a callback of the same consumer, it does not wait for the callback.
 */
int ast_kafka_consumer_subscribe(struct ast_kafka_consumer *consumer, const char *topics, ast_kafka_message_cb callback,
	void *userdata);

/*!
 * \brief End the subscription. No callback runs after the return.
 *
 * Delivered offsets are committed where enable_auto_commit is on, and the consumer leaves the group; without an engine,
 * the next engine does so.
 *
 * \retval 0 there is no subscription now
 * \retval -1 consumer is NULL
 *
 * \note Blocks until a running callback has returned, and then until the brokers have answered: about a second at most,
 * or four with a hanging engine. From inside a callback of the same consumer, the call does not wait for the callback;
 * the subscription then ends after the callback.
 */
int ast_kafka_consumer_unsubscribe(struct ast_kafka_consumer *consumer);

/*!
 * \brief Create a topic unless it exists.
 *
 * \param producer From ast_kafka_get_producer().
 * \param topic Name of the topic: 1 to 249 letters, digits, dots, underscores and hyphens.
 * \param num_partitions, replication_factor 0 or less: the broker chooses.
 *
 * \retval 0 the topic exists
 * \retval -1 the topic does not exist, or this is not known; or an argument is NULL or not the name of a topic. The log
 *         has the broker's own reason
 *
 * \note Blocks until the broker has answered, request_timeout_ms plus two seconds at most: not for a thread of a
 * call.
 */
int ast_kafka_ensure_topic(struct ast_kafka_producer *producer, const char *topic, int num_partitions,
	int replication_factor);

/*!
 * \brief Like ast_kafka_ensure_topic(), in the background.
 *
 * \retval 0 queued; a failure is in the log
 * \retval -1 an argument is NULL or not the name of a topic, 1000 topics wait for an engine, or no memory is left
 *
 * \note Waits for no broker, and two seconds at most for a hanging engine. The work outlives the caller's reference. Safe
 * in another module's load function.
 */
int ast_kafka_ensure_topic_async(struct ast_kafka_producer *producer, const char *topic, int num_partitions,
	int replication_factor);

/*!
 * \name Since AST_KAFKA_VERSION 200: additions to the API of the module on librdkafka
 * @{
 */

/*! \brief Delivery reports of records produced on one producer. */
struct ast_kafka_reports;

/*! \brief The outcome of one record. Valid only during the callback. Members are only ever added at the end. */
struct ast_kafka_report {
	const char *topic; /*!< "" = unknown: the engine died before it reported the outcome */
	int32_t partition; /*!< of the record in the topic; -1 = unknown */
	int64_t offset;    /*!< -1 = unknown: the record was not acknowledged, or acks = 0 */
	const char *error; /*!< NULL = acknowledged by the rule of `acks`; else the reason, for people. A record with an error that
	                    * begins with "dead letter" stays on disk until an administrator sends or deletes the record.
	                    * "not known" at the beginning means: the engine died, and the record may be delivered. */
	void *opaque;      /*!< as given to ast_kafka_produce_reported() */
};

/*!
 * \brief Called once for each accepted record, after its acknowledgement, its drop or its change to a dead letter.
 *
 * Callbacks of one ast_kafka_reports run one at a time, on a thread of these reports alone, in no promised order. A
 * callback may produce, also the same record again. A slow callback delays later reports and nothing else. With
 * queue_buffering_max_messages outstanding reports, ast_kafka_produce_reported() refuses records.
 */
typedef void (*ast_kafka_report_cb)(const struct ast_kafka_report *report, void *userdata);

/*!
 * \brief Make a handle to produce with delivery reports.
 *
 * \param producer From ast_kafka_get_producer(); the handle holds a reference.
 * \param callback Called for each record.
 * \param userdata Passed to callback.
 *
 * \return An AO2 object to be released with ao2_cleanup(). The release of the last reference ends the reports without
 *         waiting for a running callback: call ast_kafka_reports_end() before freeing userdata's memory and before
 *         unloading the code of callback.
 * \retval NULL producer or callback is NULL, no thread or memory is left, or Asterisk ends
 *
 * \note Blocks for the engine's answer: milliseconds, two seconds at most. Not for a thread of a call.
 */
struct ast_kafka_reports *ast_kafka_reports_create(struct ast_kafka_producer *producer, ast_kafka_report_cb callback,
	void *userdata);

/*!
 * \brief Like ast_kafka_produce_hdrs(), with one report for each accepted record and none for a refused record.
 *
 * At the end of Asterisk, undelivered records are reported as dropped. The end waits half a second for the callbacks.
 *
 * \param opaque Copied into the report.
 *
 * \retval 0 the record is accepted
 * \retval -1 the record is refused as in ast_kafka_produce_hdrs(), or reports is NULL, has ended, or has too many outstanding
 */
int ast_kafka_produce_reported(struct ast_kafka_reports *reports, const char *topic, const char *key,
	const void *payload, size_t len, const struct ast_kafka_header *headers, size_t header_count, void *opaque);

/*!
 * \brief End the reports. No callback runs after the return, and the handle produces no more records.
 *
 * \param reports The handle. The caller must still release it.
 * \param wait_ms Longest wait for outstanding reports, milliseconds; 0 = none.
 *
 * \return Number of records without a report. Their delivery continues.
 * \retval -1 reports is NULL
 *
 * \note Blocks for wait_ms at most, then until a running callback has returned and the engine has answered:
 * milliseconds, two seconds at most. From inside a callback of these reports, the call waits for no callback, and no
 * other callback follows. An end by another thread ends the wait.
 */
int ast_kafka_reports_end(struct ast_kafka_reports *reports, int wait_ms);

/*! \brief A header of a message. value is NULL for null; any other value is followed by a NUL. */
struct ast_kafka_record_header {
	const char *name;
	const void *value;
	size_t value_len;
};

/*! \brief A message with headers and timestamp. Valid only during the callback. Members are only ever added at the end. */
struct ast_kafka_record {
	const char *topic;
	int32_t partition;
	int64_t offset;
	int64_t timestamp_ms; /*!< milliseconds since 1970; -1 = none, as in logs of before Kafka 0.10 */
	const void *key;      /*!< NULL = no key */
	size_t key_len;
	const void *payload;  /*!< NULL = null value */
	size_t len;
	const struct ast_kafka_record_header *headers;
	size_t header_count;
};

/*! \brief Like ast_kafka_message_cb, with the consumer (lent for the duration of the callback), the timestamp and the
 * headers. */
typedef void (*ast_kafka_record_cb)(struct ast_kafka_consumer *consumer, const struct ast_kafka_record *record,
	void *userdata);

/*! \brief Like ast_kafka_consumer_subscribe(), also in its return values and waits, for a callback with headers and
 * timestamp. */
int ast_kafka_consumer_subscribe_records(struct ast_kafka_consumer *consumer, const char *topics,
	ast_kafka_record_cb callback, void *userdata);

/*! \brief Create another consumer of a connection, for another subscription: another member of the group, with its own
 * thread. Like ast_kafka_get_consumer(), except that no name finds this consumer again: after the release of its last
 * reference, the subscription lasts until the unload of res_kafka. */
struct ast_kafka_consumer *ast_kafka_create_consumer(const char *name);

/*!
 * \brief Commit delivered offsets, for a connection with enable_auto_commit = no.
 *
 * From inside the callback, the callback's own message counts as delivered.
 *
 * \retval 0 committed, or there was nothing to commit
 * \retval -1 consumer is NULL or not subscribed, the broker refused, or there is no engine now; the log has the reason
 *
 * \note Blocks until the broker has answered, for request_timeout_ms at most, or two seconds more with a hanging engine.
 */
int ast_kafka_consumer_commit(struct ast_kafka_consumer *consumer);

/*!
 * \brief Pause or resume messages. The consumer stays in its group and keeps its partitions.
 *
 * A pause ends with the subscription, and with a reload that changes the connection. Without an engine, the next engine
 * begins with the pause.
 *
 * \param consumer The consumer.
 * \param topics Comma-separated; NULL or "" = all topics of the subscription.
 * \param paused 1 to pause, 0 to resume.
 *
 * \retval 0 done: no message of a paused topic follows, except one on its way to the callback
 * \retval -1 consumer is NULL or not subscribed, its connection is no longer in kafka.conf, topics has a line break, or
 *         no memory is left
 *
 * \note Blocks for the engine's answer: milliseconds, two seconds at most.
 */
int ast_kafka_consumer_pause(struct ast_kafka_consumer *consumer, const char *topics, int paused);

/*! @} */

#if defined(__cplusplus) || defined(c_plusplus)
}
#endif

#endif /* _ASTERISK_KAFKA_H */
