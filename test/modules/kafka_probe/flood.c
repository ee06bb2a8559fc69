/*
 * kafka_probe: many messages from many threads.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */

/*! \file
 *
 * \brief Threads that produce numbered messages, and a consumer that counts the outcomes.
 *
 *   kafka flood check <connection> <topic> <threads> <each> <keys>
 *                                        subscribe to the messages of the next start
 *   kafka flood start <connection> <topic> <threads> <each> <keys> <per second> <hold>
 *                                        <each> messages from each thread, with <keys> keys per thread; the rate is for
 *                                        all threads together, 0 = flat out; a thread waits before message number <hold>
 *   kafka flood hold                     makes the threads wait, and returns when all do
 *   kafka flood go [<hold>]              releases the threads, to the end or to message number <hold>
 *   kafka flood stop                     ends the threads, and waits for their end
 *   kafka flood show                     the counts below, on one line
 *   kafka flood end                      stop, and end the consumer
 *
 * Message 7 of thread 3 has the value "3 7" and, with 100 keys, the key "3.7". A refused message is retried
 * after a millisecond.
 */

#include "asterisk.h"

#include <pthread.h>
#include <time.h>

#include "asterisk/astobj2.h"
#include "asterisk/cli.h"
#include "asterisk/module.h"
#include "asterisk/utils.h"

#include "asterisk/kafka.h"

#include "flood.h"

#define PARTITIONS 256
#define THREADS 64

#define GET(variable) __atomic_load_n(&(variable), __ATOMIC_SEQ_CST)
#define SET(variable, value) __atomic_store_n(&(variable), value, __ATOMIC_SEQ_CST)
#define ADD(variable) __atomic_add_fetch(&(variable), 1, __ATOMIC_SEQ_CST)

struct plan {
	long threads, each, keys;
};

static struct {
	struct plan plan;
	struct ast_kafka_producer *producer;
	char topic[256];
	pthread_t ids[THREADS];
	double rate; /* of each thread, per second */
	long hold, running;
	long holding; /* threads in wait, or at their end */
	int stop;
	long produced, refused;
	int64_t started;
} source;

/* Written by the callbacks of one consumer, never two in parallel. */
static struct {
	struct plan plan;
	struct ast_kafka_consumer *consumer;
	unsigned char *seen;       /* by message */
	int32_t *last;             /* by key: the highest number so far, -1 = none */
	int16_t *home;             /* by key: its partition, -1 = unknown */
	int64_t next[PARTITIONS];  /* the offset after the highest so far */
	long came;                 /* different messages */
	long twice;                /* messages with a duplicate in the topic */
	long again;                /* repeated deliveries of an offset */
	long disordered;           /* first deliveries after a later message of the same key */
	long strange;              /* all other messages, and keys in two partitions */
	int64_t at;                /* time of the last new message */
} sink;

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000LL + now.tv_nsec;
}

/* 0 after the message is accepted, -1 after a stop of the thread. */
static int insist(const char *key, const char *value, int length)
{
	while (!GET(source.stop)) {
		if (!ast_kafka_produce(source.producer, source.topic, key, value, length)) {
			return 0;
		}
		ADD(source.refused);
		usleep(1000);
	}
	return -1;
}

static void *flood_run(void *arg)
{
	long thread = (long) (intptr_t) arg, seq;
	int64_t next = now_ns();
	char key[48], value[48];

	for (seq = 0; seq < source.plan.each; seq++) {
		int length = snprintf(value, sizeof(value), "%ld %ld", thread, seq);

		snprintf(key, sizeof(key), "%ld.%ld", thread, seq % source.plan.keys);
		if (seq >= GET(source.hold)) {
			ADD(source.holding);
			while (seq >= GET(source.hold) && !GET(source.stop)) {
				usleep(1000);
			}
			__atomic_sub_fetch(&source.holding, 1, __ATOMIC_SEQ_CST);
			next = now_ns();
		}
		if (source.rate > 0) {
			struct timespec at = { next / 1000000000, next % 1000000000 };

			clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
			next += (int64_t) (1e9 / source.rate);
		}
		if (insist(key, value, length)) {
			break;
		}
		ADD(source.produced);
	}
	ADD(source.holding);
	return NULL;
}

static void flood_hold(void)
{
	SET(source.hold, 0);
	while (GET(source.holding) < source.running) {
		usleep(1000);
	}
}

static void flood_stop(void)
{
	SET(source.stop, 1);
	for (; source.running > 0; source.running--) {
		pthread_join(source.ids[source.running - 1], NULL);
	}
	ao2_cleanup(source.producer);
	source.producer = NULL;
}

static int flood_start(const char *const *argv)
{
	long i;

	flood_stop();
	memset(&source, 0, sizeof(source));
	source.plan = (struct plan) { atol(argv[2]), atol(argv[3]), atol(argv[4]) };
	source.rate = atof(argv[5]) / source.plan.threads;
	source.hold = atol(argv[6]);
	ast_copy_string(source.topic, argv[1], sizeof(source.topic));
	if (source.plan.threads < 1 || source.plan.threads > THREADS || source.plan.keys < 1
		|| !(source.producer = ast_kafka_get_producer(argv[0]))) {
		return -1;
	}
	source.started = now_ns();
	for (i = 0; i < source.plan.threads; i++, source.running++) {
		if (pthread_create(&source.ids[i], NULL, flood_run, (void *) (intptr_t) i)) {
			return -1;
		}
	}
	return 0;
}

