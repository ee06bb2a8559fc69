/*
 * test_res_kafka: topics, inboxes and threads of the tests.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */

/*! \file
 *
 * \brief Topics, inboxes and threads for the tests of asterisk/kafka.h.
 */

#include "asterisk.h"

#include "asterisk/module.h"
#include "asterisk/paths.h"
#include "asterisk/strings.h"

#include "kit.h"

static struct timespec in_ms(int ms)
{
	struct timeval at = ast_tvadd(ast_tvnow(), ast_tv(ms / 1000, ms % 1000 * 1000));

	return (struct timespec) { .tv_sec = at.tv_sec, .tv_nsec = at.tv_usec * 1000L };
}

/* A copy with a final NUL; NULL for NULL. */
static char *copy_bytes(const void *bytes, size_t length)
{
	char *copy = bytes ? ast_malloc(length + 1) : NULL;

	if (copy) {
		memcpy(copy, bytes, length);
		copy[length] = '\0';
	}
	return copy;
}

struct inbox *inbox_new(struct ast_kafka_consumer *consumer)
{
	struct inbox *inbox = consumer ? ast_calloc(1, sizeof(*inbox)) : NULL;

	if (inbox) {
		ast_mutex_init(&inbox->lock);
		ast_cond_init(&inbox->changed, NULL);
		inbox->consumer = consumer;
	}
	return inbox;
}

void inbox_free(struct inbox *inbox)
{
	size_t i, h;

	if (!inbox) {
		return;
	}
	inbox_open(inbox);
	ast_kafka_consumer_unsubscribe(inbox->consumer);
	ao2_cleanup(inbox->consumer);
	/* Only a faulty consumer is still inside; the failure is reported, so no crash hides it. */
	ast_mutex_lock(&inbox->lock);
	while (inbox->inside) {
		ast_cond_wait(&inbox->changed, &inbox->lock);
	}
	ast_mutex_unlock(&inbox->lock);
	for (i = 0; i < inbox->count; i++) {
		struct message *message = &inbox->messages[i];

		for (h = 0; h < message->header_count; h++) {
			ast_free(message->headers[h].name);
			ast_free(message->headers[h].value);
		}
		ast_free(message->headers);
		ast_free(message->topic);
		ast_free(message->key);
		ast_free(message->payload);
	}
	ast_free(inbox->messages);
	ast_cond_destroy(&inbox->changed);
	ast_mutex_destroy(&inbox->lock);
	ast_free(inbox);
}

/* Stores a message; the inbox owns its contents. */
static void keep(struct inbox *inbox, const struct message *message)
{
	ast_mutex_lock(&inbox->lock);
	if (!inbox->count) {
		inbox->thread = pthread_self();
	}
	inbox->strangers += !pthread_equal(inbox->thread, pthread_self());
	inbox->overlapped += inbox->inside++ > 0;
	if (inbox->count == inbox->capacity) {
		inbox->capacity = inbox->capacity ? 2 * inbox->capacity : 64;
		inbox->messages = ast_realloc(inbox->messages, inbox->capacity * sizeof(*inbox->messages));
	}
	inbox->messages[inbox->count++] = *message;
	ast_cond_broadcast(&inbox->changed);
	while (inbox->shut) {
		ast_cond_wait(&inbox->changed, &inbox->lock);
	}
	ast_mutex_unlock(&inbox->lock);
	if (inbox->hook) {
		inbox->hook(inbox, message);
	}
	ast_mutex_lock(&inbox->lock);
	inbox->inside--;
	inbox->done++;
	ast_cond_broadcast(&inbox->changed);
	ast_mutex_unlock(&inbox->lock);
}

void inbox_message(const char *topic, int32_t partition, int64_t offset, const void *payload, size_t len, const void *key,
	size_t key_len, void *userdata)
{
	struct message message = {
		.topic = ast_strdup(topic), .partition = partition, .offset = offset,
		.key = copy_bytes(key, key_len), .key_length = key_len, .payload = copy_bytes(payload, len), .length = len,
	};

	keep(userdata, &message);
}

