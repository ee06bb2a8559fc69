/*
 * kafka_bench: the load of `make bench`. Never installed.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */

/*! \file
 *
 * \brief A load on any implementation of asterisk/kafka.h, through this header only. Each command prints
 * measurements.
 *
 *   kafka bench produce <connection> <topic> <bytes> <per second, 0 = flat out> <count> <threads> [<topics> [<connections>]]
 *                        count calls in all, with 1,000 different keys; each of several topics or connections has a
 *                        number behind the name: topic-0, topic-1…
 *   kafka bench latency <producing connection> <consuming connection> <topic> <per second> <seconds>
 *                        from before the produce call to the callback, after the arrival of a first message
 *   kafka bench send <connection> <topic> <per second> <seconds>
 *                        produces messages with the time of the call, for a consumer elsewhere
 *   kafka bench drain <connection> <topic> <count>
 *                        the time of count callbacks, from the first callback and from subscribing
 *   kafka bench open <prefix> <connections> <topic>
 *                        gets the producers prefix-0, prefix-1…, keeps them, and produces a message with each
 *   kafka bench usage    usage of the process up to now
 *
 * Times are in nanoseconds, without refused calls. own_max_ns is the longest call without its thread's wait
 * for a processor. clock_ns is the part of the clock itself in each time. begun_ are clock and usage at the
 * start of the calls.
 *
 * KAFKA_BENCH_OPEN="PREFIX COUNT" in the environment gets such producers during the module's load, as in
 * other modules.
 */

/*** MODULEINFO
	<depend>res_kafka</depend>
	<support_level>extended</support_level>
 ***/

#include "asterisk.h"

#include <stdio.h>
#include <sys/resource.h>

#include "asterisk/astobj2.h"
#include "asterisk/cli.h"
#include "asterisk/module.h"
#include "asterisk/utils.h"

#include "asterisk/kafka.h"

#include "kafka_bench/bench.h"

#define MOST_KEPT 64

static struct ast_kafka_producer *kept[MOST_KEPT];

void bench_open(int fd, const char *prefix, long connections, const char *topic)
{
	long i, got = 0, refused = 0;
	char name[256];

	bench_close();
	for (i = 0; i < connections && i < MOST_KEPT; i++) {
		snprintf(name, sizeof(name), "%s-%ld", prefix, i);
		kept[i] = ast_kafka_get_producer(name);
		got += kept[i] != NULL;
		if (topic) {
			refused += ast_kafka_produce(kept[i], topic, NULL, name, strlen(name)) != 0;
		}
	}
	if (fd >= 0) {
		ast_cli(fd, "opened %ld\nrefused %ld\n", got, refused);
	}
}

void bench_close(void)
{
	int i;

	for (i = 0; i < MOST_KEPT; i++) {
		ao2_cleanup(kept[i]);
		kept[i] = NULL;
	}
}

void usage_print(int fd, const char *prefix, const struct rusage *used)
{
	ast_cli(fd, "%suser_us %lld\n%ssystem_us %lld\n%svoluntary %ld\n%sinvoluntary %ld\n",
		prefix, used->ru_utime.tv_sec * 1000000LL + used->ru_utime.tv_usec,
		prefix, used->ru_stime.tv_sec * 1000000LL + used->ru_stime.tv_usec,
		prefix, used->ru_nvcsw, prefix, used->ru_nivcsw);
}

void bench_usage(int fd)
{
	struct rusage used;
	FILE *status = fopen("/proc/self/status", "r");
	char line[256];
	long value;

	memset(&used, 0, sizeof(used));
	getrusage(RUSAGE_SELF, &used);
	usage_print(fd, "", &used);
	while (status && fgets(line, sizeof(line), status)) {
		if (sscanf(line, "VmRSS: %ld", &value) == 1) {
			ast_cli(fd, "resident_kb %ld\n", value);
		} else if (sscanf(line, "VmHWM: %ld", &value) == 1) {
			ast_cli(fd, "peak_kb %ld\n", value);
		} else if (sscanf(line, "Threads: %ld", &value) == 1) {
			ast_cli(fd, "threads %ld\n", value);
		}
	}
	if (status) {
		fclose(status);
	}
}

/* A subcommand of "kafka bench": its name, and the number of its arguments. */
static char *bench(struct ast_cli_entry *e, int cmd, struct ast_cli_args *a)
{
	const char *what, *const *argv;
	int argc;

	if (cmd == CLI_INIT) {
		e->command = "kafka bench";
		e->usage = "Usage: kafka bench <what> ...\n       See the top of kafka_bench.c.\n";
		return NULL;
	}
	if (cmd == CLI_GENERATE || a->argc < 3) {
		return cmd == CLI_GENERATE ? NULL : CLI_SHOWUSAGE;
	}
	what = a->argv[2];
	argv = a->argv + 3;
	argc = a->argc - 3;
	if (!strcmp(what, "produce") && argc >= 6 && argc <= 8) {
		bench_produce(a->fd, argc, argv);
	} else if (!strcmp(what, "latency") && argc == 5) {
		bench_latency(a->fd, argv);
	} else if (!strcmp(what, "send") && argc == 4) {
		bench_send(a->fd, argv);
	} else if (!strcmp(what, "drain") && argc == 3) {
		bench_drain(a->fd, argv);
	} else if (!strcmp(what, "open") && argc == 3) {
		bench_open(a->fd, argv[0], atol(argv[1]), argv[2]);
	} else if (!strcmp(what, "usage") && argc == 0) {
		bench_usage(a->fd);
	} else {
		return CLI_SHOWUSAGE;
	}
	return CLI_SUCCESS;
}

static struct ast_cli_entry commands[] = {
	AST_CLI_DEFINE(bench, "Put a load on Kafka and measure it"),
};

static int unload_module(void)
{
	ast_cli_unregister_multiple(commands, ARRAY_LEN(commands));
	bench_close();
	return 0;
}

static int load_module(void)
{
	const char *open = getenv("KAFKA_BENCH_OPEN");
	char prefix[64];
	long connections;

	if (open && sscanf(open, "%63s %ld", prefix, &connections) == 2) {
		bench_open(-1, prefix, connections, NULL);
	}
	return ast_cli_register_multiple(commands, ARRAY_LEN(commands)) ? AST_MODULE_LOAD_DECLINE : AST_MODULE_LOAD_SUCCESS;
}

AST_MODULE_INFO(ASTERISK_GPL_KEY, AST_MODFLAG_DEFAULT, "The load of make bench",
	.support_level = AST_MODULE_SUPPORT_EXTENDED,
	.load = load_module,
	.unload = unload_module,
	.requires = "res_kafka",
);
