/*
 * The reference that res_kafka is measured against: what its files have in common. For measuring only.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */

#ifndef REFERENCE_INTERNAL_H
#define REFERENCE_INTERNAL_H

#include <librdkafka/rdkafka.h>

#include "asterisk/astobj2.h"

#include "asterisk/kafka.h"

/*! \brief What a client of librdkafka is made for. */
enum role {
	ROLE_PRODUCER = 1,
	ROLE_CONSUMER = 2,
};

/*! \brief One client of librdkafka. An AO2 object; opaque of its librdkafka configuration. */
struct client {
	rd_kafka_t *rk;
	time_t logged; /*!< when a line was last written about it, see client_may_log() */
	char name[80]; /*!< of the connection */
};

/*! \brief Read kafka.conf. \retval -1 it cannot be read */
int config_load(void);
void config_free(void);

/*!
 * \brief Make a client as kafka.conf's section says.
 *
 * \param client Gets rk and name; its memory stays where it is for as long as rk is there.
 *
 * \retval 0 made
 * \retval -1 the log says why
 */
int config_new_client(struct client *client, const char *name, enum role role);

/*! \brief Whether a line may be written about the client: one in 30 seconds, so that an outage does not fill the log. */
int client_may_log(struct client *client);

/*! \brief Container of clients, by name. */
struct ao2_container *clients_alloc(void);

/*! \brief Start with no producer, and the same for consumers. \retval -1 no memory */
int producers_start(void);
int consumers_start(void);

/*! \brief One turn of the polling thread: serve what librdkafka has for us, without waiting. */
void producers_poll(void);
void consumers_poll(void);

/*! \brief Flush and end them all. The polling thread runs no more. */
void producers_stop(void);
void consumers_stop(void);

#endif /* REFERENCE_INTERNAL_H */