void inbox_record(struct ast_kafka_consumer *consumer, const struct ast_kafka_record *record, void *userdata)
{
	struct message message = {
		.topic = ast_strdup(record->topic), .partition = record->partition, .offset = record->offset,
		.timestamp_ms = record->timestamp_ms,
		.key = copy_bytes(record->key, record->key_len), .key_length = record->key_len,
		.payload = copy_bytes(record->payload, record->len), .length = record->len,
		.headers = ast_calloc(record->header_count + 1, sizeof(*message.headers)), .header_count = record->header_count,
	};
	size_t h;

	for (h = 0; h < record->header_count; h++) {
		const struct ast_kafka_record_header *header = &record->headers[h];

		message.headers[h] = (struct header) {
			.name = ast_strdup(header->name), .value = copy_bytes(header->value, header->value_len), .length = header->value_len,
			.terminated = header->value && !((const char *) header->value)[header->value_len],
		};
	}
	if (consumer != ((struct inbox *) userdata)->consumer) {
		message.offset = -1; /* no test expects this offset */
	}
	keep(userdata, &message);
}

void inbox_shut(struct inbox *inbox)
{
	ast_mutex_lock(&inbox->lock);
	inbox->shut = 1;
	ast_mutex_unlock(&inbox->lock);
}

void inbox_open(struct inbox *inbox)
{
	ast_mutex_lock(&inbox->lock);
	inbox->shut = inbox->held = 0;
	ast_cond_broadcast(&inbox->changed);
	ast_mutex_unlock(&inbox->lock);
}

void inbox_hold(struct inbox *inbox)
{
	ast_mutex_lock(&inbox->lock);
	inbox->holding = 1;
	ast_cond_broadcast(&inbox->changed);
	while (inbox->held) {
		ast_cond_wait(&inbox->changed, &inbox->lock);
	}
	ast_mutex_unlock(&inbox->lock);
}

/* Waits until the numbers of the inbox have come far enough. */
static int wait_for(struct inbox *inbox, size_t count, int done, int holding)
{
	struct timespec until = in_ms(PATIENCE_S * 1000);
	int late = 0, there;

	ast_mutex_lock(&inbox->lock);
	while (!(there = inbox->count >= count && inbox->done >= done && inbox->holding >= holding) && !late) {
		late = ast_cond_timedwait(&inbox->changed, &inbox->lock, &until);
	}
	ast_mutex_unlock(&inbox->lock);
	return there ? 0 : -1;
}

int inbox_wait(struct inbox *inbox, size_t count)
{
	return wait_for(inbox, count, 0, 0);
}

int inbox_wait_done(struct inbox *inbox, size_t count)
{
	return wait_for(inbox, 0, count, 0);
}

int inbox_wait_holding(struct inbox *inbox)
{
	return wait_for(inbox, 0, 0, 1);
}

int inbox_quiet(struct inbox *inbox, size_t count)
{
	return inbox_quiet_for(inbox, count, QUIET_MS);
}

int inbox_quiet_for(struct inbox *inbox, size_t count, int ms)
{
	struct timespec until = in_ms(ms);
	int late = 0, changed;

	ast_mutex_lock(&inbox->lock);
	while (inbox->count == count && !late) {
		late = ast_cond_timedwait(&inbox->changed, &inbox->lock, &until);
	}
	changed = inbox->count != count;
	ast_mutex_unlock(&inbox->lock);
	return changed;
}

size_t inbox_count(struct inbox *inbox)
{
	size_t count;

	ast_mutex_lock(&inbox->lock);
	count = inbox->count;
	ast_mutex_unlock(&inbox->lock);
	return count;
}

struct message inbox_at(struct inbox *inbox, size_t i)
{
	struct message message = { .topic = "", .offset = -1 };

	ast_mutex_lock(&inbox->lock);
	if (i < inbox->count) {
		message = inbox->messages[i];
	}
	ast_mutex_unlock(&inbox->lock);
	return message;
}

int inbox_is(struct inbox *inbox, size_t i, const char *payload)
{
	struct message message = inbox_at(inbox, i);

	return message.payload && message.length == strlen(payload) && !strcmp(message.payload, payload);
}

size_t inbox_having(struct inbox *inbox, const char *payload)
{
	size_t i, n = 0, count = inbox_count(inbox);

	for (i = 0; i < count; i++) {
		n += inbox_is(inbox, i, payload);
	}
	return n;
}

int inbox_overlapped(struct inbox *inbox)
{
	int overlapped;

	ast_mutex_lock(&inbox->lock);
	overlapped = inbox->overlapped;
	ast_mutex_unlock(&inbox->lock);
	return overlapped;
}

struct topic topic_new(struct ast_kafka_producer *producer, const char *what, int partitions)
{
	static long long started;
	static int made;
	struct topic topic;

