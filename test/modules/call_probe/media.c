/*
 * call_probe: the clock of a media thread.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */

/*! \file
 *
 * \brief A thread that wakes every 20 ms by a timer, like bridges and timing sources, and notes its lateness.
 *
 *   media start   starts the thread, with the scheduling class of Asterisk's own threads
 *   media show    one line: ticks, lateness in microseconds, scheduling policy (sched.h); the lateness counts from
 *                 the last show on
 *   media stop
 */

#include "asterisk.h"

#include <pthread.h>
#include <sched.h>
#include <sys/timerfd.h>
#include <time.h>

#include "asterisk/cli.h"
#include "asterisk/lock.h"
#include "asterisk/utils.h"

#include "media.h"

#define TICK_NS 20000000
#define WAKES 65536 /* 20 minutes */

AST_MUTEX_DEFINE_STATIC(media_lock);
static pthread_t media_thread = AST_PTHREADT_NULL;
static int media_stop;
static int media_policy = -1;
/* Under the lock. */
static long ticks;
static int32_t late_us[WAKES];
static int noted;

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static void *media_run(void *arg)
{
	int64_t due = now_ns() + TICK_NS;
	int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
	struct itimerspec every = { .it_interval.tv_nsec = TICK_NS, .it_value = { due / 1000000000, due % 1000000000 } };
	uint64_t expired = 0;

	media_policy = sched_getscheduler(0);
	if (timer < 0 || timerfd_settime(timer, TFD_TIMER_ABSTIME, &every, NULL)) {
		return NULL;
	}
	while (!__atomic_load_n(&media_stop, __ATOMIC_ACQUIRE) && read(timer, &expired, sizeof(expired)) == sizeof(expired)) {
		int64_t late = now_ns() - due;

		due += expired * TICK_NS;
		ast_mutex_lock(&media_lock);
		ticks++;
		if (noted < WAKES) {
			late_us[noted++] = late / 1000;
		}
		ast_mutex_unlock(&media_lock);
	}
	close(timer);
	return NULL;
}

static int compare(const void *a, const void *b)
{
	int32_t x = *(const int32_t *) a, y = *(const int32_t *) b;

	return x < y ? -1 : x > y;
}

static void media_show(int fd)
{
	static int32_t sorted[WAKES];
	static ast_mutex_t one = AST_MUTEX_INIT_VALUE; /* consoles */
	long so_far;
	int count;

	ast_mutex_lock(&one);
	ast_mutex_lock(&media_lock);
	so_far = ticks;
	count = noted;
	memcpy(sorted, late_us, count * sizeof(*sorted));
	noted = 0;
	ast_mutex_unlock(&media_lock);
	qsort(sorted, count, sizeof(*sorted), compare);
	ast_cli(fd, "ticks %ld counted %d p50 %d us p99 %d us worst %d us policy %d\n", so_far, count,
		count ? sorted[count / 2] : 0, count ? sorted[count * 99 / 100] : 0, count ? sorted[count - 1] : 0, media_policy);
	ast_mutex_unlock(&one);
}

static void media_end(void)
{
	if (media_thread != AST_PTHREADT_NULL) {
		__atomic_store_n(&media_stop, 1, __ATOMIC_RELEASE);
		pthread_join(media_thread, NULL);
		media_thread = AST_PTHREADT_NULL;
		media_stop = 0;
	}
}

static char *media(struct ast_cli_entry *e, int cmd, struct ast_cli_args *a)
{
	if (cmd == CLI_INIT) {
		e->command = "media {start|show|stop}";
		e->usage = "Usage: media start|show|stop\n       See the top of media.c.\n";
		return NULL;
	}
	if (cmd == CLI_GENERATE) {
		return NULL;
	}
	if (!strcmp(a->argv[1], "show")) {
		media_show(a->fd);
		return CLI_SUCCESS;
	}
	media_end();
	if (!strcmp(a->argv[1], "start") && ast_pthread_create(&media_thread, NULL, media_run, NULL)) {
		media_thread = AST_PTHREADT_NULL;
		ast_cli(a->fd, "error the thread cannot be started\n");
	}
	return CLI_SUCCESS;
}

static struct ast_cli_entry commands[] = {
	AST_CLI_DEFINE(media, "Measure how late a media thread wakes"),
};

int media_load(void)
{
	return ast_cli_register_multiple(commands, ARRAY_LEN(commands));
}

void media_unload(void)
{
	ast_cli_unregister_multiple(commands, ARRAY_LEN(commands));
	media_end();
}
