/*
 * res_kafka: what a put costs its caller. Prints, checks nothing; run it by hand on a quiet machine.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#define _GNU_SOURCE

#include <sched.h>
#include <sys/resource.h>

#include "check.h"

#define LENGTH 300

struct load {
	struct owner owner;
	int64_t interval; /* ns between two puts of a thread; 0 = flat out */
	int64_t puts;     /* of each thread */
	int64_t refused;
	struct results *results;
};

struct results {
	struct load *load;
	int64_t *costs; /* ns of each put, the clock's own cost taken off */
};

static int64_t clock_cost;

static int64_t now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * SECOND + time.tv_nsec;
}

static void measure_clock(void)
{
	int64_t start = now();
	int i;

	for (i = 0; i < 1000000; i++) {
		now();
	}
	clock_cost = (now() - start) / 1000000;
}

static void release_at_once(void *context, const void *frames, size_t length)
{
	struct load *load = context;
	const unsigned char *at = frames;
	const unsigned char *end = at + length;
	int64_t count = 0;
	int64_t charge = 0;

	while (at < end) {
		const struct stage_frame *frame = (const struct stage_frame *) at;

		count++;
		charge += frame->charge;
		at += frame->size;
	}
	add(&load->owner.gate->held_frames, -count);
	add(&load->owner.gate->held_charge, -charge);
	load->owner.calls++;
}

/* put_one says whether the frame went in. A full stage is left some time to empty: the cost of a put is measured, not
 * how fast the pump is. */
static bool put_one(struct load *load, const struct iovec *parts)
{
	if (stage_put(load->owner.stage, parts, 2, LENGTH) == STAGE_OK) {
		return true;
	}
	add(&load->refused, 1);
	sched_yield();
	return false;
}

static void *put_timed(void *argument)
{
	struct results *results = argument;
	struct load *load = results->load;
	unsigned char bytes[LENGTH] = { 1 };
	struct iovec parts[] = { { bytes, 40 }, { bytes + 40, LENGTH - 40 } };
	int64_t next = now();
	int64_t i;

	for (i = 0; i < load->puts; i++) {
		int64_t start;

		if (load->interval) {
			struct timespec until;

			next += load->interval;
			until = (struct timespec) { next / SECOND, next % SECOND };
			clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
		}
		do {
			start = now();
		} while (!put_one(load, parts));
		results->costs[i] = now() - start - clock_cost;
	}
	return NULL;
}

static void *put_untimed(void *argument)
{
	struct load *load = ((struct results *) argument)->load;
	unsigned char bytes[LENGTH] = { 1 };
	struct iovec parts[] = { { bytes, 40 }, { bytes + 40, LENGTH - 40 } };
	int64_t i;

	for (i = 0; i < load->puts; i++) {
		while (!put_one(load, parts)) {
		}
	}
	return NULL;
}

static int by_cost(const void *a, const void *b)
{
	int64_t left = *(const int64_t *) a;
	int64_t right = *(const int64_t *) b;

	return (left > right) - (left < right);
}

static int64_t processor_time(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * SECOND
		+ (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1000;
}

static void run(const char *title, int threads, int64_t interval, int64_t puts, int64_t linger)
{
	static const struct stage_taker taker = { .take = release_at_once, .note = owner_note };
	struct stage_pump *pump = stage_pump_start(&taker, "bench pump");
	struct load load = { .interval = interval, .puts = puts };
	struct results results[8] = { 0 };
	pthread_t ids[8];
	int64_t *all = calloc(threads * puts, sizeof(*all));
	int64_t total = threads * puts;
	int64_t start;
	int64_t spent;
	int64_t busy;
	int i;

	owner_open(&load.owner, pump, linger);
	set(&load.owner.gate->max_frames, 100000);
	/* Fault the results in, so that their pages are not counted. */
	memset(all, 1, total * sizeof(*all));
	start = now();
	busy = processor_time();
	for (i = 0; i < threads; i++) {
		results[i] = (struct results) { &load, all + i * puts };
		CHECK_EQUAL(pthread_create(&ids[i], NULL, put_timed, &results[i]), 0);
	}
	for (i = 0; i < threads; i++) {
		pthread_join(ids[i], NULL);
	}
	spent = now() - start;
	busy = processor_time() - busy;
	stage_flush(load.owner.stage);
	qsort(all, total, sizeof(*all), by_cost);
	printf("%-8s %d thread%s linger %lld ms: p50 %lld p99 %lld p99.9 %lld max %lld ns, %.0f/s, "
		"%lld takes, %lld refused, processor %.1f%%",
		title, threads, threads > 1 ? "s" : " ", (long long) (linger / MILLISECOND), (long long) all[total / 2],
		(long long) all[total * 99 / 100], (long long) all[total * 999 / 1000], (long long) all[total - 1],
		(double) total * SECOND / spent, (long long) load.owner.calls, (long long) load.refused,
		100.0 * busy / spent);
	if (!interval) {
		start = now();
		for (i = 0; i < threads; i++) {
			CHECK_EQUAL(pthread_create(&ids[i], NULL, put_untimed, &results[i]), 0);
		}
		for (i = 0; i < threads; i++) {
			pthread_join(ids[i], NULL);
		}
		printf(", untimed %lld ns/put", (long long) ((now() - start) / total));
	}
	printf("\n");
	fflush(stdout);
	owner_close(&load.owner);
	stage_pump_stop(pump);
	free(all);
}

int main(void)
{
	measure_clock();
	printf("reading the clock costs %lld ns\n", (long long) clock_cost);
	run("300/s", 1, SECOND / 300, 300 * 4, 5 * MILLISECOND);
	run("300/s", 1, SECOND / 300, 300 * 4, 0);
	run("10/s", 1, SECOND / 10, 40, 5 * MILLISECOND);
	run("2000/s", 1, SECOND / 2000, 2000 * 3, 5 * MILLISECOND);
	run("2000/s", 1, SECOND / 2000, 2000 * 3, 0);
	run("flat out", 1, 0, 3000000, 5 * MILLISECOND);
	run("flat out", 4, 0, 1000000, 5 * MILLISECOND);
	run("flat out", 1, 0, 3000000, 0);
	run("flat out", 4, 0, 1000000, 0);
	return 0;
}
