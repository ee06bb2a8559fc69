/*
 * Runs boundary/peer.c against an engine with damaged, unsolicited, truncated and endless frames, for
 * boundary_test.go.
 *
 *   hostile SEED ENGINES   number of engines, one after the other. Each sends until the peer detaches, or
 *                          some thousand frames; then a good engine, which must be served
 *
 * The sanitizers see every byte read by the peer. The program itself checks that the reader never waits for
 * long, that messages have limits, and that a good engine's answers reach their calls.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "boundary/codec.h"
#include "boundary/peer.h"

#define CALLERS 4
#define OTHER_KIND 0x6b6e696b /* the fields of an answer of another kind */
#define FRAMES_MAX 300 /* of each engine */

static struct peer *peer;
static int good;              /* a good engine: calls get correct answers */
static int ending;            /* the callers are to end */
static unsigned long answers; /* received by callers */
static unsigned long messages;
static int refused; /* engines */
static _Thread_local volatile unsigned char sink;

static void die(const char *what)
{
	fprintf(stderr, "hostile: %s\n", what);
	exit(1);
}

static uint32_t below(uint64_t *state, uint32_t limit)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return (uint32_t) (*state >> 16) % limit;
}

static void touch(const unsigned char *bytes, size_t length)
{
	for (size_t i = 0; i < length; i++) {
		sink ^= bytes[i];
	}
}

/* Decodes as the owner of a log line does. */
static void on_message(uint16_t kind, struct boundary_reader *fields)
{
	struct boundary_reader reader = *fields;
	size_t length = fields->end - fields->at;

	__atomic_add_fetch(&messages, 1, __ATOMIC_RELAXED);
	if (length > PEER_UNASKED_MAX) {
		die("a message is longer than allowed");
	}
	touch(fields->at, length);
	boundary_get_int32(&reader);
	sink ^= (unsigned char) strlen(boundary_get_string(&reader));
	boundary_get_int32(&reader);
	sink ^= (unsigned char) strlen(boundary_get_string(&reader));
	sink ^= (unsigned char) strlen(boundary_get_string(&reader));
	(void) kind;
}

/* Asks for messages and decodes the answers, like a subscription's thread. A good engine's topic is the
 * id. */
static void ask(struct boundary_writer *writer, uint64_t id)
{
	int served = __atomic_load_n(&good, __ATOMIC_ACQUIRE);
	struct peer_answer answer;
	struct boundary_reader reader;
	enum peer_result result;
	char topic[16];

	snprintf(topic, sizeof(topic), "%u", (unsigned int) id);
	boundary_begin(writer, BOUNDARY_NEXT, 0, 0);
	boundary_put_number(writer, id);
	result = peer_call(peer, 0, writer, served ? 60000 : 10, NULL, 0, &answer);
	if (result != PEER_OK) {
		if (answer.fields) {
			die("an answer comes with a failure");
		}
		return;
	}
	__atomic_add_fetch(&answers, 1, __ATOMIC_RELAXED);
	reader = answer.reader;
	touch(answer.fields, reader.end - reader.at);
	if (reader.end - reader.at == 8 && boundary_get_number(&reader) == OTHER_KIND) {
		die("a call got the answer to a request of another kind");
	}
	reader = answer.reader;
	for (uint32_t i = boundary_get_count(&reader, 40); i > 0 && !reader.failed; i--) {
		const char *text = boundary_get_string(&reader);

		if (served && strcmp(text, topic)) {
			die("a call got the answer to another one");
		}
		sink ^= (unsigned char) strlen(text);
		boundary_get_int32(&reader);
		boundary_get_number(&reader);
		boundary_get_number(&reader);
		boundary_get_text(&reader, NULL);
		boundary_get_text(&reader, NULL);
		for (uint32_t j = boundary_get_count(&reader, 8); j > 0 && !reader.failed; j--) {
			sink ^= (unsigned char) strlen(boundary_get_string(&reader));
			boundary_get_text(&reader, NULL);
		}
	}
	if (served && boundary_end(&reader)) {
		die("a good answer is damaged");
	}
	free(answer.fields);
}

static void *call(void *argument)
{
	struct boundary_writer writer = { 0 };

	while (!__atomic_load_n(&ending, __ATOMIC_ACQUIRE)) {
		if (peer_wait(peer, 20)) {
			ask(&writer, (uint64_t) (size_t) argument);
		}
	}
	boundary_free(&writer);
	return NULL;
}

