/*
 * kafka_bench: producing.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */

/*! \file
 *
 * \brief Threads that produce at a rate, or flat out, and time every call.
 */

#include "asterisk.h"

#include <pthread.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "asterisk/astobj2.h"
#include "asterisk/cli.h"
#include "asterisk/lock.h"
#include "asterisk/utils.h"

#include "asterisk/kafka.h"

#include "bench.h"
#include "measure.h"
#include "payload.h"

#define MOST_CONNECTIONS 64
#define MOST_TOPICS 1000
#define MOST_THREADS 64

/* Shortest time, of a call or between two calls, that may include a wait for a processor, nanoseconds. */
#define SUSPECT_NS 20000
/* Number of calls after which the waits are read again, even if all calls were short. */
#define ASK_EVERY 256

struct load {
	long count, threads, topics, connections, bytes;
	double clock_ns;
	double rate; /* of each thread, per second; 0 = flat out */
	char (*names)[256];
	struct ast_kafka_producer *producers[MOST_CONNECTIONS];
	struct payloads payloads;
	struct rusage used; /* by the process until the calls began */
	ast_rwlock_t gate; /* held for writing until all threads are there */
	struct caller {
		struct load *load;
		long number, refused;
		pthread_t id;
		int64_t begun, ended;
		struct times times; /* of accepted calls */
	} callers[MOST_THREADS];
};

/* Produces message number i, and returns the duration of the call. */
static int64_t call(const struct load *load, long i, int64_t *before, int *refused)
{
	const char *value = payload_of(&load->payloads, i), *key = load->payloads.keys[i / load->topics % PAYLOAD_KEYS];
	const char *topic = load->names[i % load->topics];
	struct ast_kafka_producer *producer = load->producers[i % load->connections];

	*before = now_ns();
	*refused = ast_kafka_produce(producer, topic, key, value, load->bytes) != 0;
	return now_ns() - *before;
}

static void at(int64_t ns)
{
	struct timespec when = { ns / 1000000000, ns % 1000000000 };

	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &when, NULL);
}

/* The calls of a thread. The longest call is reported with and without waits for a processor, because no code
 * can prevent waits on an overloaded machine. A read of the waits costs as much as a call, so it happens only
 * after a sleep, and after a time long enough to include a wait. */
static void *run(void *data)
{
	struct caller *caller = data;
	struct load *load = caller->load;
	int schedstat = queued_open(), refused, slept;
	int64_t period = load->rate > 0 ? (int64_t) (1e9 / load->rate) : 0, queued, next, before, after, took, gap, own;
	long i, n;

	ast_rwlock_rdlock(&load->gate);
	ast_rwlock_unlock(&load->gate);
	after = caller->begun = now_ns();
	next = after + period / load->threads * caller->number;
	queued = queued_ns(schedstat);
	for (i = caller->number, n = 0; i < load->count; i += load->threads, n++) {
		slept = load->rate > 0 && next > after;
		if (slept) {
			at(next);
		}
		if (slept || n % ASK_EVERY == 0) {
			queued = queued_ns(schedstat);
		}
		next += period;
		took = call(load, i, &before, &refused);
		own = took;
		gap = slept ? 0 : before - after;
		if (took > SUSPECT_NS || gap > SUSPECT_NS) {
			int64_t now = queued_ns(schedstat);

			/* The part of the wait that may have happened before the call is not subtracted. */
			own -= MIN(MAX(now - queued - (gap > SUSPECT_NS ? gap : 0), 0), took);
			queued = now;
		}
		after = before + took;
		if (refused) {
			caller->refused++;
			continue;
		}
		times_add(&caller->times, took);
		caller->times.own = MAX(caller->times.own, own);
	}
	caller->ended = after;
	if (schedstat >= 0) {
		close(schedstat);
	}
	return NULL;
}

static void load_free(struct load *load)
{
	long i;

	for (i = 0; i < load->connections && i < MOST_CONNECTIONS; i++) {
		ao2_cleanup(load->producers[i]);
	}
	payloads_free(&load->payloads);
	ast_free(load->names);
	ast_free(load);
}

