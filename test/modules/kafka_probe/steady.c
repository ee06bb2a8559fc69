/*
 * kafka_probe: a steady load, written down.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */

/*! \file
 *
 * \brief Threads that produce numbered messages at a rate until stopped. A file records the return value of
 * every call and outlives the process.
 *
 *   kafka steady start <connection> <topic> <ledger> <keys> <bytes> <per second>
 *                      one thread for each thread of the ledger; per second is the rate of all threads together, bytes the
 *                      size of a message, keys the number of keys of each thread. Numbers continue after an earlier load
 *                      in the ledger. There may be several loads.
 *   kafka steady stop  ends all loads, and waits for their end
 *
 * Message 7 of thread 3 has the value "3 7 ", filled with x, and, with 16 keys, the key "3.7". A refused
 * message is not retried: the next message has the next number.
 */

#include "asterisk.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>

#include "asterisk/astobj2.h"
#include "asterisk/cli.h"
#include "asterisk/linkedlists.h"
#include "asterisk/lock.h"
#include "asterisk/module.h"
#include "asterisk/utils.h"

#include "asterisk/kafka.h"

#include "steady.h"

#define THREADS 64
#define SET(variable, value) __atomic_store_n(&(variable), value, __ATOMIC_RELEASE)

struct load {
	struct ast_kafka_producer *producer;
	struct steady_ledger *ledger;
	size_t size; /* of the ledger */
	char topic[256];
	long keys, bytes;
	double rate; /* of each thread, per second */
	int stop;
	long running;
	struct {
		struct load *load;
		long number;
		pthread_t id;
	} threads[THREADS];
	AST_LIST_ENTRY(load) entry;
};

/* Commands of several consoles may come at the same time. */
static AST_LIST_HEAD_STATIC(loads, load);

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000LL + now.tv_nsec;
}

/* How long this thread has been ready to run and had no processor, in all; 0 where the kernel does not say. */
static int64_t queued_ns(int schedstat)
{
	char text[96];
	ssize_t length = schedstat < 0 ? -1 : pread(schedstat, text, sizeof(text) - 1, 0);
	unsigned long long ran, queued;

	text[MAX(length, 0)] = '\0';
	return sscanf(text, "%llu %llu", &ran, &queued) == 2 ? queued : 0;
}

static struct steady_thread *page_of(const struct load *load, long thread)
{
	return (void *) ((char *) load->ledger + STEADY_PAGE + thread * (STEADY_PAGE + load->ledger->capacity));
}

/* This thread's use of the machine. */
struct usage {
	int64_t cpu_ns; /* without interrupts and a hypervisor's time, if the kernel distinguishes them */
	long slept;     /* voluntary waits: for a lock, a page or a device */
};

static struct usage usage_now(void)
{
	struct timespec cpu;
	struct rusage used;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &cpu);
	getrusage(RUSAGE_THREAD, &used);
	return (struct usage) { .cpu_ns = cpu.tv_sec * 1000000000LL + cpu.tv_nsec, .slept = used.ru_nvcsw };
}

/* The own part of a call's time. For a call without a sleep: the processor time, because the rest belongs to
 * other threads, to interrupts or to a hypervisor. For a call with a sleep: all time except the waits for a
 * processor. */
static int64_t own_ns(int64_t took, int64_t queued, const struct usage *before)
{
	struct usage after = usage_now();

	return after.slept == before->slept ? MIN(after.cpu_ns - before->cpu_ns, took) : took - queued;
}

/* Produces one message and stores the result. The call's own time is separate, because a machine with more
 * work than processors delays any call. */
static void produce_one(struct load *load, long thread, struct steady_thread *page, char *value, int schedstat)
{
	unsigned char *outcomes = (unsigned char *) page + STEADY_PAGE;
	uint64_t number = page->begun;
	int64_t before, took, queued, own;
	int refused, bucket;
	struct usage used;
	char key[48];

	memset(value, 'x', load->bytes);
	value[snprintf(value, load->bytes, "%ld %llu ", thread, (unsigned long long) number)] = 'x';
	snprintf(key, sizeof(key), "%ld.%llu", thread, (unsigned long long) number % load->keys);
	SET(page->begun, number + 1);
	queued = queued_ns(schedstat);
	used = usage_now();
	before = now_ns();
	refused = ast_kafka_produce(load->producer, load->topic, key, value, load->bytes) != 0;
	took = now_ns() - before;
	own = took;
	if (took > MIN((int64_t) page->own_ns, STEADY_SLOW_NS)) {
		own = own_ns(took, queued_ns(schedstat) - queued, &used);
	}
	SET(outcomes[number], refused ? STEADY_REFUSED : STEADY_ACCEPTED);
	if (refused) {
		SET(page->refused, page->refused + 1);
	} else {
		SET(page->accepted, page->accepted + 1);
	}
	if (took > STEADY_SLOW_NS) {
		SET(page->slow, page->slow + 1);
		SET(page->slow_own, page->slow_own + (own > STEADY_SLOW_NS));
	}
	if (own > (int64_t) page->own_ns) {
		SET(page->own_ns, own);
	}
	if (took > (int64_t) page->worst_ns) {
		SET(page->worst_ns, took);
	}
	bucket = MIN(63 - __builtin_clzll(took | 1), STEADY_BUCKETS - 1);
	SET(page->took[bucket], page->took[bucket] + 1);
}

