/*
 * kafka_bench: consuming.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */

/*! \file
 *
 * \brief Time of a message from the producing call to the callback, and speed of draining a topic.
 */

#include "asterisk.h"

#include <stdio.h>
#include <unistd.h>

#include "asterisk/astobj2.h"
#include "asterisk/cli.h"
#include "asterisk/utils.h"

#include "asterisk/kafka.h"

#include "bench.h"
#include "measure.h"
#include "payload.h"

/* Commands are waited for a minute by the runner, see test/pbx; joining a group takes a few seconds. */
#define PATIENCE_NS 50000000000LL
#define BYTES 300

/* Counts of callbacks. Written by the callback's thread only, except the first two; read by the command's
 * thread. */
struct arrivals {
	int64_t run;   /* identifies this command's messages among those of an earlier command */
	long wanted;   /* of drain */
	long count;
	int64_t first, last; /* arrival of the first and of the wanted message, ns */
	struct times times;
};

static long load_long(const long *of)
{
	return __atomic_load_n(of, __ATOMIC_ACQUIRE);
}

/* Waits for count arrivals; -1 after the deadline. */
static int await(struct arrivals *arrivals, long count, int64_t until)
{
	while (load_long(&arrivals->count) < count) {
		if (now_ns() > until) {
			return -1;
		}
		usleep(2000);
	}
	return 0;
}

/* A message of this command: the number of its run, and the time of production; 0 = a warm-up message. */
static void on_stamped(const char *topic, int32_t partition, int64_t offset, const void *payload, size_t len,
	const void *key, size_t key_len, void *userdata)
{
	int64_t now = now_ns();
	struct arrivals *arrivals = userdata;
	long long run, sent;
	char text[64];

	ast_copy_string(text, payload, MIN(len + 1, sizeof(text)));
	if (sscanf(text, "{\"run\":%lld,\"sent\":%lld", &run, &sent) != 2 || run != arrivals->run) {
		return;
	}
	if (sent) {
		times_add(&arrivals->times, now - sent);
	} else {
		__atomic_store_n(&arrivals->first, now, __ATOMIC_RELEASE);
	}
	__atomic_add_fetch(&arrivals->count, 1, __ATOMIC_RELEASE);
}

static int produce_stamped(struct ast_kafka_producer *producer, const char *topic, const struct payloads *payloads, long i,
	int64_t run, int64_t sent)
{
	char value[BYTES];
	int length;

	memcpy(value, payload_of(payloads, i), sizeof(value));
	length = snprintf(value, sizeof(value), "{\"run\":%lld,\"sent\":%lld", (long long) run, (long long) sent);
	value[length] = ',';
	return ast_kafka_produce(producer, topic, payloads->keys[i % PAYLOAD_KEYS], value, sizeof(value));
}

/* Sends single messages until the group is joined and the first message has arrived; returns their number, -1
 * = no arrival. */
static long warm_up(struct ast_kafka_producer *producer, const char *topic, const struct payloads *payloads, struct arrivals *arrivals)
{
	int64_t until = now_ns() + PATIENCE_NS / 2;
	long sent;

	for (sent = 0; !__atomic_load_n(&arrivals->first, __ATOMIC_ACQUIRE); sent++) {
		if (now_ns() > until) {
			return -1;
		}
		produce_stamped(producer, topic, payloads, sent, arrivals->run, 0);
		usleep(100000);
	}
	return sent;
}

/* Produces count messages at a rate, each with the time of its call, by the clock now. Returns the number of refused
 * messages. */
static long produce_at(struct ast_kafka_producer *producer, const char *topic, const struct payloads *payloads, double rate,
	long count, int64_t run, int64_t (*now)(void))
{
	int64_t next = now_ns();
	long i, refused = 0;

	for (i = 0; i < count; i++) {
		struct timespec when = { next / 1000000000, next % 1000000000 };

		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &when, NULL);
		next += (int64_t) (1e9 / rate);
		refused += produce_stamped(producer, topic, payloads, i, run, now()) != 0;
	}
	return refused;
}

