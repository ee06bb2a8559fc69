/*
 * kafka_probe: another module on top of res_kafka, for the scenarios and measurements of this repository.
 * Never installed.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */

/*! \file
 *
 * \brief Calls asterisk/kafka.h in all possible ways of another module, right and wrong, by CLI commands.
 *
 *   kafka probe file <connection> <topic> <file>       a record for each line "key value" in hex; "-" is NULL, "." is empty
 *   kafka probe size <connection> <topic> <bytes>      one record of the given size
 *   kafka probe headers <connection> <topic> <count>   one record with count headers
 *   kafka probe wrong <connection>                     all calls to refuse
 *   kafka probe get <connection>                       the duration of two ast_kafka_get_producer(), and whether both agree
 *   kafka probe hold <connection> | kafka probe release
 *   kafka probe fork <connection> <topic>              produce in a forked child
 *   kafka probe subscribe <connection> <topics> <file> <sleep ms>
 *                                                      a line in the file for each message; the payloads "unsubscribe" and
 *                                                      "commit" call these from inside the callback, "drop" releases the
 *                                                      only reference to the consumer there
 *   kafka probe unsubscribe
 *   kafka probe inside                                 number of running callbacks of the first consumer
 *   kafka probe second <connection> <topics> <file>    a further consumer of the connection, with the plain callback
 *   kafka probe end                                    ends both
 *   kafka probe pause <topics> | kafka probe resume <topics>
 *   kafka probe consumers <connection>                 all consumer calls to refuse
 *   kafka probe ensure <connection> <topic> <partitions> <replication> <wait|async>
 *   kafka probe rate <connection> <topic> <bytes> <per second, 0 = flat out> <seconds> <threads>
 *
 * kafka_probe/flood.c, listen.c, steady.c and reported.c have the commands with many messages.
 */

/*** MODULEINFO
	<depend>res_kafka</depend>
	<support_level>extended</support_level>
 ***/

#include "asterisk.h"

#include <pthread.h>
#include <time.h>

#include "asterisk/astobj2.h"
#include "asterisk/cli.h"
#include "asterisk/module.h"
#include "asterisk/utils.h"

#include "asterisk/kafka.h"

#include "flood.h"
#include "listen.h"
#include "reported.h"
#include "steady.h"

static struct ast_kafka_producer *kept;

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000LL + now.tv_nsec;
}

/* Bytes of a hex text with a NUL behind them; NULL for "-", empty for ".". */
static char *unhex(const char *hex, size_t *length)
{
	size_t i, n = !strcmp(hex, ".") ? 0 : strlen(hex) / 2;
	char *bytes;

	*length = 0;
	if (!strcmp(hex, "-")) {
		return NULL;
	}
	bytes = ast_calloc(1, n + 1);
	for (i = 0; bytes && i < n; i++) {
		unsigned int byte;

		sscanf(hex + 2 * i, "%2x", &byte);
		bytes[i] = byte;
	}
	*length = n;
	return bytes;
}

static void probe_file(int fd, struct ast_kafka_producer *producer, const char *topic, const char *path)
{
	FILE *file = fopen(path, "r");
	char *line = NULL;
	size_t size = 0;
	int accepted = 0, refused = 0;

	while (file && getline(&line, &size, file) > 0) {
		char *rest = line, *key_hex = strsep(&rest, " \n"), *value_hex = strsep(&rest, " \n");
		size_t key_length, value_length;
		char *key = unhex(key_hex, &key_length), *value = unhex(S_OR(value_hex, "-"), &value_length);

		if (ast_kafka_produce(producer, topic, key, value, value_length)) {
			refused++;
		} else {
			accepted++;
		}
		ast_free(key);
		ast_free(value);
	}
	if (file) {
		fclose(file);
	}
	ast_std_free(line);
	ast_cli(fd, "accepted %d refused %d\n", accepted, refused);
}

static void probe_headers(int fd, struct ast_kafka_producer *producer, const char *topic, int count)
{
	struct ast_kafka_header headers[count];
	char names[count][16];
	int i;

	for (i = 0; i < count; i++) {
		snprintf(names[i], sizeof(names[i]), "h%d", i);
		headers[i] = (struct ast_kafka_header) { names[i], i % 2 ? names[i] : "" };
	}
	ast_cli(fd, "produce %d\n", ast_kafka_produce_hdrs(producer, topic, "k", "v", 1, headers, count));
}

