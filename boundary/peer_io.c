/*
 * res_kafka: the socket between the module and the engine's process: the work of the reader.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#include "peer_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Limit of receive calls in one peer_move, so a flood from the engine does not delay the reader's other
 * work. */
#define RECEIVES_AT_A_TIME 64

void peer_forget_input(struct peer *peer)
{
	free(peer->body);
	peer->body = NULL;
	peer->in_body = false;
	peer->have = 0;
}

/* Returns the request with this number. Caller must hold the lock. */
static struct pending **find(struct peer *peer, uint64_t number)
{
	struct pending **at;

	for (at = &peer->pending; *at && (*at)->number != number; at = &(*at)->next) {
	}
	return at;
}

/* Reports whether a request waits for this answer, and the answer's limit of bytes. */
static bool is_awaited(struct peer *peer, const struct boundary_head *answer, size_t *most)
{
	struct pending *pending;
	bool awaited;

	pthread_mutex_lock(&peer->lock);
	pending = *find(peer, answer->number);
	awaited = pending && pending->kind == answer->kind;
	*most = awaited ? pending->most : answer->length;
	pthread_mutex_unlock(&peer->lock);
	return awaited;
}

/* Ends a request with an answer, or without one after an allocation failure. Takes ownership of fields. */
static void settle(struct peer *peer, uint64_t number, enum peer_result result, unsigned char *fields, size_t length)
{
	struct boundary_reader reader;
	struct pending **at, *pending;

	boundary_read(&reader, fields, length);
	pthread_mutex_lock(&peer->lock);
	at = find(peer, number);
	pending = *at;
	if (pending) {
		*at = pending->next;
		if (!pending->done) {
			pending->result = result;
			pending->answer = (struct peer_answer) { fields, reader };
			pending->is_settled = true;
			pthread_cond_signal(&pending->settled);
			fields = NULL;
			pending = NULL; /* the waiting thread's */
		}
	}
	pthread_mutex_unlock(&peer->lock);
	if (pending) {
		pending->done(pending->owner, result, &reader);
		free(pending);
	}
	free(fields);
}

/* Passes on the complete frame, unless its body was skipped. */
static void deliver(struct peer *peer)
{
	unsigned char *body = peer->body;
	struct boundary_reader fields;

	peer->body = NULL;
	peer_forget_input(peer);
	if (body && peer->head.flags == BOUNDARY_ANSWER) {
		settle(peer, peer->head.number, PEER_OK, body, peer->head.length);
	} else if (body) {
		boundary_read(&fields, body, peer->head.length);
		peer->message(peer->head.kind, &fields);
		free(body);
	}
}

/* Reads the head of a frame and allocates space for the body. Returns 0, or -1 for an invalid head. */
static int begin_body(struct peer *peer, const char **why)
{
	struct boundary_head *head = &peer->head;
	size_t most = PEER_UNASKED_MAX;
	bool answer, wanted;

	if (boundary_parse_head(peer->bytes, head)) {
		*why = "it sent a frame with an impossible head";
		return -1;
	}
	answer = head->flags == BOUNDARY_ANSWER;
	wanted = !answer || is_awaited(peer, head, &most);
	if (head->length > most) {
		*why = "it sent a message that is too long";
		return -1;
	}
	peer->have = 0;
	peer->in_body = true;
	/* One more byte: empty fields have an address too. */
	peer->body = wanted ? malloc(head->length + 1) : NULL;
	if (wanted && !peer->body && answer) {
		settle(peer, head->number, PEER_NO_MEMORY, NULL, 0);
	}
	return 0;
}

/* Receives once: the rest of a head, or of a body, and passes on a complete frame. Returns bytes, 0 at the end of
 * the connection or after an invalid frame, -1 with errno. */
static ssize_t receive(struct peer *peer, const char **why)
{
	unsigned char skipped[4096], *to = peer->in_body ? peer->body : peer->bytes;
	size_t rest = (peer->in_body ? peer->head.length : BOUNDARY_HEAD_SIZE) - peer->have;
	ssize_t n = to ? recv(peer->socket, to + peer->have, rest, MSG_DONTWAIT)
		: recv(peer->socket, skipped, rest < sizeof(skipped) ? rest : sizeof(skipped), MSG_DONTWAIT);

	if (n <= 0) {
		return n;
	}
	peer->have += n;
	if (!peer->in_body && peer->have == BOUNDARY_HEAD_SIZE && begin_body(peer, why)) {
		return 0;
	}
	if (peer->in_body && peer->have == peer->head.length) {
		deliver(peer);
	}
	return n;
}

/* Sends from the queue. Returns 0, or -1 when the connection has ended. */
static int send_queue(struct peer *peer)
{
	int result = 0;

	pthread_mutex_lock(&peer->lock);
	while (peer->queue_begin < peer->queue_end) {
		ssize_t n = send(peer->socket, peer->queue + peer->queue_begin, peer->queue_end - peer->queue_begin,
			MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0) {
			result = errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR ? 0 : -1;
			break;
		}
		peer->queue_begin += n;
	}
	if (peer->queue_begin == peer->queue_end) {
		free(peer->queue);
		peer->queue = NULL;
		peer->queue_begin = peer->queue_end = peer->queue_room = 0;
	}
	pthread_mutex_unlock(&peer->lock);
	return result;
}

int peer_move(struct peer *peer, const char **why)
{
	int i;

	*why = NULL;
	for (i = 0; i < RECEIVES_AT_A_TIME; i++) {
		ssize_t n = receive(peer, why);

		if (n == 0 || (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)) {
			return -1;
		}
		if (n < 0) {
			break;
		}
	}
	return send_queue(peer);
}
