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
 * ao2_cleanup(). It stays valid for as long as somebody holds it, through reloads and outages, and while somebody
 * does, res_kafka.so cannot be unloaded. A module that calls this API declares `.requires = "res_kafka"`.
 *
 * Every function may be called from any thread. None may be called in a forked child: there they do nothing and
 * answer -1 or NULL.
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
#define AST_KAFKA_VERSION 100

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
 * \param name Name of the connection, a section of kafka.conf.
 *
 * \return A reference to the producer, to be released with ao2_cleanup().
 * \retval NULL when there is no such connection or Kafka is disabled; the log says why.
 *
 * \note Blocks for the few milliseconds that making a client takes, the first time; not meant for a thread that
 * carries a call. Get the producer when your module loads and keep it.
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
 * broker in the order of the calls. An accepted record is delivered in the background for up to message_timeout_ms;
 * `kafka show connection` counts what becomes of it.
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
 * \note Blocks on nothing: not the network, not a disk, not another module. It costs about a microsecond, so it may be
 * called from a thread that carries a call. The log line about a refusal is written by another thread, one for many.
 */
int ast_kafka_produce_hdrs(struct ast_kafka_producer *producer, const char *topic, const char *key,
	const void *payload, size_t len, const struct ast_kafka_header *headers, size_t header_count);

#if defined(__cplusplus) || defined(c_plusplus)
}
#endif

#endif /* _ASTERISK_KAFKA_H */
