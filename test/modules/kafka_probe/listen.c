/*
 * kafka_probe: a consumer that looks for gaps.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */

/*! \file
 *
 * \brief Consumes topics from offset 0 and compares each offset with the previous offset.
 *
 *   kafka listen start <connection> <topics>   subscribes; at most TOPICS topics of PARTITIONS partitions each
 *   kafka listen show                          "heard <n> skipped <n> again <n> strange <n>": messages with new offsets,
 *                                              missing offsets between, and known offsets
 *
 * Topics with transactions or compaction have gaps of their own.
 */

#include "asterisk.h"

#include "asterisk/astobj2.h"
#include "asterisk/cli.h"
#include "asterisk/module.h"

#include "asterisk/kafka.h"

#include "listen.h"

#define TOPICS 8
#define PARTITIONS 16
#define ADD(counter, n) __atomic_add_fetch(&(counter), n, __ATOMIC_RELAXED)
#define GET(counter)    __atomic_load_n(&(counter), __ATOMIC_RELAXED)

/* The callback's thread writes, a console reads the counters. */
static struct {
	struct ast_kafka_consumer *consumer;
	struct {
		char name[256];
		int64_t next[PARTITIONS];
	} topics[TOPICS];
	int64_t heard, skipped, again, strange;
} listener;

static int64_t *next_of(const char *topic, int32_t partition)
{
	int i;

	for (i = 0; i < TOPICS && partition >= 0 && partition < PARTITIONS; i++) {
		if (!listener.topics[i].name[0]) {
			ast_copy_string(listener.topics[i].name, topic, sizeof(listener.topics[i].name));
		}
		if (!strcmp(listener.topics[i].name, topic)) {
			return &listener.topics[i].next[partition];
		}
	}
	return NULL;
}

static void on_message(const char *topic, int32_t partition, int64_t offset, const void *payload, size_t len, const void *key,
	size_t key_len, void *userdata)
{
	int64_t *next = next_of(topic, partition);

	if (!next) {
		ADD(listener.strange, 1);
	} else if (offset < *next) {
		ADD(listener.again, 1);
	} else {
		ADD(listener.skipped, offset - *next);
		ADD(listener.heard, 1);
		*next = offset + 1;
	}
}

static void listen_end(void)
{
	ast_kafka_consumer_unsubscribe(listener.consumer);
	ao2_cleanup(listener.consumer);
	memset(&listener, 0, sizeof(listener));
}

static char *listen_cli(struct ast_cli_entry *e, int cmd, struct ast_cli_args *a)
{
	if (cmd == CLI_INIT) {
		e->command = "kafka listen";
		e->usage = "Usage: kafka listen <what> ...\n       See the top of listen.c.\n";
		return NULL;
	}
	if (cmd == CLI_GENERATE || a->argc < 3) {
		return cmd == CLI_GENERATE ? NULL : CLI_SHOWUSAGE;
	}
	if (!strcmp(a->argv[2], "start") && a->argc == 5) {
		listen_end();
		listener.consumer = ast_kafka_get_consumer(a->argv[3]);
		ast_cli(a->fd, "listen %d\n", ast_kafka_consumer_subscribe(listener.consumer, a->argv[4], on_message, NULL));
	} else if (!strcmp(a->argv[2], "show")) {
		ast_cli(a->fd, "heard %lld skipped %lld again %lld strange %lld\n", (long long) GET(listener.heard),
			(long long) GET(listener.skipped), (long long) GET(listener.again), (long long) GET(listener.strange));
	} else {
		return CLI_SHOWUSAGE;
	}
	return CLI_SUCCESS;
}

static struct ast_cli_entry commands[] = {
	AST_CLI_DEFINE(listen_cli, "Consume topics and look for gaps"),
};

int listen_load(void)
{
	return ast_cli_register_multiple(commands, ARRAY_LEN(commands));
}

void listen_unload(void)
{
	ast_cli_unregister_multiple(commands, ARRAY_LEN(commands));
	listen_end();
}
