/*
 * res_kafka: the socket between the module and the engine's process. Knows nothing of Asterisk.
 *
 * A peer outlives engines: it is attached to the socket of one, detached when that engine ends, and attached to the
 * next one. Any thread may call and send at any time. One thread, the supervisor's, attaches, detaches and moves the
 * bytes; below it is named the reader.
 *
 * codec.h describes the frames. The peer writes a request's number into its frame. A number is never 0 and never reused, so a
 * late or invented answer matches no call and is dropped.
 *
 * The engine's bytes can only end the connection: lengths are checked before use, and only awaited answers are stored. The
 * caller that decodes the fields checks their content (codec.h).
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#ifndef RES_KAFKA_PEER_H
#define RES_KAFKA_PEER_H

#include <stddef.h>
#include <stdint.h>

/* Longest message that nobody has asked for, bytes: a line of the log. */
#define PEER_UNASKED_MAX (1024u * 1024)

/* Most bytes that may wait for an engine that does not read: two of the longest requests. */
#define PEER_QUEUE_MAX (128u * 1024 * 1024)

enum peer_result {
	PEER_OK = 0,
	PEER_AWAY,      /* there is no engine, or it ended before it answered */
	PEER_LATE,      /* no answer before the deadline; the engine may still do what was asked */
	PEER_NO_MEMORY, /* here, or more than PEER_QUEUE_MAX waits; or the frame is not whole */
};

/* The fields of an answer: one block of memory, the receiver's, to be given to peer_free. */
struct peer_answer {
	unsigned char *fields; /* not NULL when the result is PEER_OK */
	size_t length;
};

struct peer;

/* What the reader calls with each message of the engine's own accord. fields is valid during the call. */
typedef void (*peer_message)(void *owner, uint16_t kind, const unsigned char *fields, size_t length);

/* What the reader calls when the answer to peer_post has come, or will not come. fields is valid during the call, and NULL
 * unless result is PEER_OK. */
typedef void (*peer_done)(void *owner, enum peer_result result, const unsigned char *fields, size_t length);

/* peer_create returns a detached peer, or NULL without memory or descriptors. */
struct peer *peer_create(peer_message message, void *owner);

/* peer_destroy frees a detached peer that no thread uses. peer may be NULL. */
void peer_destroy(struct peer *peer);

/* peer_call sends a request and waits for the answer, timeout_ms at most, without limit when it is negative. Refused
 * with PEER_AWAY while the peer is not ready, and unless generation is 0 or that of the present engine. The number is
 * written into the frame. tag may be NULL, see peer_cancel. Any thread but the reader. */
enum peer_result peer_call(struct peer *peer, uint64_t generation, unsigned char *frame, size_t length, int timeout_ms,
	const void *tag, struct peer_answer *answer);

/* peer_free frees the fields of an answer. NULL is allowed. */
void peer_free(unsigned char *fields);

/* peer_cancel has the calls that wait with this tag return PEER_AWAY. Any thread; never blocks. */
void peer_cancel(struct peer *peer, const void *tag);

/* peer_post sends a request and returns; the reader calls done once, unless the result is not PEER_OK. Needs an attached
 * peer, but no ready one. The number is written into the frame. Any thread; never blocks. */
enum peer_result peer_post(struct peer *peer, unsigned char *frame, size_t length, peer_done done, void *owner);

/* peer_send sends a message that has no answer. Refused as peer_call. Any thread; never blocks. */
enum peer_result peer_send(struct peer *peer, unsigned char *frame, size_t length);

/* peer_ready lets calls of other threads through, from now until the peer is detached. */
void peer_ready(struct peer *peer);

/* peer_close lets no call through any more and has peer_wait return. For good; posts go on. */
void peer_close(struct peer *peer);

/* peer_is_closed reports whether peer_close was called. */
int peer_is_closed(struct peer *peer);

/* peer_wait waits until the peer is ready, timeout_ms at most, without limit when it is negative. Returns the
 * generation of the engine, a number that grows from 1, or 0 when it is not ready by then, or closed. */
uint64_t peer_wait(struct peer *peer, int timeout_ms);

/* The rest is the reader's. */

/* peer_attach takes ownership of a socket that does not block. */
void peer_attach(struct peer *peer, int socket);

/* peer_generation returns how many engines were attached. Any thread. */
uint64_t peer_generation(struct peer *peer);

/* peer_detach closes the socket. Calls that wait return PEER_AWAY, and posts are done with that. Idempotent. */
void peer_detach(struct peer *peer);

/* peer_socket returns the attached socket or -1, and which events to poll for. */
int peer_socket(struct peer *peer, short *events);

/* peer_wake_descriptor becomes readable when the events have changed, or by peer_wake; peer_woken clears it. */
int peer_wake_descriptor(const struct peer *peer);
void peer_wake(struct peer *peer);
void peer_woken(struct peer *peer);

/* peer_move receives and sends what can be, without blocking, and calls back. Returns 0, or -1 when the peer is to be
 * detached: the connection has ended, *why is NULL, or the engine broke its rules, *why says which. */
int peer_move(struct peer *peer, const char **why);

#endif /* RES_KAFKA_PEER_H */
