/*
 * res_kafka: the socket between the module and the engine's process. Knows nothing of Asterisk.
 *
 * A peer outlives engines: it is attached to an engine's socket, detached at the engine's end, and attached
 * to the next engine's socket. Any thread may call and send at any time. One thread, the supervisor's,
 * attaches, detaches and moves the bytes; it is named the reader below.
 *
 * codec.h describes the frames. The peer writes a request's number into its frame. A number is never 0 and
 * never reused, so a late or invented answer matches no call and is dropped.
 *
 * The engine's bytes can only end the connection: lengths are checked before use, and only awaited answers
 * are stored. The decoding caller checks the content of fields (codec.h).
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#ifndef RES_KAFKA_PEER_H
#define RES_KAFKA_PEER_H

#include "codec.h"

/* Longest unsolicited message, bytes: a line of the log. */
#define PEER_UNASKED_MAX (1024u * 1024)

/* Limit of an answer without another limit, bytes. */
#define PEER_ANSWER_MAX (16u * 1024 * 1024)

/* Limit of bytes queued for a slow engine: two of the longest requests. */
#define PEER_QUEUE_MAX (128u * 1024 * 1024)

enum peer_result {
	PEER_OK = 0,
	PEER_AWAY,      /* no engine, or its end before the answer */
	PEER_LATE,      /* no answer before the deadline; the engine may still execute the request */
	PEER_NO_MEMORY, /* here, or more than PEER_QUEUE_MAX waits; or the writer has failed */
};

/* The fields of an answer: a block of memory, owned by the receiver, to be freed by peer_free, and its reader. */
struct peer_answer {
	unsigned char *fields; /* not NULL exactly when the result is PEER_OK */
	struct boundary_reader reader;
};

struct peer;

/* Callback of the reader for each message sent by the engine without a request. fields is valid during the
 * call. */
typedef void (*peer_message)(uint16_t kind, struct boundary_reader *fields);

/* Callback of the reader at the end of a peer_post, with or without an answer. fields is valid during the
 * call, and empty unless result is PEER_OK. */
typedef void (*peer_done)(void *owner, enum peer_result result, struct boundary_reader *fields);

/* peer_create returns a detached peer, or NULL without memory or descriptors. */
struct peer *peer_create(peer_message message);

/* peer_destroy frees a detached peer after its last use. peer may be NULL. */
void peer_destroy(struct peer *peer);

/* peer_call sends a request and waits for the answer, timeout_ms at most, without limit if negative. It
 * returns PEER_AWAY while the peer is not ready, and for a generation other than 0 or the present engine's.
 * The request is finished here, and stays the caller's. tag may be NULL, see peer_cancel. An answer of more than `most` bytes
 * (0 = PEER_ANSWER_MAX) ends the connection before memory is allocated for it. Any thread but the reader. */
enum peer_result peer_call(struct peer *peer, uint64_t generation, struct boundary_writer *request, int timeout_ms,
	const void *tag, size_t most, struct peer_answer *answer);

/* peer_free frees the fields of an answer. NULL is allowed. */
void peer_free(unsigned char *fields);

/* peer_cancel makes the waiting calls with this tag return PEER_AWAY. Any thread; never blocks. */
void peer_cancel(struct peer *peer, const void *tag);

/* peer_post sends a request and returns; the reader calls done once, unless the result is not PEER_OK. It
 * needs an attached peer, ready or not. The request stays the caller's. Any thread; never blocks. */
enum peer_result peer_post(struct peer *peer, struct boundary_writer *request, peer_done done, void *owner);

/* peer_send sends a message without an answer. Refused like peer_call. Any thread; never blocks. */
enum peer_result peer_send(struct peer *peer, struct boundary_writer *message);

/* peer_ready lets calls of other threads through, from now until the peer is detached. */
void peer_ready(struct peer *peer);

/* peer_close refuses all later calls and makes peer_wait return, permanently. Posts still work. */
void peer_close(struct peer *peer);

/* peer_is_closed reports whether peer_close was called. */
int peer_is_closed(struct peer *peer);

/* peer_wait waits until the peer is ready, timeout_ms at most, without limit if negative. Returns the
 * generation of the engine, a number that grows from 1, or 0 after the timeout or peer_close. */
uint64_t peer_wait(struct peer *peer, int timeout_ms);

/* peer_serving is peer_wait without a wait: it takes no lock, for callers that ask before each message. */
uint64_t peer_serving(const struct peer *peer);

/* The rest is the reader's. */

/* peer_attach takes ownership of a non-blocking socket. */
void peer_attach(struct peer *peer, int socket);

/* peer_generation returns how many engines were attached. Any thread. */
uint64_t peer_generation(struct peer *peer);

/* peer_detach closes the socket. Waiting calls return PEER_AWAY, and posts end with the same result.
 * Idempotent. */
void peer_detach(struct peer *peer);

/* peer_socket returns the attached socket or -1, and which events to poll for. */
int peer_socket(struct peer *peer, short *events);

/* peer_wake_descriptor becomes readable after a change of the events, or by peer_wake; peer_woken clears
 * it. */
int peer_wake_descriptor(const struct peer *peer);
void peer_wake(struct peer *peer);
void peer_woken(struct peer *peer);

/* peer_move receives and sends without blocking, and calls back. Returns 0, or -1 if the peer must be
 * detached. At the end of the connection *why is NULL; after a violation of the rules *why names the rule. */
int peer_move(struct peer *peer, const char **why);

#endif /* RES_KAFKA_PEER_H */