	if (!started) {
		started = ast_tvnow().tv_sec;
	}
	snprintf(topic.name, sizeof(topic.name), "asttest-%s-%d-%lld-%d", what, (int) getpid(), started, made++);
	if (ast_kafka_ensure_topic(producer, topic.name, partitions, 0)) {
		topic.name[0] = '\0';
	}
	return topic;
}

int produce_text(struct ast_kafka_producer *producer, const char *topic, const char *payload)
{
	return ast_kafka_produce(producer, topic, payload, payload, strlen(payload));
}

int produce_numbers(struct ast_kafka_producer *producer, const char *topic, int from, int to)
{
	char text[16];
	int refused = 0;

	for (; from < to; from++) {
		snprintf(text, sizeof(text), "%d", from);
		refused += produce_text(producer, topic, text) != 0;
	}
	return refused;
}

static int note_use(const char *module, const char *description, int count, const char *status, const char *like,
	enum ast_module_support_level level, void *data)
{
	if (!strcmp(module, "res_kafka.so")) {
		*(int *) data = count;
		return 1;
	}
	return 0;
}

int use_count(void)
{
	int count = -1;

	ast_update_module_list_data(note_use, "res_kafka", &count);
	return count;
}

/* Changes the client_id only: the connection gets another client. */
int reload(int changed)
{
	char path[PATH_MAX];
	FILE *file;

	snprintf(path, sizeof(path), "%s/test_res_kafka.conf", ast_config_AST_CONFIG_DIR);
	if (!access(path, W_OK)) {
		file = fopen(path, "w");
		if (!file || fprintf(file, "client_id = %s\n", changed ? "changed" : "tests") < 0 || fclose(file)) {
			return -1;
		}
	}
	return ast_module_reload("res_kafka.so") == AST_MODULE_RELOAD_SUCCESS ? 0 : -1;
}

static void *task_run(void *data)
{
	struct task *task = data;
	void *result;

	ast_mutex_lock(&task->lock);
	task->tid = ast_get_tid();
	ast_mutex_unlock(&task->lock);
	result = task->run(task->argument);
	ast_mutex_lock(&task->lock);
	task->result = result;
	task->finished = 1;
	ast_cond_broadcast(&task->changed);
	ast_mutex_unlock(&task->lock);
	return NULL;
}

struct task *task_start(void *(*run)(void *), void *argument)
{
	struct task *task = ast_calloc(1, sizeof(*task));

	if (!task) {
		return NULL;
	}
	task->run = run;
	task->argument = argument;
	ast_mutex_init(&task->lock);
	ast_cond_init(&task->changed, NULL);
	if (ast_pthread_create(&task->thread, NULL, task_run, task)) {
		ast_free(task);
		return NULL;
	}
	return task;
}

int task_wait(struct task *task, int ms)
{
	struct timespec until = in_ms(ms);
	int late = 0;

	ast_mutex_lock(&task->lock);
	while (!task->finished && !late) {
		late = ast_cond_timedwait(&task->changed, &task->lock, &until);
	}
	late = task->finished ? 0 : -1;
	ast_mutex_unlock(&task->lock);
	return late;
}

/* The number of a thread's sleeps, if it sleeps; -1 for any other thread. */
static long sleeps(int tid)
{
	char path[64], line[128], state = 0;
	long count = -1;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/task/%d/status", tid);
	f = tid ? fopen(path, "r") : NULL;
	if (!f) {
		return -1;
	}
	while (fgets(line, sizeof(line), f)) {
		sscanf(line, "State: %c", &state);
		sscanf(line, "voluntary_ctxt_switches: %ld", &count);
	}
	fclose(f);
	return state == 'S' ? count : -1;
}

int task_asleep(struct task *task)
{
	long before, now = -1;
	int i, tid;

	for (i = 0; i < PATIENCE_S * 1000 / QUIET_MS; i++) {
		if (!task_wait(task, QUIET_MS)) {
			return -1;
		}
		ast_mutex_lock(&task->lock);
		tid = task->tid;
		ast_mutex_unlock(&task->lock);
		before = now;
		now = sleeps(tid);
		if (now >= 0 && now == before) {
			return 0;
		}
	}
	return -1;
}

void *task_join(struct task *task)
{
	void *result;

	pthread_join(task->thread, NULL);
	result = task->result;
	ast_cond_destroy(&task->changed);
	ast_mutex_destroy(&task->lock);
	ast_free(task);
	return result;
}

void task_cleanup(struct task *task)
{
	if (task) {
		task_join(task);
	}
}
