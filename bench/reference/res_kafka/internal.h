/*
 * The reference of res_kafka's measurements: common parts of its files. For measurements only.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */

#ifndef REFERENCE_INTERNAL_H
#define REFERENCE_INTERNAL_H

#include <librdkafka/rdkafka.h>

#include "asterisk/astobj2.h"

#include "asterisk/kafka.h"

/*! \brief The purpose of a client of librdkafka. */
enum role {
	ROLE_PRODUCER = 1,
	ROLE_CONSUMER = 2,
};

/*! \brief A client of librdkafka. An AO2 object; opaque of its librdkafka configuration. */
struct client {
	rd_kafka_t *rk;
	time_t logged; /*!< time of the last log line about the client, see client_may_log() */
	char name[80]; /*!< of the connection */
};

/*! \brief Read kafka.conf. \retval -1 unreadable */
int config_load(void);
void config_free(void);

/*!
 * \brief Make a client by a section of kafka.conf.
 *
 * \param client Receives rk and name; its memory must not move while rk exists.
 *
 * \retval 0 made
 * \retval -1 the log has the reason
 */
int config_new_client(struct client *client, const char *name, enum role role);

/*!
 * \brief Whether a line may be written about the client: one in 30 seconds, to keep the log short in an
 * outage.
 */
int client_may_log(struct client *client);

/*! \brief Container of clients, by name. */
struct ao2_container *clients_alloc(void);

/*! \brief Start with no producer, and the same for consumers. \retval -1 no memory */
int producers_start(void);
int consumers_start(void);

/*! \brief A turn of the polling thread: serve librdkafka's events, without waiting. */
void producers_poll(void);
void consumers_poll(void);

/*! \brief Flush and end all producers. The polling thread has ended. */
void producers_stop(void);
void consumers_stop(void);

#endif /* REFERENCE_INTERNAL_H */
