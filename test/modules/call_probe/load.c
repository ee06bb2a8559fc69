/*
 * call_probe: calls under load.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */

/*! \file
 *
 * \brief Threads that place calls like phones: each sends audio from the answer on, and hangs up at the first
 * audio received.
 *
 * With an extension that answers and echoes, such a call never waits for a clock. The time to the first audio
 * is the work of the PBX, plus any other work on the machine meanwhile.
 */

#include "asterisk.h"

#include <pthread.h>
#include <sys/resource.h>
#include <time.h>

#include "asterisk/channel.h"
#include "asterisk/cli.h"
#include "asterisk/format_cache.h"
#include "asterisk/format_cap.h"
#include "asterisk/frame.h"
#include "asterisk/utils.h"

#include "load.h"

#define AUDIO_MS 20000
#define FRAME_MS 20
#define SAMPLES 160 /* 20 ms at 8 kHz */
#define MOST_CALLS 100000

struct caller {
	pthread_t thread;
	struct ast_format_cap *formats;
	const char *to;
	int64_t next, every; /* time of the next call, and the interval between calls; us, 0 = at once */
	int64_t until;
	int32_t *audio; /* us of each call */
	int calls, failed;
};

static int64_t now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000LL + now.tv_nsec / 1000;
}

/* Processor time of the whole process. */
static int64_t used_us(void)
{
	struct rusage used;

	getrusage(RUSAGE_SELF, &used);
	return (used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1000000LL + used.ru_utime.tv_usec + used.ru_stime.tv_usec;
}

static void speak(struct ast_channel *channel)
{
	int16_t silence[AST_FRIENDLY_OFFSET / 2 + SAMPLES] = { 0 };
	struct ast_frame frame = {
		.frametype = AST_FRAME_VOICE,
		.subclass.format = ast_format_slin,
		.data.ptr = silence + AST_FRIENDLY_OFFSET / 2,
		.datalen = SAMPLES * sizeof(*silence),
		.samples = SAMPLES,
		.offset = AST_FRIENDLY_OFFSET,
		.src = __func__,
	};

	ast_write(channel, &frame);
}

/* Microseconds from the first step of the call to the first audio, -1 when none comes. */
static int32_t place(struct caller *caller)
{
	int64_t began = now_us(), deadline = began + AUDIO_MS * 1000LL;
	struct ast_channel *channel = ast_request("Local", caller->formats, NULL, NULL, caller->to, NULL);
	int answered = 0, heard = 0;

	if (!channel) {
		return -1;
	}
	if (ast_call(channel, caller->to, 0)) {
		ast_hangup(channel);
		return -1;
	}
	while (!heard && now_us() < deadline) {
		int left = ast_waitfor(channel, FRAME_MS), before = answered;
		struct ast_frame *frame = left > 0 ? ast_read(channel) : NULL;

		if (left < 0 || (left > 0 && !frame)) {
			break;
		}
		if (frame) {
			heard = frame->frametype == AST_FRAME_VOICE;
			answered |= frame->frametype == AST_FRAME_CONTROL && frame->subclass.integer == AST_CONTROL_ANSWER;
			ast_frfree(frame);
		}
		/* At the answer, and then whenever nothing has come for as long as a frame lasts. */
		if (answered && (!before || !left)) {
			speak(channel);
		}
	}
	deadline = now_us();
	ast_hangup(channel);
	return heard ? deadline - began : -1;
}

static void *caller_run(void *arg)
{
	struct caller *caller = arg;

	while (caller->calls < MOST_CALLS && now_us() < caller->until) {
		int32_t audio;

		if (caller->every) {
			struct timespec at = { caller->next / 1000000, caller->next % 1000000 * 1000 };

			clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
			caller->next += caller->every;
		}
		if ((audio = place(caller)) < 0) {
			caller->failed++;
		} else {
			caller->audio[caller->calls++] = audio;
		}
	}
	return NULL;
}

static int compare(const void *a, const void *b)
{
	int32_t x = *(const int32_t *) a, y = *(const int32_t *) b;

	return x < y ? -1 : x > y;
}

static void print(int fd, struct caller *callers, int count, int64_t took, int64_t used)
{
	int32_t *all;
	int calls = 0, failed = 0, at = 0, i;

	for (i = 0; i < count; i++) {
		calls += callers[i].calls;
		failed += callers[i].failed;
	}
	all = ast_calloc(calls + 1, sizeof(*all));
	for (i = 0; all && i < count; at += callers[i++].calls) {
		memcpy(all + at, callers[i].audio, callers[i].calls * sizeof(*all));
	}
	ast_cli(fd, "calls %d\nfailed %d\nper_second %.2f\ncpu_us %lld\n", calls, failed, calls * 1e6 / took, (long long) used);
	if (all && calls) {
		qsort(all, calls, sizeof(*all), compare);
		ast_cli(fd, "audio_p50_us %d\naudio_p99_us %d\naudio_max_us %d\n", all[calls / 2], all[calls * 99LL / 100], all[calls - 1]);
	}
	ast_free(all);
}

void load_run(int fd, const char *to, int count, double rate, double seconds)
{
	struct ast_format_cap *formats = ast_format_cap_alloc(AST_FORMAT_CAP_FLAG_DEFAULT);
	int64_t began = now_us(), before = used_us(), every = rate > 0 ? (int64_t) (1e6 * count / rate) : 0;
	struct caller callers[count];
	int i, started, others = ast_active_channels();

	if (!formats) {
		return;
	}
	ast_format_cap_append(formats, ast_format_slin, 0);
	memset(callers, 0, sizeof(callers));
	for (started = 0; started < count; started++) {
		struct caller *caller = &callers[started];

		*caller = (struct caller) {
			.formats = formats, .to = to, .next = began + every * started / count, .every = every,
			.until = began + (int64_t) (seconds * 1e6), .audio = ast_calloc(MOST_CALLS, sizeof(*caller->audio)),
		};
		if (!caller->audio || pthread_create(&caller->thread, NULL, caller_run, caller)) {
			ast_cli(fd, "error a caller cannot be started\n");
			ast_free(caller->audio);
			break;
		}
	}
	for (i = 0; i < started; i++) {
		pthread_join(callers[i].thread, NULL);
	}
	/* A call is over when its last channel is gone, not when its caller has gone. */
	for (i = 0; ast_active_channels() > others && i < AUDIO_MS * 5; i++) {
		usleep(200);
	}
	if (ast_active_channels() > others) {
		ast_cli(fd, "error channels are left\n");
	}
	print(fd, callers, started, now_us() - began, used_us() - before);
	for (i = 0; i < started; i++) {
		ast_free(callers[i].audio);
	}
	ao2_ref(formats, -1);
}
