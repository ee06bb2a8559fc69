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
 * ao2_cleanup(). It stays valid through reloads and outages until its last reference is released; until then
 * res_kafka.so cannot be unloaded. A module that calls this API declares `.requires = "res_kafka"`.
 *
 * Every function may be called from any thread. In a forked child, every function does nothing and returns -1 or NULL.
 */

#ifndef _ASTERISK_KAFKA_H
#define _ASTERISK_KAFKA_H

#include <stddef.h>
#include <stdint.h>

#if defined(__cplusplus) || defined(c_plusplus)
extern "C" {
#endif

/*! \brief Version of this header, 10000 * major + 100 * minor + patch. A C module written for another
 * implementation knows no such macro and uses none of what came after. */
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
 * Created on first use and cached: two calls with the same name give the same object. The network is never touched
 * before it returns, so an unreachable broker costs nothing here.
 *
 * \param name Name of the connection, a section of kafka.conf, in any case.
 *
 * \return A reference to the producer, to be released with ao2_cleanup().
 * \retval NULL when there is no such connection or Kafka is disabled; the log says why.
 *
 * \note The first call for a name blocks for 10 ms at most, until the engine has opened the connection; not meant for a
 * thread that carries a call. Get the producer when your module loads and keep it.
 */
struct ast_kafka_producer *ast_kafka_get_producer(const char *name);

/*!
 * \brief Produce a record without headers. The same as ast_kafka_produce_hdrs() with none.
 *
 * \retval 0 the record is accepted
 * \retval -1 the record is refused
 */
int ast_kafka_produce(struct ast_kafka_producer *producer, const char *topic, const char *key, const void *payload,
	size_t len);

/*!
 * \brief Produce a record.
 *
 * Everything is copied; the caller may free it at once. Records of one thread with the same topic and key reach the
 * broker in the order of the calls. An accepted record is delivered in the background: for up to message_timeout_ms,
 * or without limit where the connection's durability keeps it on disk. `kafka show connection` counts its outcome.
 *
 * \param producer From ast_kafka_get_producer().
 * \param topic Name of the topic: 1 to 249 letters, digits, dots, underscores and hyphens.
 * \param key The record's key; NULL is no key (null in Kafka), "" is an empty key. Records with the same key go to
 *        the same partition.
 * \param payload The record's value; NULL with length 0 is a null value (a tombstone), not NULL with length 0 an
 *        empty one.
 * \param len Length of payload, bytes.
 * \param headers The record's headers, or NULL.
 * \param header_count How many; 0 is none.
 *
 * \retval 0 the record is accepted
 * \retval -1 the record is refused and the log says why: producer or topic is NULL, the topic's name is not valid,
 *         the record is larger than message_max_bytes, or the connection's queue is full
 *
 * \note Blocks on nothing: not the network, not a disk, not another module. It costs a few microseconds, so it may be
 * called from a thread that carries a call. The log line about a refusal is written by another thread, one for many.
 */
int ast_kafka_produce_hdrs(struct ast_kafka_producer *producer, const char *topic, const char *key,
	const void *payload, size_t len, const struct ast_kafka_header *headers, size_t header_count);

/*! \brief A consumer of one connection: a member of the consumer group that its group_id names. */
struct ast_kafka_consumer;

/*!
 * \brief One message.
 *
 * \param topic, partition, offset Where it stands.
 * \param payload, len Its value; NULL, 0 is a null value, not NULL with length 0 an empty one.
 * \param key, key_len Its key; NULL, 0 is no key.
 * \param userdata As given to ast_kafka_consumer_subscribe().
 *
 * Everything is valid only during the callback. Callbacks of one consumer come one at a time, from a thread that serves
 * this consumer alone, in the order of the offsets of each partition. The message counts as delivered once the
 * callback has returned. After a crash of Asterisk or the engine no message is left out, but messages since the last commit come again:
 * up to auto_commit_interval_ms of them. A callback that runs for longer than max_poll_interval_ms costs the consumer its partitions
 * until it returns, and the message comes again.
 */
typedef void (*ast_kafka_message_cb)(const char *topic, int32_t partition, int64_t offset, const void *payload, size_t len,
	const void *key, size_t key_len, void *userdata);

/*!
 * \brief Get the consumer of a connection.
 *
 * Cached: two calls with the same name give the same object. The network is not touched.
 *
 * \return A reference to the consumer, to be released with ao2_cleanup(). A subscription keeps its consumer: after the
 *         last reference has been released, callbacks continue until ast_kafka_consumer_unsubscribe() or until res_kafka is
 *         unloaded, which such a consumer does not prevent. To unsubscribe, get the consumer again by its name. Unsubscribe
 *         before freeing what userdata points to and before unloading the code of callback.
 * \retval NULL when there is no such connection, it has no group_id, or Kafka is disabled; the log says why.
 */
struct ast_kafka_consumer *ast_kafka_get_consumer(const char *name);

/*!
 * \brief Subscribe to topics. Ends the previous subscription of the consumer first.
 *
 * \param consumer From ast_kafka_get_consumer() or ast_kafka_create_consumer().
 * \param topics Names, comma-separated; blanks around them are trimmed and empty names ignored. A name that begins with
 *        ^ is a regular expression.
 * \param callback Called for each message.
 * \param userdata Passed to callback.
 *
 * \retval 0 subscribed; the group is joined in the background
 * \retval -1 an argument is NULL, or no topic is left
 *
 * \note May be called from inside the callback. Otherwise it blocks until a callback of the previous subscription has
 * returned.
 */
int ast_kafka_consumer_subscribe(struct ast_kafka_consumer *consumer, const char *topics, ast_kafka_message_cb callback,
	void *userdata);

/*!
 * \brief End the subscription. No callback comes after this has returned.
 *
 * What was delivered is committed where enable_auto_commit is on, and the group is left.
 *
 * \retval 0 there is no subscription any more, or there was none
 * \retval -1 consumer is NULL
 *
 * \note Blocks until a running callback has returned, and then for about a second at most. From inside the callback it
 * returns at once; the subscription then ends when the callback has returned.
 */
int ast_kafka_consumer_unsubscribe(struct ast_kafka_consumer *consumer);

/*!
 * \brief Create a topic unless it exists.
 *
 * \param producer From ast_kafka_get_producer().
 * \param topic Its name.
 * \param num_partitions, replication_factor 0 or less leaves the number to the broker.
 *
 * \retval 0 the topic exists
 * \retval -1 it does not, or an argument is NULL; the log has the broker's own reason
 *
 * \note Blocks until the broker has answered, request_timeout_ms plus two seconds at most: not for a thread that
 * carries a call.
 */
int ast_kafka_ensure_topic(struct ast_kafka_producer *producer, const char *topic, int num_partitions,
	int replication_factor);

/*!
 * \brief Like ast_kafka_ensure_topic(), in the background.
 *
 * \retval 0 queued; a failure is in the log
 * \retval -1 an argument is NULL or not the name of a topic
 *
 * \note Returns at once and outlives the caller's reference. Safe in another module's load function.
 */
int ast_kafka_ensure_topic_async(struct ast_kafka_producer *producer, const char *topic, int num_partitions,
	int replication_factor);

/*!
 * \name Since AST_KAFKA_VERSION 200: more than the module on librdkafka has
 * @{
 */

/*! \brief Delivery reports of records produced on one producer. */
struct ast_kafka_reports;

/*! \brief The outcome of one record. Valid only during the callback. Members are only ever added at the end. */
struct ast_kafka_report {
	const char *topic; /*!< "" when not known: the engine died before it said what became of the record */
	int32_t partition; /*!< of the record in the topic; -1 when not known */
	int64_t offset;    /*!< -1 when not known: the record was not acknowledged, or acks = 0 */
	const char *error; /*!< NULL = acknowledged as `acks` asks; else why not, for people to read. A record whose error begins
	                    * with "dead letter" stays on disk until an administrator sends it again or deletes it. An error that
	                    * begins with "not known" means that the engine died: the record may be delivered. */
	void *opaque;      /*!< as given to ast_kafka_produce_reported() */
};

/*!
 * \brief Called once for each accepted record, when it is acknowledged or dropped, or becomes a dead letter.
 *
 * Callbacks of one ast_kafka_reports are called one at a time, from a thread that serves it alone, in no promised order. A
 * callback may produce, also the same record again. A slow callback delays the reports behind it and nothing else. When
 * queue_buffering_max_messages reports are outstanding, ast_kafka_produce_reported() refuses records.
 */
typedef void (*ast_kafka_report_cb)(const struct ast_kafka_report *report, void *userdata);

/*!
 * \brief Make a handle to produce with delivery reports.
 *
 * \param producer From ast_kafka_get_producer(); the handle holds a reference.
 * \param callback Called for each record.
 * \param userdata Passed to callback.
 *
 * \return An AO2 object to be released with ao2_cleanup(). Releasing the last reference ends it without waiting for a
 *         running callback: call ast_kafka_reports_end() before freeing what userdata points to and before unloading
 *         the code of callback.
 * \retval NULL an argument is NULL, no thread can be created, or Asterisk ends
 */
struct ast_kafka_reports *ast_kafka_reports_create(struct ast_kafka_producer *producer, ast_kafka_report_cb callback,
	void *userdata);

/*!
 * \brief Like ast_kafka_produce_hdrs(), with one report for each record that is accepted and none for one that is not.
 *
 * When Asterisk ends, records that could not be delivered are reported as dropped. The end waits half a second for the
 * callbacks.
 *
 * \param opaque Copied into the report.
 *
 * \retval 0 the record is accepted
 * \retval -1 the record is refused as there, or because reports is NULL, has been ended, or has too many outstanding
 */
int ast_kafka_produce_reported(struct ast_kafka_reports *reports, const char *topic, const char *key,
	const void *payload, size_t len, const struct ast_kafka_header *headers, size_t header_count, void *opaque);

/*!
 * \brief End the reports. No callback is called after this has returned, and nothing can be produced with the handle.
 *
 * \param reports The handle. It still has to be released.
 * \param wait_ms How long to wait for outstanding reports, milliseconds; 0 = not at all.
 *
 * \return How many records were left without a report. Their delivery continues.
 * \retval -1 reports is NULL
 *
 * \note Blocks for wait_ms at most, and until a running callback has returned. From inside the callback it does not
 * wait, and no other callback follows. When another thread ends the reports first, the wait is over.
 */
int ast_kafka_reports_end(struct ast_kafka_reports *reports, int wait_ms);

/*! \brief A header of a message. value is NULL for null; otherwise a NUL follows it. */
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

/*! \brief Like ast_kafka_consumer_subscribe(), for a callback with headers and timestamp. */
int ast_kafka_consumer_subscribe_records(struct ast_kafka_consumer *consumer, const char *topics,
	ast_kafka_record_cb callback, void *userdata);

/*! \brief Create another consumer of a connection, for another subscription. It is another member of the group and has its
 * own thread. Otherwise like ast_kafka_get_consumer(), but it cannot be got again by its name: after its last reference has
 * been released, its subscription lasts until res_kafka is unloaded. */
struct ast_kafka_consumer *ast_kafka_create_consumer(const char *name);

/*!
 * \brief Commit what has been delivered, for a connection with enable_auto_commit = no.
 *
 * From inside the callback, the message that is being delivered counts as delivered.
 *
 * \retval 0 committed, or there was nothing to commit
 * \retval -1 consumer is NULL or not subscribed, or the broker refused; the log says why
 *
 * \note Blocks until the broker has answered, request_timeout_ms at most.
 */
int ast_kafka_consumer_commit(struct ast_kafka_consumer *consumer);

/*!
 * \brief Pause or resume messages. The consumer stays in its group and keeps its partitions.
 *
 * \param consumer The consumer.
 * \param topics Comma-separated; NULL or "" is all of the subscription's.
 * \param paused 1 to pause, 0 to resume.
 *
 * \retval 0 done
 * \retval -1 consumer is NULL or not subscribed
 */
int ast_kafka_consumer_pause(struct ast_kafka_consumer *consumer, const char *topics, int paused);

/*! @} */

#if defined(__cplusplus) || defined(c_plusplus)
}
#endif

#endif /* _ASTERISK_KAFKA_H */
