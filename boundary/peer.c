/*
 * res_kafka: the socket between the module and the engine's process: calls and messages.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#include "peer_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"

struct peer *peer_create(peer_message message)
{
	struct peer *peer = calloc(1, sizeof(*peer));

	if (!peer) {
		return NULL;
	}
	peer->message = message;
	peer->socket = -1;
	peer->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (peer->wake < 0 || clock_condition(&peer->changed)) {
		if (peer->wake >= 0) {
			close(peer->wake);
		}
		free(peer);
		return NULL;
	}
	pthread_mutex_init(&peer->lock, NULL);
	return peer;
}

void peer_destroy(struct peer *peer)
{
	if (!peer) {
		return;
	}
	peer_detach(peer);
	close(peer->wake);
	pthread_cond_destroy(&peer->changed);
	pthread_mutex_destroy(&peer->lock);
	free(peer);
}

void peer_wake(struct peer *peer)
{
	const uint64_t one = 1;

	/* A full counter is readable too. */
	while (write(peer->wake, &one, sizeof(one)) < 0 && errno == EINTR) {
	}
}

void peer_woken(struct peer *peer)
{
	uint64_t count;

	while (read(peer->wake, &count, sizeof(count)) < 0 && errno == EINTR) {
	}
}

int peer_wake_descriptor(const struct peer *peer)
{
	return peer->wake;
}

/* Appends bytes to the queue. Caller must hold the lock. */
static enum peer_result append(struct peer *peer, const void *bytes, size_t length)
{
	if (peer->queue_begin && peer->queue_end + length > peer->queue_room) {
		memmove(peer->queue, peer->queue + peer->queue_begin, peer->queue_end - peer->queue_begin);
		peer->queue_end -= peer->queue_begin;
		peer->queue_begin = 0;
	}
	if (peer->queue_end + length > peer->queue_room) {
		size_t room = (peer->queue_end + length) / 2 * 3;
		unsigned char *queue = realloc(peer->queue, room);

		if (!queue) {
			return PEER_NO_MEMORY;
		}
		peer->queue = queue;
		peer->queue_room = room;
	}
	memcpy(peer->queue + peer->queue_end, bytes, length);
	peer->queue_end += length;
	return PEER_OK;
}

/* Sends a frame, or queues the rest of a partial send. Caller must hold the lock. */
static enum peer_result transmit(struct peer *peer, const unsigned char *frame, size_t length)
{
	size_t waiting = peer->queue_end - peer->queue_begin, sent = 0;

	if (peer->socket < 0) {
		return PEER_AWAY;
	}
	if (waiting + length > PEER_QUEUE_MAX) {
		return PEER_NO_MEMORY;
	}
	if (!waiting) {
		ssize_t n = send(peer->socket, frame, length, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) {
			return PEER_AWAY; /* the reader is about to notice */
		}
		sent = n < 0 ? 0 : (size_t) n;
	}
	if (sent == length) {
		return PEER_OK;
	}
	if (append(peer, frame + sent, length - sent)) {
		if (sent) {
			shutdown(peer->socket, SHUT_RDWR); /* nothing behind half a frame can be read */
		}
		return PEER_NO_MEMORY;
	}
	peer_wake(peer);
	return PEER_OK;
}

/* Takes a call out of the list. Caller must hold the lock. */
static void forget(struct peer *peer, struct pending *pending)
{
	struct pending **at;

	for (at = &peer->pending; *at; at = &(*at)->next) {
		if (*at == pending) {
			*at = pending->next;
			return;
		}
	}
}

/* Assigns a number to a request, adds the request to the list and sends the frame. Caller must hold the
 * lock. */
static enum peer_result begin(struct peer *peer, struct pending *pending, struct boundary_writer *request)
{
	struct boundary_head head;
	enum peer_result result;

	if (boundary_finish(request) || boundary_parse_head(request->bytes, &head)) {
		return PEER_NO_MEMORY;
	}
	pending->kind = head.kind;
	pending->number = ++peer->numbers;
	boundary_set_number(request, BOUNDARY_HEAD_SIZE - sizeof(uint64_t), pending->number);
	pending->next = peer->pending;
	peer->pending = pending;
	result = transmit(peer, request->bytes, request->used);
	if (result != PEER_OK) {
		forget(peer, pending);
	}
	return result;
}

enum peer_result peer_call(struct peer *peer, uint64_t generation, struct boundary_writer *request, int timeout_ms,
	const void *tag, size_t most, struct peer_answer *answer)
{
	int64_t deadline = clock_deadline(timeout_ms);
	struct pending pending = { .result = PEER_LATE, .tag = tag, .most = most ? most : PEER_ANSWER_MAX };
	enum peer_result result = PEER_AWAY;

	*answer = (struct peer_answer) { 0 };
	if (clock_condition(&pending.settled)) {
		return PEER_NO_MEMORY;
	}
	pthread_mutex_lock(&peer->lock);
	if (peer->ready && !peer->closed && (!generation || generation == peer->generation)) {
		result = begin(peer, &pending, request);
	}
	if (result == PEER_OK) {
		while (!pending.is_settled && clock_wait(&pending.settled, &peer->lock, deadline) != ETIMEDOUT) {
		}
		if (!pending.is_settled) {
			forget(peer, &pending);
		}
		result = pending.result;
		*answer = pending.answer;
	}
	pthread_mutex_unlock(&peer->lock);
	pthread_cond_destroy(&pending.settled);
	return result;
}