static void probe_wrong(int fd, struct ast_kafka_producer *producer)
{
	struct ast_kafka_header nameless = { NULL, "x" }, valueless = { "x", NULL };
	size_t three_mb = 3 * 1024 * 1024;
	char *large = ast_calloc(1, three_mb);
	char name[301];

	memset(name, 'n', sizeof(name));
	name[300] = '\0';
	ast_cli(fd, "null producer %d\n", ast_kafka_produce(NULL, "topic", NULL, "x", 1));
	ast_cli(fd, "null topic %d\n", ast_kafka_produce(producer, NULL, NULL, "x", 1));
	ast_cli(fd, "empty topic %d\n", ast_kafka_produce(producer, "", NULL, "x", 1));
	ast_cli(fd, "null payload with a length %d\n", ast_kafka_produce(producer, "topic", NULL, NULL, 5));
	ast_cli(fd, "3 MB %d\n", ast_kafka_produce(producer, "topic", NULL, large, three_mb));
	ast_cli(fd, "topic of 300 bytes %d\n", ast_kafka_produce(producer, name, NULL, "x", 1));
	ast_cli(fd, "topic with a slash %d\n", ast_kafka_produce(producer, "a/b", NULL, "x", 1));
	ast_cli(fd, "topic that is not text %d\n", ast_kafka_produce(producer, "\xff\x01", NULL, "x", 1));
	ast_cli(fd, "header without a name %d\n", ast_kafka_produce_hdrs(producer, "topic", NULL, "x", 1, &nameless, 1));
	ast_cli(fd, "header without a value %d\n", ast_kafka_produce_hdrs(producer, "topic", NULL, "x", 1, &valueless, 1));
	ast_cli(fd, "null name %d\n", ast_kafka_get_producer(NULL) ? 0 : -1);
	ast_cli(fd, "empty name %d\n", ast_kafka_get_producer("") ? 0 : -1);
	ast_cli(fd, "unknown name %d\n", ast_kafka_get_producer("no such connection") ? 0 : -1);
	ast_cli(fd, "right %d\n", ast_kafka_produce_hdrs(producer, "topic", NULL, NULL, 0, NULL, 7));
	ast_free(large);
}

static void probe_get(int fd, const char *connection)
{
	int64_t started = now_ns(), between, ended;
	struct ast_kafka_producer *first = ast_kafka_get_producer(connection), *second;

	between = now_ns();
	second = ast_kafka_get_producer(connection);
	ended = now_ns();
	ast_cli(fd, "first %lld us second %lld us same %s null %s\n", (long long) (between - started) / 1000,
		(long long) (ended - between) / 1000, first == second ? "yes" : "no", first ? "no" : "yes");
	ao2_cleanup(first);
	ao2_cleanup(second);
}

/* The child answers through a pipe, because Asterisk's own SIGCHLD handler may reap the child. */
static void probe_fork(int fd, struct ast_kafka_producer *producer, const char *topic)
{
	char answer = '?';
	int ends[2];

	if (pipe(ends)) {
		return;
	}
	if (!fork()) {
		alarm(5);
		answer = ast_kafka_produce(producer, topic, NULL, "child", 5) == -1 && !ast_kafka_get_producer("any") ? 'r' : 'a';
		_exit(write(ends[1], &answer, 1) != 1);
	}
	close(ends[1]);
	if (read(ends[0], &answer, 1) != 1) {
		answer = '?';
	}
	close(ends[0]);
	ast_cli(fd, "child %s parent %d\n", answer == 'r' ? "refused" : answer == 'a' ? "accepted" : "silent",
		ast_kafka_produce(producer, topic, NULL, "parent", 6));
}

struct load {
	pthread_t thread;
	struct ast_kafka_producer *producer;
	const char *topic;
	size_t bytes;
	double rate;
	int64_t until;
	uint32_t *taken; /* ns of each call */
	size_t calls, refused, capacity;
};

