/*
 * res_kafka: configuration.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */

/*! \file
 *
 * \brief Reads files with Asterisk's own loader: templates, #include and #exec work. Sends the lines to the
 * engine, their only interpreter. Keeps the table of connections from the engine's answer.
 */

#include "asterisk.h"

#include "asterisk/astobj2.h"
#include "asterisk/config.h"
#include "asterisk/linkedlists.h"
#include "asterisk/logger.h"
#include "asterisk/utils.h"

#include "internal.h"

#define CONF_FILE "kafka.conf"

/* Limit for the engine to read a configuration, ms. The engine opens spools then and waits for the disk. */
#define CONFIGURE_MS 60000

/* Time beyond request_timeout_ms for an answer that needs a broker, ms, and the limit of
 * request_timeout_ms. */
#define GRACE_MS 2000
#define TIMEOUT_MAX_MS (24 * 3600 * 1000)

/* Limit of a batch of messages after its connection has left the table, bytes. */
#define MOST_BYTES (4u * 1024 * 1024)

/* A connection of the present configuration. Texts point into the table's answer. */
struct connection {
	const char *name;
	const char *no[2]; /* why there is no producer, no consumer; empty = there is one */
	uint32_t request_timeout_ms;
	uint64_t messages_max;
	uint64_t gate[7]; /* the fields of struct resk_gate from max_frames on */
};

struct table {
	unsigned char *fields; /* the answer */
	const char *otherwise; /* why another name has neither */
	uint32_t count;
	struct connection list[];
};

AST_MUTEX_DEFINE_STATIC(lock);
static struct table *table; /* under the lock */

static void table_replace(struct table *with)
{
	struct table *old;

	ast_mutex_lock(&lock);
	old = table;
	table = with;
	ast_mutex_unlock(&lock);
	if (old) {
		peer_free(old->fields);
		ast_free(old);
	}
}

void connections_clear(void)
{
	table_replace(NULL);
}

/* Reads the table from the rest of an answer. The table takes the answer's memory. NULL for an unreadable
 * answer. */
static struct table *table_read(struct peer_answer *answer)
{
	struct boundary_reader *reader = &answer->reader;
	const char *otherwise = boundary_get_string(reader);
	uint32_t count = boundary_get_count(reader, 3 * sizeof(uint32_t) + 9 * sizeof(uint64_t)), i, j;
	struct table *read = ast_calloc(1, sizeof(*read) + count * sizeof(read->list[0]));

	for (i = 0; read && i < count; i++) {
		struct connection *c = &read->list[i];

		c->name = boundary_get_string(reader);
		c->no[0] = boundary_get_string(reader);
		c->no[1] = boundary_get_string(reader);
		c->request_timeout_ms = boundary_get_uint32(reader);
		c->messages_max = boundary_get_number(reader);
		for (j = 0; j < ARRAY_LEN(c->gate); j++) {
			c->gate[j] = boundary_get_number(reader);
		}
	}
	if (!read || boundary_end(reader)) {
		ast_free(read);
		return NULL;
	}
	read->otherwise = otherwise;
	read->count = count;
	read->fields = answer->fields;
	answer->fields = NULL;
	return read;
}

/* Finds a connection. Caller must hold the lock. */
static const struct connection *find(const char *name)
{
	uint32_t i;

	for (i = 0; table && i < table->count; i++) {
		if (!strcasecmp(table->list[i].name, name)) {
			return &table->list[i];
		}
	}
	return NULL;
}

bool connection_can(const char *name, bool consume, bool log)
{
	const struct connection *c;
	const char *why;
	bool can;

	ast_mutex_lock(&lock);
	c = find(name);
	why = c ? c->no[consume] : table ? table->otherwise : "kafka.conf has not been read";
	can = c && !*why;
	if (!can && log) {
		ast_log(LOG_ERROR, "No Kafka %s for connection '%s': %s\n", consume ? "consumer" : "producer", name, why);
	}
	ast_mutex_unlock(&lock);
	return can;
}

void connection_fill(const char *name, struct resk_gate *gate)
{
	int64_t *fields = &gate->max_frames;
	const struct connection *c;
	size_t i;

	_Static_assert(offsetof(struct resk_gate, memory) == offsetof(struct resk_gate, max_frames) + 6 * sizeof(int64_t), "fields of a gate");
	ast_mutex_lock(&lock);
	c = find(name);
	for (i = 0; c && i < ARRAY_LEN(c->gate); i++) {
		__atomic_store_n(&fields[i], (int64_t) c->gate[i], __ATOMIC_RELAXED);
	}
	ast_mutex_unlock(&lock);
}

int connection_patience(const char *name)
{
	uint32_t longest = 0, i;

	ast_mutex_lock(&lock);
	for (i = 0; table && i < table->count; i++) {
		if (!name || !strcasecmp(table->list[i].name, name)) {
			longest = MAX(longest, MIN(table->list[i].request_timeout_ms, TIMEOUT_MAX_MS));
		}
	}
	ast_mutex_unlock(&lock);
	return longest + GRACE_MS;
}

size_t connection_most(const char *name)
{
	const struct connection *c;
	size_t most;

	ast_mutex_lock(&lock);
	c = find(name);
	most = c && c->messages_max ? MIN(c->messages_max, BOUNDARY_MESSAGES_MAX) : MOST_BYTES;
	ast_mutex_unlock(&lock);
	return most;
}

