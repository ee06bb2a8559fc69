/*
 * res_kafka: cost of a put for its caller. Prints, checks nothing; for manual runs on a quiet machine.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#define _GNU_SOURCE
#define SHARED

#include <sched.h>
#include <sys/resource.h>

#include "check.h"

#define LENGTH 300

/* Whole slabs become done some time after the hand-over, on another processor. */
#define SPANS 65536

struct span {
	unsigned char *frames;
	size_t length;
};

struct load {
	struct owner owner;
	struct span spans[SPANS]; /* taken and not done */
	uint64_t taken;
	uint64_t done;
	bool end;
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

static void finish(struct load *load, const struct span *span)
{
	int64_t count = 0;
	int64_t charge = 0;
	size_t at = 0;

	while (at < span->length) {
		struct stage_frame *frame = (struct stage_frame *) (span->frames + at);

		count++;
		charge += frame->charge;
		at += frame->size;
		frame_done(frame);
	}
	add(&load->owner.gate->done_frames, count);
	add(&load->owner.gate->done_charge, charge);
}

static void *finish_later(void *argument)
{
	struct load *load = argument;

	while (!__atomic_load_n(&load->end, __ATOMIC_ACQUIRE)) {
		usleep(2000);
		while (load->done < __atomic_load_n(&load->taken, __ATOMIC_ACQUIRE)) {
			finish(load, &load->spans[load->done % SPANS]);
			__atomic_store_n(&load->done, load->done + 1, __ATOMIC_RELEASE);
		}
	}
	return NULL;
}

static void take_over(void *context, void *frames, size_t length, int durable)
{
	struct load *load = context;

	(void) durable;
	load->owner.calls++;
	CHECK(load->taken - __atomic_load_n(&load->done, __ATOMIC_ACQUIRE) < SPANS);
	load->spans[load->taken % SPANS] = (struct span) { frames, length };
	__atomic_store_n(&load->taken, load->taken + 1, __ATOMIC_RELEASE);
}

/* put_one returns whether the frame was admitted. A full stage gets some time to empty: the benchmark
 * measures a put, not the pump's speed. */
static bool put_one(struct load *load, const struct iovec *parts)
{
	if (stage_put(load->owner.stage, parts, 2, LENGTH, false) == STAGE_OK) {
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

static void run(const char *title, int threads, int64_t interval, int64_t puts, int64_t linger, bool shared)
{
	struct stage_pump *pump = rig_start(take_over, owner_note, "bench pump", test_folder(), 0);
	static struct load load;
	pthread_t finisher;
	struct results results[8] = { 0 };
	pthread_t ids[8];
	int64_t *all = calloc(threads * puts, sizeof(*all));
	int64_t total = threads * puts;
	int64_t began;
	int64_t spent;
	int64_t busy;
	int i;

	load = (struct load) { .interval = interval, .puts = puts };
	finisher = start(finish_later, &load);
	owner_open(&load.owner, pump, linger);
	set(&load.owner.gate->max_frames, 100000);
	set(&load.owner.gate->shared, shared);
	/* Touch the results, so their page faults are not counted. */
	memset(all, 1, total * sizeof(*all));
	began = now();
	busy = processor_time();
	for (i = 0; i < threads; i++) {
		results[i] = (struct results) { &load, all + i * puts };
		CHECK_EQUAL(pthread_create(&ids[i], NULL, put_timed, &results[i]), 0);
	}
	for (i = 0; i < threads; i++) {
		pthread_join(ids[i], NULL);
	}
	spent = now() - began;
	busy = processor_time() - busy;
	flush(load.owner.stage);
	qsort(all, total, sizeof(*all), by_cost);
	printf("%-8s %s %d thread%s linger %lld ms: p50 %lld p99 %lld p99.9 %lld max %lld ns, %.0f/s, "
		"%lld takes, %lld refused, processor %.1f%%",
		title, shared ? "shared" : "plain ", threads, threads > 1 ? "s" : " ", (long long) (linger / MILLISECOND), (long long) all[total / 2],
		(long long) all[total * 99 / 100], (long long) all[total * 999 / 1000], (long long) all[total - 1],
		(double) total * SECOND / spent, (long long) load.owner.calls, (long long) load.refused,
		100.0 * busy / spent);
	if (!interval) {
		began = now();
		for (i = 0; i < threads; i++) {
			CHECK_EQUAL(pthread_create(&ids[i], NULL, put_untimed, &results[i]), 0);
		}
		for (i = 0; i < threads; i++) {
			pthread_join(ids[i], NULL);
		}
		printf(", untimed %lld ns/put", (long long) ((now() - began) / total));
	}
	if (get(&load.owner.gate->unshared)) {
		printf(", %lld not shared", (long long) get(&load.owner.gate->unshared));
	}
	printf("\n");
	fflush(stdout);
	__atomic_store_n(&load.end, true, __ATOMIC_RELEASE);
	pthread_join(finisher, NULL);
	owner_close(&load.owner);
	rig_stop();
	free(all);
}

static void both(const char *title, int threads, int64_t interval, int64_t puts, int64_t linger)
{
	run(title, threads, interval, puts, linger, false);
	run(title, threads, interval, puts, linger, true);
}

int main(void)
{
	measure_clock();
	printf("reading the clock costs %lld ns\n", (long long) clock_cost);
	both("300/s", 1, SECOND / 300, 300 * 4, 5 * MILLISECOND);
	both("300/s", 1, SECOND / 300, 300 * 4, 0);
	both("10/s", 1, SECOND / 10, 40, 5 * MILLISECOND);
	both("2000/s", 1, SECOND / 2000, 2000 * 3, 5 * MILLISECOND);
	both("2000/s", 1, SECOND / 2000, 2000 * 3, 0);
	both("flat out", 1, 0, 3000000, 5 * MILLISECOND);
	both("flat out", 4, 0, 1000000, 5 * MILLISECOND);
	both("flat out", 1, 0, 3000000, 0);
	both("flat out", 4, 0, 1000000, 0);
	return 0;
}