/* Reads "<thread><separator><number>"; 0 for a text of this form. */
static int parse(const void *bytes, size_t length, char separator, long *thread, long *number)
{
	char text[48], *end;

	if (!bytes || length >= sizeof(text)) {
		return -1;
	}
	memcpy(text, bytes, length);
	text[length] = '\0';
	*thread = strtol(text, &end, 10);
	if (end == text || *end != separator) {
		return -1;
	}
	*number = strtol(end + 1, &end, 10);
	return *end ? -1 : 0;
}

static void on_message(const char *topic, int32_t partition, int64_t offset, const void *payload, size_t len, const void *key,
	size_t key_len, void *userdata)
{
	long thread, seq, owner, of_key, at;
	int old = partition < PARTITIONS && offset < sink.next[partition];

	if (partition >= PARTITIONS || parse(payload, len, ' ', &thread, &seq) || parse(key, key_len, '.', &owner, &of_key)
		|| thread < 0 || thread >= sink.plan.threads || seq < 0 || seq >= sink.plan.each || owner != thread
		|| of_key != seq % sink.plan.keys) {
		ADD(sink.strange);
		return;
	}
	at = thread * sink.plan.keys + of_key;
	if (sink.home[at] != partition && sink.home[at] >= 0) {
		ADD(sink.strange);
	}
	sink.home[at] = partition;
	if (!old) {
		sink.next[partition] = offset + 1;
	}
	if (sink.seen[thread * sink.plan.each + seq]) {
		ADD(*(old ? &sink.again : &sink.twice));
		return;
	}
	sink.seen[thread * sink.plan.each + seq] = 1;
	if (seq < sink.last[at]) {
		ADD(sink.disordered);
	} else {
		sink.last[at] = seq;
	}
	SET(sink.at, now_ns());
	ADD(sink.came);
}

static void flood_forget(void)
{
	ast_kafka_consumer_unsubscribe(sink.consumer);
	ao2_cleanup(sink.consumer);
	ast_free(sink.seen);
	ast_free(sink.last);
	ast_free(sink.home);
	memset(&sink, 0, sizeof(sink));
}

static int flood_check(const char *const *argv)
{
	long keys, i;

	flood_forget();
	sink.plan = (struct plan) { atol(argv[2]), atol(argv[3]), atol(argv[4]) };
	keys = sink.plan.threads * sink.plan.keys;
	sink.consumer = ast_kafka_get_consumer(argv[0]);
	sink.seen = ast_calloc(sink.plan.threads * sink.plan.each, sizeof(*sink.seen));
	sink.last = ast_calloc(keys, sizeof(*sink.last));
	sink.home = ast_calloc(keys, sizeof(*sink.home));
	if (!sink.seen || !sink.last || !sink.home) {
		return -1;
	}
	for (i = 0; i < keys; i++) {
		sink.last[i] = sink.home[i] = -1;
	}
	return ast_kafka_consumer_subscribe(sink.consumer, argv[1], on_message, NULL);
}

static void flood_show(int fd)
{
	int64_t at = GET(sink.at);

	ast_cli(fd, "produced %ld refusals %ld came %ld twice %ld again %ld disordered %ld strange %ld after %lld ms\n",
		GET(source.produced), GET(source.refused), GET(sink.came), GET(sink.twice), GET(sink.again), GET(sink.disordered),
		GET(sink.strange), at && source.started ? (long long) (at - source.started) / 1000000 : 0);
}

static char *flood(struct ast_cli_entry *e, int cmd, struct ast_cli_args *a)
{
	const char *what;

	if (cmd == CLI_INIT) {
		e->command = "kafka flood";
		e->usage = "Usage: kafka flood <what> ...\n       See the top of flood.c.\n";
		return NULL;
	}
	if (cmd == CLI_GENERATE || a->argc < 3) {
		return cmd == CLI_GENERATE ? NULL : CLI_SHOWUSAGE;
	}
	what = a->argv[2];
	if (!strcmp(what, "check") && a->argc == 8) {
		ast_cli(a->fd, "check %d\n", flood_check(a->argv + 3));
	} else if (!strcmp(what, "start") && a->argc == 10) {
		ast_cli(a->fd, "start %d\n", flood_start(a->argv + 3));
	} else if (!strcmp(what, "hold")) {
		flood_hold();
	} else if (!strcmp(what, "go")) {
		SET(source.hold, a->argc > 3 ? atol(a->argv[3]) : LONG_MAX);
	} else if (!strcmp(what, "stop")) {
		flood_stop();
		flood_show(a->fd);
	} else if (!strcmp(what, "show")) {
		flood_show(a->fd);
	} else if (!strcmp(what, "end")) {
		flood_stop();
		flood_forget();
	} else {
		return CLI_SHOWUSAGE;
	}
	return CLI_SUCCESS;
}

static struct ast_cli_entry commands[] = {
	AST_CLI_DEFINE(flood, "Produce many messages from many threads and watch them arrive"),
};

int flood_load(void)
{
	return ast_cli_register_multiple(commands, ARRAY_LEN(commands));
}

void flood_unload(void)
{
	ast_cli_unregister_multiple(commands, ARRAY_LEN(commands));
	flood_stop();
	flood_forget();
}
