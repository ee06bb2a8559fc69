/*
 * res_kafka: event sources, for modules that publish calls and events as records.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */

/*! \file
 *
 * \brief The API for taps: leave the fields of an event, and continue.
 *
 * A tap is a module that registers with Asterisk for a kind of event (call detail records, manager events, …) and
 * passes the fields on. The engine's tables and the source's configuration file decide the published fields, their
 * names, the topic and the key. The kinds of source are the rows of a table in the engine.
 */

#ifndef _ASTERISK_KAFKA_SOURCE_H
#define _ASTERISK_KAFKA_SOURCE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/time.h>

#if defined(__cplusplus) || defined(c_plusplus)
extern "C" {
#endif

enum ast_kafka_field_kind {
	AST_KAFKA_TEXT,     /*!< text; NULL is no value */
	AST_KAFKA_INTEGER,  /*!< integer */
	AST_KAFKA_TIME,     /*!< time */
	AST_KAFKA_VARIABLE, /*!< text, under a name of a user's choice */
};

/*! \brief One field of an event. Text ends with NUL and need not be UTF-8. */
struct ast_kafka_field {
	const char *name;
	enum ast_kafka_field_kind kind;
	union {
		const char *text;
		int64_t integer;
		struct timeval time;
	};
};

/*! \brief A source of events: a kind, its configuration, and a producer. An AO2 object. */
struct ast_kafka_source;

/*!
 * \brief Open a source and read its configuration file.
 *
 * \param kind Kind of source, "cdr" for call detail records.
 * \param file Name of the configuration file.
 *
 * \return A reference, to be released with ao2_cleanup().
 * \retval NULL with the reasons in the log. The calling module declines to load.
 *
 * \note Not for a thread of a call.
 */
struct ast_kafka_source *ast_kafka_source_open(const char *kind, const char *file);

/*!
 * \brief Read the source's configuration file again.
 *
 * \retval 0 the new configuration is in force
 * \retval -1 the previous configuration stays in force; the log has the reasons
 */
int ast_kafka_source_reload(struct ast_kafka_source *source);

/*!
 * \brief Publish one event.
 *
 * \param source From ast_kafka_source_open(); not NULL.
 * \param fields The event's fields, each with a name; copied.
 * \param count Number of fields.
 *
 * \retval 0 accepted
 * \retval -1 refused, with a line in the log: the connection's queue is full, the event is larger than
 *         message_max_bytes, or Asterisk ends; or no memory is left, or this is a forked child
 *
 * \note Any thread, also of a call: waits for no other process, like ast_kafka_produce_hdrs().
 */
int ast_kafka_source_publish(struct ast_kafka_source *source, const struct ast_kafka_field *fields, size_t count);

/*!
 * \brief Wait for the end of publishing by threads of Asterisk, before the unload of the tap.
 *
 * \note Blocks until no record was produced for 40 milliseconds, 300 milliseconds at most.
 */
void ast_kafka_source_settle(struct ast_kafka_source *source);

#if defined(__cplusplus) || defined(c_plusplus)
}
#endif

#endif /* _ASTERISK_KAFKA_SOURCE_H */
