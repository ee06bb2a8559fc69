/*
 * call_probe: calls, and Asterisk's time for them. Never installed.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */

/*! \file
 *
 * \brief Places calls in sequence and measures each. Nothing here uses Kafka, so calls without our modules
 * are measured by the same means.
 *
 *   call probe <exten@context> <count>   each is a Local channel, answered by the extension and hung up at once; a call
 *                                        has ended when all its channels are gone
 *   call load <exten@context> <callers> <per second, 0 = flat out> <seconds>
 *                                        calls from several threads, each until the first audio from the extension; see
 *                                        call_probe/load.c
 *   media start | media show | media stop  the clock of a media thread; see call_probe/media.c
 */

/*** MODULEINFO
	<support_level>extended</support_level>
 ***/

#include "asterisk.h"

#include <time.h>

#include "asterisk/channel.h"
#include "asterisk/cli.h"
#include "asterisk/format_cache.h"
#include "asterisk/format_cap.h"
#include "asterisk/module.h"
#include "asterisk/utils.h"

#include "load.h"
#include "media.h"

#define ANSWER_MS 20000

static int64_t now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000LL + now.tv_nsec / 1000;
}

/* 0 when the call was answered and has ended. */
static int call(struct ast_format_cap *formats, const char *to, int64_t *setup, int64_t *end)
{
	int64_t began = now_us(), answered;
	int waits = ANSWER_MS, others = ast_active_channels();
	struct ast_channel *channel = ast_request("Local", formats, NULL, NULL, to, NULL);

	if (!channel) {
		return -1;
	}
	if (ast_call(channel, to, 0)) {
		ast_hangup(channel);
		return -1;
	}
	while (ast_channel_state(channel) != AST_STATE_UP && waits > 0) {
		struct ast_frame *frame;

		if ((waits = ast_waitfor(channel, waits)) < 0 || !(frame = ast_read(channel))) {
			break;
		}
		if (frame->frametype == AST_FRAME_CONTROL && frame->subclass.integer == AST_CONTROL_ANSWER) {
			ast_frfree(frame);
			break;
		}
		ast_frfree(frame);
	}
	answered = now_us();
	*setup = answered - began;
	ast_hangup(channel);
	for (waits = ANSWER_MS * 20; ast_active_channels() > others && waits > 0; waits--) {
		usleep(50);
	}
	*end = now_us() - answered;
	return waits > 0 ? 0 : -1;
}

static int compare(const void *a, const void *b)
{
	int64_t x = *(const int64_t *) a, y = *(const int64_t *) b;

	return x < y ? -1 : x > y;
}

static void calls_run(int fd, const char *to, int count)
{
	struct ast_format_cap *formats = ast_format_cap_alloc(AST_FORMAT_CAP_FLAG_DEFAULT);
	int64_t setup[count], end[count];
	int completed = 0, i;

	if (!formats) {
		return;
	}
	ast_format_cap_append(formats, ast_format_slin, 0);
	for (i = 0; i < count; i++) {
		completed += !call(formats, to, &setup[completed], &end[completed]);
	}
	ao2_ref(formats, -1);
	qsort(setup, completed, sizeof(*setup), compare);
	qsort(end, completed, sizeof(*end), compare);
	ast_cli(fd, "completed %d", completed);
	if (completed) {
		ast_cli(fd, " setup p50 %lld us worst %lld us end p50 %lld us worst %lld us", (long long) setup[completed / 2],
			(long long) setup[completed - 1], (long long) end[completed / 2], (long long) end[completed - 1]);
	}
	ast_cli(fd, "\n");
}

static char *calls(struct ast_cli_entry *e, int cmd, struct ast_cli_args *a)
{
	if (cmd == CLI_INIT) {
		e->command = "call probe";
		e->usage = "Usage: call probe <exten@context> <count>\n       See the top of call_probe.c.\n";
		return NULL;
	}
	if (cmd == CLI_GENERATE) {
		return NULL;
	}
	if (a->argc != 4 || atoi(a->argv[3]) < 1 || atoi(a->argv[3]) > 10000) {
		return CLI_SHOWUSAGE;
	}
	calls_run(a->fd, a->argv[2], atoi(a->argv[3]));
	return CLI_SUCCESS;
}

static char *load(struct ast_cli_entry *e, int cmd, struct ast_cli_args *a)
{
	if (cmd == CLI_INIT) {
		e->command = "call load";
		e->usage = "Usage: call load <exten@context> <callers> <per second> <seconds>\n       See the top of call_probe.c.\n";
		return NULL;
	}
	if (cmd == CLI_GENERATE) {
		return NULL;
	}
	if (a->argc != 6 || atoi(a->argv[3]) < 1 || atoi(a->argv[3]) > 100) {
		return CLI_SHOWUSAGE;
	}
	load_run(a->fd, a->argv[2], atoi(a->argv[3]), atof(a->argv[4]), atof(a->argv[5]));
	return CLI_SUCCESS;
}

static struct ast_cli_entry commands[] = {
	AST_CLI_DEFINE(calls, "Place calls and measure them"),
	AST_CLI_DEFINE(load, "Have several callers place calls"),
};

static int unload_module(void)
{
	ast_cli_unregister_multiple(commands, ARRAY_LEN(commands));
	media_unload();
	return 0;
}

static int load_module(void)
{
	return ast_cli_register_multiple(commands, ARRAY_LEN(commands)) || media_load() ? AST_MODULE_LOAD_DECLINE : AST_MODULE_LOAD_SUCCESS;
}

AST_MODULE_INFO(ASTERISK_GPL_KEY, AST_MODFLAG_DEFAULT, "Places calls and measures them",
	.support_level = AST_MODULE_SUPPORT_EXTENDED,
	.load = load_module,
	.unload = unload_module,
);