/* The names of a word: the word itself, or the word with numbers. */
static void name(char *text, size_t size, const char *word, long number, long count)
{
	if (count > 1) {
		snprintf(text, size, "%s-%ld", word, number);
	} else {
		ast_copy_string(text, word, size);
	}
}

/* The command's checked words, with all data for the calls; NULL after an error message. */
static struct load *load_make(int fd, int argc, const char *const *argv)
{
	struct load *load = ast_calloc(1, sizeof(*load));
	char connection[256];
	long i;

	if (!load) {
		return NULL;
	}
	load->bytes = atol(argv[2]);
	load->count = atol(argv[4]);
	load->threads = atol(argv[5]);
	load->topics = argc > 6 ? atol(argv[6]) : 1;
	load->connections = argc > 7 ? atol(argv[7]) : 1;
	if (load->bytes < 0 || load->count < 1 || load->threads < 1 || load->threads > MOST_THREADS || load->topics < 1
		|| load->topics > MOST_TOPICS || load->connections < 1 || load->connections > MOST_CONNECTIONS) {
		ast_cli(fd, "error a number is out of range\n");
		load->connections = 0;
		load_free(load);
		return NULL;
	}
	load->rate = atof(argv[3]) / load->threads;
	load->names = ast_calloc(load->topics, sizeof(*load->names));
	if (!load->names || payloads_make(&load->payloads, load->bytes, load->count)) {
		ast_cli(fd, "error no memory\n");
		load_free(load);
		return NULL;
	}
	for (i = 0; i < load->topics; i++) {
		name(load->names[i], sizeof(load->names[i]), argv[1], i, load->topics);
	}
	for (i = 0; i < load->connections; i++) {
		name(connection, sizeof(connection), argv[0], i, load->connections);
		if (!(load->producers[i] = ast_kafka_get_producer(connection))) {
			ast_cli(fd, "error no producer %s\n", connection);
			load_free(load);
			return NULL;
		}
	}
	return load;
}

static void load_print(int fd, struct load *load)
{
	struct times *all = ast_calloc(1, sizeof(*all));
	int64_t begun = INT64_MAX, ended = 0;
	long i, refused = 0;

	if (!all) {
		return;
	}
	for (i = 0; i < load->threads; i++) {
		times_merge(all, &load->callers[i].times);
		begun = MIN(begun, load->callers[i].begun);
		ended = MAX(ended, load->callers[i].ended);
		refused += load->callers[i].refused;
	}
	ast_cli(fd, "calls %ld\nrefused %ld\nseconds %.6f\n", load->count, refused, (ended - begun) / 1e9);
	/* The wall clock's, for another process. */
	ast_cli(fd, "begun_ns %lld\n", (long long) (wall_ns() - now_ns() + begun));
	usage_print(fd, "begun_", &load->used);
	times_print(fd, all);
	ast_cli(fd, "clock_ns %.1f\n", load->clock_ns);
	ast_free(all);
}

void bench_produce(int fd, int argc, const char *const *argv)
{
	struct load *load = load_make(fd, argc, argv);
	long i, started;

	if (!load) {
		return;
	}
	ast_rwlock_init(&load->gate);
	ast_rwlock_wrlock(&load->gate);
	for (started = 0; started < load->threads; started++) {
		load->callers[started].load = load;
		load->callers[started].number = started;
		if (pthread_create(&load->callers[started].id, NULL, run, &load->callers[started])) {
			break;
		}
	}
	if (started < load->threads) {
		ast_cli(fd, "error no thread\n");
		load->count = 0;
	}
	/* The creation of payloads and threads is no part of the calls' cost. */
	load->clock_ns = clock_cost_ns();
	getrusage(RUSAGE_SELF, &load->used);
	ast_rwlock_unlock(&load->gate);
	for (i = 0; i < started; i++) {
		pthread_join(load->callers[i].id, NULL);
	}
	ast_rwlock_destroy(&load->gate);
	load_print(fd, load);
	load_free(load);
}