static void measure_latency(int fd, struct ast_kafka_producer *producer, const char *topic, double rate, double seconds, struct arrivals *arrivals)
{
	struct payloads payloads = { 0 };
	long count = rate * seconds, early, refused;

	if (payloads_make(&payloads, BYTES, count) || (early = warm_up(producer, topic, &payloads, arrivals)) < 0) {
		ast_cli(fd, "error no message came\n");
		payloads_free(&payloads);
		return;
	}
	/* Warm-up messages may have been sent before the subscription began: a message missing by now never
	 * arrives. */
	usleep(500000);
	early = load_long(&arrivals->count);
	refused = produce_at(producer, topic, &payloads, rate, count, arrivals->run, now_ns);
	await(arrivals, early + count - refused, now_ns() + 10000000000LL);
	ast_cli(fd, "calls %ld\nrefused %ld\n", count, refused);
	payloads_free(&payloads);
}

void bench_latency(int fd, const char *const *argv)
{
	struct ast_kafka_producer *producer = ast_kafka_get_producer(argv[0]);
	struct ast_kafka_consumer *consumer = ast_kafka_get_consumer(argv[1]);
	struct arrivals *arrivals = ast_calloc(1, sizeof(*arrivals));

	if (!producer || !consumer || !arrivals || atof(argv[3]) <= 0) {
		ast_cli(fd, "error no producer, no consumer or no rate\n");
	} else {
		arrivals->run = now_ns();
		if (ast_kafka_consumer_subscribe(consumer, argv[2], on_stamped, arrivals)) {
			ast_cli(fd, "error not subscribed\n");
		} else {
			measure_latency(fd, producer, argv[2], atof(argv[3]), atof(argv[4]), arrivals);
		}
		ast_kafka_consumer_unsubscribe(consumer);
		ast_cli(fd, "arrived %lld\n", (long long) arrivals->times.count);
		times_print(fd, &arrivals->times);
	}
	ast_free(arrivals);
	ao2_cleanup(consumer);
	ao2_cleanup(producer);
}

void bench_send(int fd, const char *const *argv)
{
	struct ast_kafka_producer *producer = ast_kafka_get_producer(argv[0]);
	double rate = atof(argv[2]);
	long count = rate * atof(argv[3]);
	struct payloads payloads = { 0 };

	if (!producer || rate <= 0 || payloads_make(&payloads, BYTES, count)) {
		ast_cli(fd, "error no producer, no rate or no memory\n");
	} else {
		long refused = produce_at(producer, argv[1], &payloads, rate, count, now_ns(), wall_ns);

		ast_cli(fd, "calls %ld\nrefused %ld\n", count, refused);
	}
	payloads_free(&payloads);
	ao2_cleanup(producer);
}

static void on_any(const char *topic, int32_t partition, int64_t offset, const void *payload, size_t len, const void *key,
	size_t key_len, void *userdata)
{
	struct arrivals *arrivals = userdata;
	long count = arrivals->count + 1;

	if (count == 1) {
		arrivals->first = now_ns();
	}
	if (count == arrivals->wanted) {
		arrivals->last = now_ns();
	}
	__atomic_store_n(&arrivals->count, count, __ATOMIC_RELEASE);
}

void bench_drain(int fd, const char *const *argv)
{
	struct ast_kafka_consumer *consumer = ast_kafka_get_consumer(argv[0]);
	struct arrivals *arrivals = ast_calloc(1, sizeof(*arrivals));
	int64_t begun;

	if (!consumer || !arrivals || atol(argv[2]) < 2) {
		ast_cli(fd, "error no consumer, or nothing to count\n");
	} else {
		arrivals->wanted = atol(argv[2]);
		begun = now_ns();
		if (ast_kafka_consumer_subscribe(consumer, argv[1], on_any, arrivals)) {
			ast_cli(fd, "error not subscribed\n");
		} else if (await(arrivals, arrivals->wanted, begun + PATIENCE_NS)) {
			ast_cli(fd, "error only %ld have come\n", load_long(&arrivals->count));
		} else {
			ast_cli(fd, "arrived %ld\nseconds %.6f\nseconds_in_all %.6f\n", arrivals->wanted,
				(arrivals->last - arrivals->first) / 1e9, (arrivals->last - begun) / 1e9);
		}
		ast_kafka_consumer_unsubscribe(consumer);
	}
	ast_free(arrivals);
	ao2_cleanup(consumer);
}