void peer_free(unsigned char *fields)
{
	free(fields);
}

void peer_cancel(struct peer *peer, const void *tag)
{
	struct pending **at, *pending;

	pthread_mutex_lock(&peer->lock);
	for (at = &peer->pending; (pending = *at);) {
		if (pending->done || pending->tag != tag) {
			at = &pending->next;
			continue;
		}
		*at = pending->next;
		pending->result = PEER_AWAY;
		pending->is_settled = true;
		pthread_cond_signal(&pending->settled);
	}
	pthread_mutex_unlock(&peer->lock);
}

enum peer_result peer_post(struct peer *peer, struct boundary_writer *request, peer_done done, void *owner)
{
	struct pending *pending = calloc(1, sizeof(*pending));
	enum peer_result result;

	if (!pending) {
		return PEER_NO_MEMORY;
	}
	pending->done = done;
	pending->owner = owner;
	pending->most = PEER_ANSWER_MAX;
	pthread_mutex_lock(&peer->lock);
	result = begin(peer, pending, request);
	pthread_mutex_unlock(&peer->lock);
	if (result != PEER_OK) {
		free(pending);
	}
	return result;
}

enum peer_result peer_send(struct peer *peer, struct boundary_writer *message)
{
	enum peer_result result = PEER_AWAY;

	pthread_mutex_lock(&peer->lock);
	if (peer->ready && !peer->closed) {
		result = boundary_finish(message) ? PEER_NO_MEMORY : transmit(peer, message->bytes, message->used);
	}
	pthread_mutex_unlock(&peer->lock);
	return result;
}

/* Updates the result of peer_serving. Caller must hold the lock. */
static void set_serving(struct peer *peer)
{
	__atomic_store_n(&peer->serving, peer->ready && !peer->closed ? peer->generation : 0, __ATOMIC_SEQ_CST);
}

uint64_t peer_serving(const struct peer *peer)
{
	return __atomic_load_n(&peer->serving, __ATOMIC_SEQ_CST);
}

void peer_ready(struct peer *peer)
{
	pthread_mutex_lock(&peer->lock);
	peer->ready = peer->socket >= 0;
	set_serving(peer);
	pthread_cond_broadcast(&peer->changed);
	pthread_mutex_unlock(&peer->lock);
}

void peer_close(struct peer *peer)
{
	pthread_mutex_lock(&peer->lock);
	peer->closed = true;
	set_serving(peer);
	pthread_cond_broadcast(&peer->changed);
	pthread_mutex_unlock(&peer->lock);
}

int peer_is_closed(struct peer *peer)
{
	int closed;

	pthread_mutex_lock(&peer->lock);
	closed = peer->closed;
	pthread_mutex_unlock(&peer->lock);
	return closed;
}

uint64_t peer_wait(struct peer *peer, int timeout_ms)
{
	int64_t deadline = clock_deadline(timeout_ms);
	uint64_t generation;

	pthread_mutex_lock(&peer->lock);
	while (!peer->ready && !peer->closed && clock_wait(&peer->changed, &peer->lock, deadline) != ETIMEDOUT) {
	}
	generation = peer_serving(peer);
	pthread_mutex_unlock(&peer->lock);
	return generation;
}

void peer_attach(struct peer *peer, int socket)
{
	pthread_mutex_lock(&peer->lock);
	peer->socket = socket;
	peer->generation++;
	pthread_mutex_unlock(&peer->lock);
}

uint64_t peer_generation(struct peer *peer)
{
	uint64_t generation;

	pthread_mutex_lock(&peer->lock);
	generation = peer->generation;
	pthread_mutex_unlock(&peer->lock);
	return generation;
}

/* Ends every request: waiting threads are woken, posts are returned. Caller must hold the lock. */
static struct pending *abandon(struct peer *peer)
{
	struct pending *posts = NULL, *pending, *next;

	for (pending = peer->pending; pending; pending = next) {
		next = pending->next;
		if (pending->done) {
			pending->next = posts;
			posts = pending;
		} else {
			pending->result = PEER_AWAY;
			pending->is_settled = true;
			pthread_cond_signal(&pending->settled);
		}
	}
	peer->pending = NULL;
	return posts;
}

void peer_detach(struct peer *peer)
{
	struct boundary_reader nothing = { 0 };
	struct pending *posts, *next;

	pthread_mutex_lock(&peer->lock);
	if (peer->socket >= 0) {
		close(peer->socket);
	}
	peer->socket = -1;
	peer->ready = false;
	set_serving(peer);
	free(peer->queue);
	peer->queue = NULL;
	peer->queue_begin = peer->queue_end = peer->queue_room = 0;
	posts = abandon(peer);
	pthread_cond_broadcast(&peer->changed);
	pthread_mutex_unlock(&peer->lock);
	peer_forget_input(peer);
	for (; posts; posts = next) {
		next = posts->next;
		posts->done(posts->owner, PEER_AWAY, &nothing);
		free(posts);
	}
}

int peer_socket(struct peer *peer, short *events)
{
	int socket;

	pthread_mutex_lock(&peer->lock);
	socket = peer->socket;
	*events = POLLIN | (peer->queue_begin < peer->queue_end ? POLLOUT : 0);
	pthread_mutex_unlock(&peer->lock);
	return socket;
}
