/*
 * res_kafka: what peer.c and peer_io.c share. Nobody else includes this.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#ifndef RES_KAFKA_PEER_INTERNAL_H
#define RES_KAFKA_PEER_INTERNAL_H

#include <poll.h>
#include <pthread.h>
#include <stdbool.h>

#include "codec.h"
#include "peer.h"

/* A request whose answer has not come. Those of peer_call are on the caller's stack. */
struct pending {
	struct pending *next;
	uint64_t number;
	uint16_t kind;
	peer_done done; /* of a post; NULL = a thread waits */
	void *owner;
	const void *tag;        /* of a call, and all that follows */
	pthread_cond_t settled;
	bool is_settled;
	enum peer_result result;
	struct peer_answer answer;
};

/* How much is received at once. Longer frames are received into their own block. */
#define PEER_INPUT 65536

struct peer {
	peer_message message;
	void *owner;
	int wake; /* an eventfd */

	pthread_mutex_t lock; /* of what follows; held for no longer than a send that does not block */
	pthread_cond_t changed; /* ready or closed */
	int socket;
	bool ready;
	bool closed;
	uint64_t generation;
	uint64_t numbers;
	struct pending *pending;
	unsigned char *queue; /* what the socket did not take, from begin to end */
	size_t queue_begin, queue_end, queue_room;

	/* The reader's alone. */
	unsigned char input[PEER_INPUT];
	size_t input_begin, input_end;
	struct {
		struct boundary_head head;
		unsigned char *block; /* NULL = skip it */
		size_t have;
	} body; /* of the frame that has come in part, when in_body */
	bool in_body;
};

/* peer_forget_input drops what was received in part. */
void peer_forget_input(struct peer *peer);

#endif /* RES_KAFKA_PEER_INTERNAL_H */