static void *steady_run(void *arg)
{
	struct load *load = ((typeof(&((struct load *) 0)->threads[0])) arg)->load;
	long thread = ((typeof(&((struct load *) 0)->threads[0])) arg)->number;
	struct steady_thread *page = page_of(load, thread);
	char *value = ast_calloc(1, load->bytes + 1);
	int schedstat = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
	int64_t next = now_ns();

	while (value && !__atomic_load_n(&load->stop, __ATOMIC_ACQUIRE) && page->begun < load->ledger->capacity) {
		struct timespec at = { next / 1000000000, next % 1000000000 };

		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
		next += (int64_t) (1e9 / load->rate);
		produce_one(load, thread, page, value, schedstat);
	}
	if (schedstat >= 0) {
		close(schedstat);
	}
	ast_free(value);
	return NULL;
}

static void load_stop(struct load *load)
{
	SET(load->stop, 1);
	while (load->running > 0) {
		pthread_join(load->threads[--load->running].id, NULL);
	}
	if (load->ledger) {
		munmap(load->ledger, load->size);
	}
	ao2_cleanup(load->producer);
	ast_free(load);
}

static int map_ledger(struct load *load, const char *path)
{
	struct stat found;
	int fd = open(path, O_RDWR | O_CLOEXEC);
	void *mapped = MAP_FAILED;

	if (fd >= 0 && !fstat(fd, &found) && found.st_size > STEADY_PAGE) {
		load->size = found.st_size;
		mapped = mmap(NULL, load->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	}
	if (fd >= 0) {
		close(fd);
	}
	if (mapped == MAP_FAILED) {
		return -1;
	}
	load->ledger = mapped;
	return load->ledger->threads < 1 || load->ledger->threads > THREADS
		|| STEADY_PAGE + load->ledger->threads * (STEADY_PAGE + load->ledger->capacity) > load->size ? -1 : 0;
}

static int steady_start(const char *const *argv)
{
	struct load *load = ast_calloc(1, sizeof(*load));
	long i;

	if (!load) {
		return -1;
	}
	ast_copy_string(load->topic, argv[1], sizeof(load->topic));
	load->keys = atol(argv[3]);
	load->bytes = atol(argv[4]);
	if (load->keys < 1 || load->bytes < 48 || !(load->producer = ast_kafka_get_producer(argv[0])) || map_ledger(load, argv[2])) {
		load_stop(load);
		return -1;
	}
	load->rate = atof(argv[5]) / load->ledger->threads;
	for (i = 0; i < (long) load->ledger->threads; i++, load->running++) {
		load->threads[i].load = load;
		load->threads[i].number = i;
		if (pthread_create(&load->threads[i].id, NULL, steady_run, &load->threads[i])) {
			load_stop(load);
			return -1;
		}
	}
	AST_LIST_LOCK(&loads);
	AST_LIST_INSERT_TAIL(&loads, load, entry);
	AST_LIST_UNLOCK(&loads);
	return 0;
}

static void steady_stop(void)
{
	struct load *load;

	AST_LIST_LOCK(&loads);
	AST_LIST_TRAVERSE(&loads, load, entry) {
		SET(load->stop, 1); /* all at once: none may continue during the joins */
	}
	while ((load = AST_LIST_REMOVE_HEAD(&loads, entry))) {
		load_stop(load);
	}
	AST_LIST_UNLOCK(&loads);
}

static char *steady(struct ast_cli_entry *e, int cmd, struct ast_cli_args *a)
{
	if (cmd == CLI_INIT) {
		e->command = "kafka steady";
		e->usage = "Usage: kafka steady <what> ...\n       See the top of steady.c.\n";
		return NULL;
	}
	if (cmd == CLI_GENERATE || a->argc < 3) {
		return cmd == CLI_GENERATE ? NULL : CLI_SHOWUSAGE;
	}
	if (!strcmp(a->argv[2], "start") && a->argc == 9) {
		ast_cli(a->fd, "start %d\n", steady_start(a->argv + 3));
	} else if (!strcmp(a->argv[2], "stop")) {
		steady_stop();
		ast_cli(a->fd, "stopped\n");
	} else {
		return CLI_SHOWUSAGE;
	}
	return CLI_SUCCESS;
}

static struct ast_cli_entry commands[] = {
	AST_CLI_DEFINE(steady, "Produce at a rate and write down what every call returned"),
};

int steady_load(void)
{
	return ast_cli_register_multiple(commands, ARRAY_LEN(commands));
}

void steady_unload(void)
{
	ast_cli_unregister_multiple(commands, ARRAY_LEN(commands));
	steady_stop();
}
