/*
 * res_kafka: common parts of peer.c and peer_io.c. No other file includes this header.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#ifndef RES_KAFKA_PEER_INTERNAL_H
#define RES_KAFKA_PEER_INTERNAL_H

#include <poll.h>
#include <pthread.h>
#include <stdbool.h>

#include "peer.h"

/* A request without an answer yet. Requests of peer_call are on the caller's stack. */
struct pending {
	struct pending *next;
	uint64_t number;
	uint16_t kind;
	size_t most; /* bytes of the answer's fields */
	peer_done done; /* of a post; NULL = a thread waits */
	void *owner;
	const void *tag;        /* this and the rest: of a call */
	pthread_cond_t settled;
	bool is_settled;
	enum peer_result result;
	struct peer_answer answer;
};

struct peer {
	peer_message message;
	int wake; /* an eventfd */

	pthread_mutex_t lock; /* of the fields below; held for a non-blocking send at most */
	pthread_cond_t changed; /* ready or closed */
	int socket;
	bool ready;
	bool closed;
	uint64_t generation;
	uint64_t serving; /* the generation while it is ready, else 0; written under the lock, read without */
	uint64_t numbers;
	struct pending *pending;
	unsigned char *queue; /* unsent bytes, from begin to end */
	size_t queue_begin, queue_end, queue_room;

	/* The reader's alone. */
	unsigned char bytes[BOUNDARY_HEAD_SIZE];
	struct boundary_head head; /* of the partially received frame, if in_body */
	unsigned char *body;       /* NULL = skip the body */
	size_t have;               /* bytes of the head, or of the body if in_body */
	bool in_body;
};

/* peer_forget_input drops a partially received frame. */
void peer_forget_input(struct peer *peer);

#endif /* RES_KAFKA_PEER_INTERNAL_H */