char *connection_nth(const char *prefix, uint32_t n)
{
	char *found = NULL;
	uint32_t i;

	ast_mutex_lock(&lock);
	for (i = 0; table && i < table->count && !found; i++) {
		const struct connection *c = &table->list[i];

		if ((!*c->no[0] || !*c->no[1]) && !strncasecmp(c->name, prefix, strlen(prefix)) && !n--) {
			found = ast_strdup(c->name);
		}
	}
	ast_mutex_unlock(&lock);
	return found;
}

static void put_entry(struct boundary_writer *request, const char *section, const struct ast_variable *v, const char *file)
{
	boundary_put_string(request, v ? S_OR(v->file, file) : file);
	boundary_put_number(request, v ? v->lineno : 0);
	boundary_put_string(request, section);
	boundary_put_string(request, v ? v->name : NULL);
	boundary_put_string(request, v ? v->value : NULL);
	boundary_put_number(request, v && v->inherited);
}

/* Appends the lines of a file; an entry without a name begins each section. 0, or -1 with the reason in the log. */
static int put_file(struct boundary_writer *request, const char *file)
{
	struct ast_flags flags = { 0 };
	struct ast_config *config = ast_config_load2(file, "res_kafka", flags);
	struct ast_category *category = NULL;
	size_t at = boundary_put_count(request, 0);
	uint32_t count = 0;

	if (config == CONFIG_STATUS_FILEINVALID) {
		ast_log(LOG_ERROR, "%s cannot be read; the lines above say why\n", file);
		return -1;
	}
	if (!config || config == CONFIG_STATUS_FILEUNCHANGED) {
		ast_log(LOG_ERROR, "%s is missing; `make samples` installs an example\n", file);
		return -1;
	}
	while ((category = ast_category_browse_filtered(config, NULL, category, NULL))) {
		const char *section = ast_category_get_name(category);
		const struct ast_variable *v;

		put_entry(request, section, NULL, file);
		for (v = ast_category_first(category), count++; v; v = v->next, count++) {
			put_entry(request, section, v, file);
		}
	}
	boundary_set_count(request, at, count);
	ast_config_destroy(config);
	return 0;
}

/* Asks for the change of a file. The caller keeps the request. Returns the result, RESK_ESTATE without an
 * answer. */
static int32_t ask(struct boundary_writer *request, uint64_t *generation, struct peer_answer *answer)
{
	*generation = engine_await(AWAIT_MS); /* a reload ends the pause before the next engine */
	*answer = (struct peer_answer) { 0 };
	if (!*generation || peer_call(engine_peer, *generation, request, CONFIGURE_MS, NULL, 0, answer) != PEER_OK) {
		return RESK_ESTATE;
	}
	return boundary_get_int32(&answer->reader);
}

int config_load(void)
{
	struct boundary_writer request = { 0 };
	struct table *accepted = NULL;
	uint64_t generation;
	struct peer_answer answer;
	int32_t result;

	boundary_begin(&request, BOUNDARY_CONFIGURE, 0, 1);
	if (put_file(&request, CONF_FILE)) {
		boundary_free(&request);
		return -1;
	}
	result = ask(&request, &generation, &answer);
	if (!answer.fields) {
		ast_log(LOG_ERROR, CONF_FILE " cannot be read, the previous configuration stays in force: " AWAY "\n");
	} else if (result == RESK_OK && !(accepted = table_read(&answer))) {
		engine_broken();
	}
	if (accepted) {
		table_replace(accepted);
		replay_keep(REPLAY_CONFIGURE, 0, &request, generation, NULL);
		replay_rest();
	}
	peer_free(answer.fields);
	boundary_free(&request);
	return accepted ? 0 : -1;
}

int config_source(const char *kind, const char *file, uint64_t *source, char **connection)
{
	struct boundary_writer request = { 0 };
	uint64_t generation, number = 0;
	struct peer_answer answer;
	int32_t result;
	size_t at;

	*connection = NULL;
	boundary_begin(&request, BOUNDARY_SOURCE_OPEN, 0, 1);
	boundary_put_string(&request, kind);
	at = request.used;
	boundary_put_number(&request, *source);
	if (put_file(&request, file)) {
		boundary_free(&request);
		return -1;
	}
	result = ask(&request, &generation, &answer);
	if (!answer.fields) {
		ast_log(LOG_ERROR, "The configuration of '%s' cannot be read: " AWAY "\n", kind);
	} else {
		number = boundary_get_number(&answer.reader);
		*connection = ast_strdup(boundary_get_string(&answer.reader));
		if (boundary_end(&answer.reader) || (result == RESK_OK && (!number || (*source && number != *source)))) {
			engine_broken();
			result = RESK_ESTATE;
		}
	}
	if (result == RESK_OK && *connection) {
		*source = number;
		boundary_set_number(&request, at, number); /* a later engine gives the source the same number */
		replay_keep(REPLAY_SOURCE, number, &request, generation, NULL);
	} else {
		ast_free(*connection);
		*connection = NULL;
	}
	peer_free(answer.fields);
	boundary_free(&request);
	return *connection ? 0 : -1;
}