static void *load_run(void *arg)
{
	struct load *load = arg;
	char *payload = ast_calloc(1, load->bytes + 1), key[32];
	int64_t next = now_ns();
	size_t i;

	memset(payload, 'p', load->bytes);
	while (load->calls < load->capacity && now_ns() < load->until) {
		int64_t before, after;

		if (load->rate > 0) {
			struct timespec at = { next / 1000000000, next % 1000000000 };

			clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
			next += (int64_t) (1e9 / load->rate);
		}
		i = load->calls;
		snprintf(key, sizeof(key), "%zu", i % 1000);
		before = now_ns();
		if (ast_kafka_produce(load->producer, load->topic, key, payload, load->bytes)) {
			load->refused++;
		}
		after = now_ns();
		load->taken[i] = MIN(after - before, UINT32_MAX);
		load->calls++;
	}
	ast_free(payload);
	return NULL;
}

static int compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *) a, y = *(const uint32_t *) b;

	return x < y ? -1 : x > y;
}

static void probe_rate(int fd, struct ast_kafka_producer *producer, const char * const *argv)
{
	int threads = atoi(argv[5]), i;
	double rate = atof(argv[3]), seconds = atof(argv[4]);
	size_t capacity = rate > 0 ? (size_t) (rate * seconds) + threads : (size_t) (5e6 * seconds), calls = 0, refused = 0, at = 0;
	int64_t started = now_ns();
	struct load loads[threads];
	uint32_t *all;

	for (i = 0; i < threads; i++) {
		loads[i] = (struct load) {
			.producer = producer, .topic = argv[1], .bytes = atoi(argv[2]), .rate = rate / threads,
			.until = started + (int64_t) (seconds * 1e9), .capacity = capacity / threads,
		};
		loads[i].taken = ast_calloc(loads[i].capacity, sizeof(*loads[i].taken));
		pthread_create(&loads[i].thread, NULL, load_run, &loads[i]);
	}
	for (i = 0; i < threads; i++) {
		pthread_join(loads[i].thread, NULL);
		calls += loads[i].calls;
		refused += loads[i].refused;
	}
	all = ast_calloc(calls + 1, sizeof(*all));
	for (i = 0; i < threads; i++) {
		memcpy(all + at, loads[i].taken, loads[i].calls * sizeof(*all));
		at += loads[i].calls;
		ast_free(loads[i].taken);
	}
	qsort(all, calls, sizeof(*all), compare);
	ast_cli(fd, "calls %zu refused %zu p50 %u ns p99 %u ns p99.9 %u ns max %u ns\n", calls, refused, all[calls / 2],
		all[calls * 99 / 100], all[calls * 999 / 1000], all[calls ? calls - 1 : 0]);
	ast_free(all);
}

struct listener {
	struct ast_kafka_consumer *consumer;
	FILE *file;
	int sleep_ms;
	int inside;
};

static struct listener first, second;

static void write_bytes(FILE *file, const void *bytes, size_t length)
{
	size_t i;

	if (!bytes) {
		fputs(" -", file);
		return;
	}
	fputs(length ? " " : " .", file);
	for (i = 0; i < length; i++) {
		fprintf(file, "%02x", ((const unsigned char *) bytes)[i]);
	}
}

static int says(const struct ast_kafka_record *record, const char *word)
{
	return record->payload && record->len == strlen(word) && !memcmp(record->payload, word, record->len);
}

/* topic partition offset key payload, then name value of each header; bytes in hex. */
static void on_record(struct ast_kafka_consumer *consumer, const struct ast_kafka_record *record, void *userdata)
{
	struct listener *listener = userdata;
	size_t i;

	__atomic_add_fetch(&listener->inside, 1, __ATOMIC_SEQ_CST);
	if (listener->sleep_ms) {
		usleep(listener->sleep_ms * 1000);
	}
	fprintf(listener->file, "%s %d %lld", record->topic, record->partition, (long long) record->offset);
	write_bytes(listener->file, record->key, record->key_len);
	write_bytes(listener->file, record->payload, record->len);
	for (i = 0; i < record->header_count; i++) {
		fprintf(listener->file, " %s", record->headers[i].name);
		write_bytes(listener->file, record->headers[i].value, record->headers[i].value_len);
	}
	fputc('\n', listener->file);
	fflush(listener->file);
	if (says(record, "unsubscribe")) {
		ast_kafka_consumer_unsubscribe(consumer);
	} else if (says(record, "commit")) {
		fprintf(listener->file, "commit %d\n", ast_kafka_consumer_commit(consumer));
		fflush(listener->file);
	} else if (says(record, "drop")) {
		ao2_cleanup(listener->consumer);
		listener->consumer = NULL;
	}
	__atomic_sub_fetch(&listener->inside, 1, __ATOMIC_SEQ_CST);
}

