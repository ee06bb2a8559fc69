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
	if (peer->in_body) {
		free(peer->body.block);
	}
	memset(&peer->body, 0, sizeof(peer->body));
	peer->in_body = false;
	peer->input_begin = peer->input_end = 0;
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
	struct pending **at, *pending;

	pthread_mutex_lock(&peer->lock);
	at = find(peer, number);
	pending = *at;
	if (pending) {
		*at = pending->next;
		if (!pending->done) {
			pending->result = result;
			pending->answer = (struct peer_answer) { fields, length };
			pending->is_settled = true;
			pthread_cond_signal(&pending->settled);
			fields = NULL;
			pending = NULL; /* the waiting thread's */
		}
	}
	pthread_mutex_unlock(&peer->lock);
	if (pending) {
		pending->done(pending->owner, result, fields, length);
		free(pending);
	}
	free(fields);
}

/* Passes on the frame with a complete body. */
static void deliver(struct peer *peer)
{
	unsigned char *block = peer->body.block;

	peer->in_body = false;
	peer->body.block = NULL;
	if (!block) {
		return; /* a skipped body */
	}
	if (peer->body.head.flags == BOUNDARY_ANSWER) {
		settle(peer, peer->body.head.number, PEER_OK, block, peer->body.head.length);
		return;
	}
	peer->message(peer->owner, peer->body.head.kind, block, peer->body.head.length);
	free(block);
}

/* Reads the head of a frame and allocates space for the body. Returns 0, or -1 for an invalid head. */
static int begin_body(struct peer *peer, const unsigned char *bytes, const char **why)
{
	struct boundary_head *head = &peer->body.head;
	size_t most = PEER_UNASKED_MAX;
	bool answer, wanted;

	if (boundary_parse_head(bytes, head)) {
		*why = "it sent a frame with an impossible head";
		return -1;
	}
	answer = head->flags == BOUNDARY_ANSWER;
	wanted = !answer || is_awaited(peer, head, &most);
	if (head->length > most) {
		*why = "it sent a message that is too long";
		return -1;
	}
	peer->body.have = 0;
	/* One more byte: empty fields have an address too. */
	peer->body.block = wanted ? malloc(head->length + 1) : NULL;
	if (wanted && !peer->body.block && answer) {
		settle(peer, head->number, PEER_NO_MEMORY, NULL, 0);
	}
	peer->in_body = true;
	return 0;
}

/* Takes as much of the body as has been received. */
static void continue_body(struct peer *peer)
{
	size_t wants = peer->body.head.length - peer->body.have;
	size_t has = peer->input_end - peer->input_begin;
	size_t takes = wants < has ? wants : has;

	if (peer->body.block) {
		memcpy(peer->body.block + peer->body.have, peer->input + peer->input_begin, takes);
	}
	peer->body.have += takes;
	peer->input_begin += takes;
	if (peer->body.have == peer->body.head.length) {
		deliver(peer);
	}
}

/* Passes on the received frames. Returns 0, or -1 for an invalid frame. */
static int parse(struct peer *peer, const char **why)
{
	for (;;) {
		if (peer->in_body) {
			if (peer->input_begin == peer->input_end && peer->body.have < peer->body.head.length) {
				break;
			}
			continue_body(peer);
			continue;
		}
		if (peer->input_end - peer->input_begin < BOUNDARY_HEAD_SIZE) {
			break;
		}
		if (begin_body(peer, peer->input + peer->input_begin, why)) {
			return -1;
		}
		peer->input_begin += BOUNDARY_HEAD_SIZE;
	}
	memmove(peer->input, peer->input + peer->input_begin, peer->input_end - peer->input_begin);
	peer->input_end -= peer->input_begin;
	peer->input_begin = 0;
	return 0;
}

/* Receives once: into the block of a long body, else into the input. Returns bytes, 0 at the end, -1 with errno. */
static ssize_t receive(struct peer *peer)
{
	size_t rest = peer->body.head.length - peer->body.have;
	ssize_t n;

	if (peer->in_body && peer->body.block && rest > PEER_INPUT) {
		n = recv(peer->socket, peer->body.block + peer->body.have, rest - 1, MSG_DONTWAIT);
		if (n > 0) {
			peer->body.have += n; /* not yet complete: parse() handles the end */
		}
		return n;
	}
	n = recv(peer->socket, peer->input + peer->input_end, sizeof(peer->input) - peer->input_end, MSG_DONTWAIT);
	if (n > 0) {
		peer->input_end += n;
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
		ssize_t n = receive(peer);

		if (n == 0 || (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)) {
			return -1;
		}
		if (n < 0) {
			break;
		}
		if (parse(peer, why)) {
			return -1;
		}
	}
	return send_queue(peer);
}