/* Sends all bytes in pieces, unless the peer has closed. Returns 0 or -1. */
static int send_pieces(int socket, const unsigned char *bytes, size_t length, uint64_t *state)
{
	size_t sent = 0;

	while (sent < length) {
		size_t piece = below(state, 3) ? length - sent : 1 + below(state, (uint32_t) (length - sent));
		ssize_t n = send(socket, bytes + sent, piece, MSG_NOSIGNAL);

		if (n < 0 && errno != EINTR) {
			return -1;
		}
		sent += n < 0 ? 0 : (size_t) n;
	}
	return 0;
}

/* Reads a request and its id. Returns the number of the request, 0 at the end. */
static uint64_t read_request(int socket, unsigned int *id)
{
	unsigned char bytes[BOUNDARY_HEAD_SIZE + 8];
	struct boundary_head head;
	size_t have = 0;

	while (have < sizeof(bytes)) {
		ssize_t n = recv(socket, bytes + have, sizeof(bytes) - have, 0);

		if (n <= 0) {
			return 0;
		}
		have += (size_t) n;
	}
	if (boundary_parse_head(bytes, &head) || head.kind != BOUNDARY_NEXT || head.length != 8 || !head.number) {
		die("the peer sends a damaged request");
	}
	*id = bytes[BOUNDARY_HEAD_SIZE];
	return head.number;
}

/* Encodes an answer with messages. Some answers are long enough for a block of their own. */
static void put_answer(struct boundary_writer *writer, uint64_t number, unsigned int id, uint64_t *state)
{
	static char filler[300000];
	uint32_t count = below(state, 4);
	char topic[16];

	snprintf(topic, sizeof(topic), "%u", id);
	boundary_begin(writer, BOUNDARY_NEXT, BOUNDARY_ANSWER, number);
	boundary_put_count(writer, count);
	while (count--) {
		boundary_put_string(writer, topic);
		boundary_put_number(writer, below(state, 100));
		boundary_put_number(writer, below(state, 100));
		boundary_put_number(writer, UINT64_MAX);
		boundary_put_text(writer, below(state, 2) ? "key" : NULL, 3);
		boundary_put_text(writer, filler, below(state, 8) ? below(state, 500) : below(state, sizeof(filler)));
		boundary_put_count(writer, 1);
		boundary_put_string(writer, "name");
		boundary_put_text(writer, "value", 5);
	}
}

/* Encodes the next message of a hostile engine, and damages the frame. */
static void put_hostile(struct boundary_writer *writer, uint64_t number, unsigned int id, uint64_t *state)
{
	static char filler[2 * PEER_UNASKED_MAX];

	switch (below(state, 8)) {
	case 0: /* an unawaited answer */
		put_answer(writer, number + 1 + below(state, 1000), id, state);
		break;
	case 1: /* of another kind; not damaged, so no frame becomes valid for the call */
		boundary_begin(writer, (uint16_t) (BOUNDARY_NEXT + 1 + below(state, 60)), BOUNDARY_ANSWER, number);
		boundary_put_number(writer, OTHER_KIND);
		if (boundary_finish(writer)) {
			die("no memory");
		}
		return;
	case 2: /* unsolicited, of any kind */
		boundary_begin(writer, below(state, 2) ? BOUNDARY_LOG : (uint16_t) below(state, 70), 0, below(state, 2) ? 0 : number);
		boundary_put_number(writer, below(state, 5));
		boundary_put_string(writer, "file.go");
		boundary_put_number(writer, 1);
		boundary_put_string(writer, "function");
		boundary_put_text(writer, filler, below(state, 4) ? 10 : below(state, sizeof(filler)));
		break;
	default:
		put_answer(writer, number, id, state);
	}
	if (boundary_finish(writer)) {
		die("no memory");
	}
	for (uint32_t i = below(state, 2) ? 0 : below(state, 4); i > 0; i--) {
		/* Damage to the head is rare, because it ends the connection. */
		size_t from = below(state, 10) ? BOUNDARY_HEAD_SIZE : 0;

		if (writer->used > from) {
			size_t at = from + below(state, (uint32_t) (writer->used - from < 200 ? writer->used - from : 200));

			writer->bytes[at] = below(state, 2) ? 0xff : (unsigned char) below(state, 256);
		}
	}
}

struct engine {
	int socket;
	uint64_t seed;
	int in_step; /* each frame so far was as long as its head's length */
	int broken;  /* the last frame had a head that the peer must refuse */
};