static void on_message(const char *topic, int32_t partition, int64_t offset, const void *payload, size_t len,
	const void *key, size_t key_len, void *userdata)
{
	struct ast_kafka_record record = {
		.topic = topic, .partition = partition, .offset = offset, .payload = payload, .len = len, .key = key, .key_len = key_len,
	};

	on_record(((struct listener *) userdata)->consumer, &record, userdata);
}

static void listener_end(struct listener *listener)
{
	ast_kafka_consumer_unsubscribe(listener->consumer);
	ao2_cleanup(listener->consumer);
	if (listener->file) {
		fclose(listener->file);
	}
	memset(listener, 0, sizeof(*listener));
}

static void probe_consumers(int fd, const char *connection)
{
	struct ast_kafka_consumer *consumer = ast_kafka_get_consumer(connection), *again = ast_kafka_get_consumer(connection);

	ast_cli(fd, "same %s\n", consumer && consumer == again ? "yes" : "no");
	ast_cli(fd, "null consumer %d\n", ast_kafka_consumer_subscribe(NULL, "t", on_message, NULL));
	ast_cli(fd, "null topics %d\n", ast_kafka_consumer_subscribe(consumer, NULL, on_message, NULL));
	ast_cli(fd, "null callback %d\n", ast_kafka_consumer_subscribe(consumer, "t", NULL, NULL));
	ast_cli(fd, "no topic left %d\n", ast_kafka_consumer_subscribe(consumer, " , ,", on_message, NULL));
	ast_cli(fd, "unsubscribe null %d\n", ast_kafka_consumer_unsubscribe(NULL));
	ast_cli(fd, "unsubscribe nothing %d\n", ast_kafka_consumer_unsubscribe(consumer));
	ast_cli(fd, "commit nothing %d\n", ast_kafka_consumer_commit(consumer));
	ast_cli(fd, "pause nothing %d\n", ast_kafka_consumer_pause(consumer, NULL, 1));
	ast_cli(fd, "unknown name %d\n", ast_kafka_get_consumer("no such connection") ? 0 : -1);
	ast_cli(fd, "null name %d\n", ast_kafka_get_consumer(NULL) ? 0 : -1);
	ao2_cleanup(consumer);
	ao2_cleanup(again);
}

/* The commands about consumers; CLI_SHOWUSAGE for any other command. */
static char *probe_consume(int fd, const char *what, const char *const *argv, int count)
{
	if (!strcmp(what, "subscribe") && count == 4) {
		if (!first.consumer) {
			first.consumer = ast_kafka_get_consumer(argv[0]);
			first.file = first.file ? first.file : fopen(argv[2], "a");
		}
		first.sleep_ms = atoi(argv[3]);
		ast_cli(fd, "subscribe %d\n", ast_kafka_consumer_subscribe_records(first.consumer, argv[1], on_record, &first));
	} else if (!strcmp(what, "second") && count == 3) {
		second.consumer = ast_kafka_create_consumer(argv[0]);
		second.file = fopen(argv[2], "a");
		ast_cli(fd, "subscribe %d\n", ast_kafka_consumer_subscribe(second.consumer, argv[1], on_message, &second));
	} else if (!strcmp(what, "unsubscribe")) {
		int64_t started = now_ns();
		int res = ast_kafka_consumer_unsubscribe(first.consumer);

		ast_cli(fd, "unsubscribe %d after %lld ms\n", res, (long long) (now_ns() - started) / 1000000);
	} else if (!strcmp(what, "inside")) {
		ast_cli(fd, "inside %d\n", __atomic_load_n(&first.inside, __ATOMIC_SEQ_CST));
	} else if (!strcmp(what, "end")) {
		listener_end(&first);
		listener_end(&second);
	} else if (!strcmp(what, "pause") || !strcmp(what, "resume")) {
		ast_cli(fd, "%s %d\n", what, ast_kafka_consumer_pause(first.consumer, count ? argv[0] : NULL, !strcmp(what, "pause")));
	} else if (!strcmp(what, "consumers") && count == 1) {
		probe_consumers(fd, argv[0]);
	} else if (!strcmp(what, "ensure") && count == 5) {
		struct ast_kafka_producer *producer = ast_kafka_get_producer(argv[0]);

		ast_cli(fd, "ensure %d\n", (!strcmp(argv[4], "wait") ? ast_kafka_ensure_topic : ast_kafka_ensure_topic_async)(
			producer, argv[1], atoi(argv[2]), atoi(argv[3])));
		ao2_cleanup(producer);
	} else {
		return CLI_SHOWUSAGE;
	}
	return CLI_SUCCESS;
}

/* A subcommand of "kafka probe": name, number of arguments, and whether the first is a connection. */
static char *probe(struct ast_cli_entry *e, int cmd, struct ast_cli_args *a)
{
	RAII_VAR(struct ast_kafka_producer *, producer, NULL, ao2_cleanup);
	const char *what, *const *argv;
	int count;

	if (cmd == CLI_INIT) {
		e->command = "kafka probe";
		e->usage = "Usage: kafka probe <what> ...\n       See the top of kafka_probe.c.\n";
		return NULL;
	}
	if (cmd == CLI_GENERATE || a->argc < 3) {
		return cmd == CLI_GENERATE ? NULL : CLI_SHOWUSAGE;
	}
	what = a->argv[2];
	argv = a->argv + 3;
	count = a->argc - 3;
	if (!strcmp(what, "get") && count == 1) {
		probe_get(a->fd, argv[0]);
		return CLI_SUCCESS;
	}
	if (!strcmp(what, "release")) {
		ao2_cleanup(kept);
		kept = NULL;
		return CLI_SUCCESS;
	}
	if (probe_consume(a->fd, what, argv, count) == CLI_SUCCESS) {
		return CLI_SUCCESS;
	}
	if (!count || !(producer = ast_kafka_get_producer(argv[0]))) {
		ast_cli(a->fd, "no producer\n");
		return CLI_FAILURE;
	}
	if (!strcmp(what, "hold")) {
		ao2_cleanup(kept);
		kept = ao2_bump(producer);
	} else if (!strcmp(what, "wrong")) {
		probe_wrong(a->fd, producer);
	} else if (!strcmp(what, "file") && count == 3) {
		probe_file(a->fd, producer, argv[1], argv[2]);
	} else if (!strcmp(what, "size") && count == 3) {
		size_t size = atol(argv[2]);
		char *payload = ast_calloc(1, size + 1);

		ast_cli(a->fd, "produce %d\n", ast_kafka_produce(producer, argv[1], NULL, payload, size));
		ast_free(payload);
	} else if (!strcmp(what, "headers") && count == 3) {
		probe_headers(a->fd, producer, argv[1], atoi(argv[2]));
	} else if (!strcmp(what, "fork") && count == 2) {
		probe_fork(a->fd, producer, argv[1]);
	} else if (!strcmp(what, "rate") && count == 6) {
		probe_rate(a->fd, producer, argv);
	} else {
		return CLI_SHOWUSAGE;
	}
	return CLI_SUCCESS;
}

static struct ast_cli_entry commands[] = {
	AST_CLI_DEFINE(probe, "Use asterisk/kafka.h in every way"),
};

static int unload_module(void)
{
	ast_cli_unregister_multiple(commands, ARRAY_LEN(commands));
	flood_unload();
	steady_unload();
	reported_unload();
	listen_unload();
	listener_end(&first);
	listener_end(&second);
	ao2_cleanup(kept);
	kept = NULL;
	return 0;
}

static int load_module(void)
{
	if (ast_cli_register_multiple(commands, ARRAY_LEN(commands))) {
		return AST_MODULE_LOAD_DECLINE;
	}
	if (flood_load() || steady_load() || reported_load() || listen_load()) {
		ast_cli_unregister_multiple(commands, ARRAY_LEN(commands));
		flood_unload();
		steady_unload();
		reported_unload();
		return AST_MODULE_LOAD_DECLINE;
	}
	return AST_MODULE_LOAD_SUCCESS;
}

AST_MODULE_INFO(ASTERISK_GPL_KEY, AST_MODFLAG_DEFAULT, "Uses res_kafka in every way",
	.support_level = AST_MODULE_SUPPORT_EXTENDED,
	.load = load_module,
	.unload = unload_module,
	.requires = "res_kafka",
);