/* Notes the required reaction of the peer to a frame. Returns 0 for the last frame. */
static int judge(struct engine *engine, const unsigned char *frame, size_t length)
{
	struct boundary_head head;

	if (length < BOUNDARY_HEAD_SIZE) {
		engine->in_step = 0;
		return 0;
	}
	if (boundary_parse_head(frame, &head) || (head.flags != BOUNDARY_ANSWER && head.length > PEER_UNASKED_MAX)) {
		engine->broken = engine->in_step;
		return !engine->in_step;
	}
	engine->in_step &= head.length == length - BOUNDARY_HEAD_SIZE;
	return 1;
}

static void *run_engine(void *argument)
{
	struct engine *engine = argument;
	struct boundary_writer writer = { 0 };
	uint64_t state = engine->seed;
	int frames = good ? FRAMES_MAX : 1 + (int) below(&state, FRAMES_MAX);
	unsigned int id;
	uint64_t number;

	while (frames-- > 0 && (number = read_request(engine->socket, &id))) {
		if (good) {
			put_answer(&writer, number, id, &state);
			if (boundary_finish(&writer)) {
				die("no memory");
			}
		} else {
			put_hostile(&writer, number, id, &state);
		}
		if (!good && !below(&state, 60)) {
			writer.used = below(&state, (uint32_t) writer.used + 1); /* the last frame is cut */
			frames = 0;
		}
		if (!judge(engine, writer.bytes, writer.used)) {
			frames = 0;
		}
		if (send_pieces(engine->socket, writer.bytes, writer.used, &state)) {
			break;
		}
	}
	shutdown(engine->socket, SHUT_RDWR);
	boundary_free(&writer);
	return NULL;
}

/* The reader: moves bytes until the peer detaches from the engine. Returns the reason, or NULL at the end of
 * the connection. */
static const char *read_until_end(void)
{
	const char *why;
	struct pollfd polled[2];

	for (;;) {
		polled[0].fd = peer_socket(peer, &polled[0].events);
		polled[1].fd = peer_wake_descriptor(peer);
		polled[1].events = POLLIN;
		if (poll(polled, 2, 5000) == 0) {
			die("nothing happened for five seconds");
		}
		if (polled[1].revents) {
			peer_woken(peer);
		}
		if (peer_move(peer, &why)) {
			peer_detach(peer);
			return why;
		}
	}
}

static void serve(uint64_t seed)
{
	struct engine engine = { .seed = seed, .in_step = 1 };
	pthread_t thread;
	const char *why;
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair)) {
		die("no socket");
	}
	engine.socket = pair[1];
	peer_attach(peer, pair[0]);
	peer_ready(peer);
	if (pthread_create(&thread, NULL, run_engine, &engine)) {
		die("no thread");
	}
	why = read_until_end();
	shutdown(pair[1], SHUT_RDWR);
	pthread_join(thread, NULL);
	if ((why && engine.in_step && !engine.broken) || (!why && engine.broken)) {
		die(why ? why : "a frame that breaks the rules did not end the connection");
	}
	refused += why != NULL;
	close(pair[1]);
}

int main(int argc, char **argv)
{
	pthread_t callers[CALLERS];
	unsigned long before;
	uint64_t state;
	int i, engines;

	if (argc != 3) {
		fprintf(stderr, "hostile SEED ENGINES\n");
		return 2;
	}
	state = strtoull(argv[1], NULL, 0) | 1;
	engines = atoi(argv[2]);
	peer = peer_create(on_message);
	if (!peer) {
		die("no peer");
	}
	for (i = 0; i < CALLERS; i++) {
		if (pthread_create(&callers[i], NULL, call, (void *) (size_t) (i + 1))) {
			die("no thread");
		}
	}
	for (i = 0; i < engines; i++) {
		serve(state + (uint64_t) i * 7919);
	}
	before = __atomic_load_n(&answers, __ATOMIC_RELAXED);
	__atomic_store_n(&good, 1, __ATOMIC_RELEASE);
	serve(state);
	/* Each caller may time out once, and lose an answer at the end of the connection. */
	if (__atomic_load_n(&answers, __ATOMIC_RELAXED) - before < FRAMES_MAX - 2 * CALLERS) {
		die("a good engine was not served after the hostile ones");
	}
	__atomic_store_n(&ending, 1, __ATOMIC_RELEASE);
	for (i = 0; i < CALLERS; i++) {
		pthread_join(callers[i], NULL);
	}
	peer_destroy(peer);
	printf("%d engines, %d refused, %lu answers, %lu messages\n", engines, refused, answers, messages);
	return !refused || !messages;
}
