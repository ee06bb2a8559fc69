/*
 * res_kafka: the command line.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */

/*! \file
 *
 * \brief Registers the commands of the engine's table, passes words through, and answers while there is no engine.
 */

#include "asterisk.h"

#include "asterisk/cli.h"
#include "asterisk/logger.h"
#include "asterisk/module.h"
#include "asterisk/strings.h"
#include "asterisk/utils.h"

#include "internal.h"

/* Limit of commands per engine; bounds the table. */
#define COMMANDS_MAX 256

/* The prefix of this module's commands. The engine must not replace commands of other modules. */
#define COMMAND_PREFIX "kafka "

/* How long completion waits for the engine, ms. */
#define COMPLETE_MS 1000

/* This command also shows the engine. */
#define STATUS_COMMAND "kafka show status"

static struct command {
	const char *words, *summary, *usage;
	bool waits; /* for a broker or for the disk */
} *commands;
static uint32_t command_count;
static void *texts; /* of the commands */
static struct ast_cli_entry *entries;

void commands_clear(void)
{
	ast_free(commands);
	ast_free(texts);
	commands = NULL;
	texts = NULL;
	command_count = 0;
}

int commands_read(struct boundary_reader *reader)
{
	size_t length = reader->end - reader->at;
	struct boundary_reader copy;
	uint32_t count, i;

	commands_clear();
	if (!(texts = ast_malloc(length + 1))) {
		return -1;
	}
	boundary_read(&copy, memcpy(texts, reader->at, length), length);
	count = boundary_get_count(&copy, 3 * sizeof(uint32_t) + sizeof(uint64_t));
	if (!count || count > COMMANDS_MAX || !(commands = ast_calloc(count, sizeof(*commands)))) {
		return -1;
	}
	for (i = 0; i < count; i++) {
		commands[i].words = boundary_get_string(&copy);
		commands[i].summary = boundary_get_string(&copy);
		commands[i].usage = boundary_get_string(&copy);
		commands[i].waits = boundary_get_bool(&copy);
		if (strncmp(commands[i].words, COMMAND_PREFIX, strlen(COMMAND_PREFIX))) {
			return -1;
		}
	}
	command_count = count;
	return boundary_end(&copy);
}

static void put_words(struct boundary_writer *request, uint16_t kind, uint32_t index, const struct ast_cli_args *a, int count)
{
	int i;

	boundary_begin(request, kind, 0, 1);
	boundary_put_number(request, index);
	boundary_put_count(request, count);
	for (i = 0; i < count; i++) {
		boundary_put_string(request, a->argv[i]);
	}
}

/* Prints the state known without an engine. */
static void print_without_engine(bool status, bool late, int limit_ms, struct ast_str **text)
{
	char *name;
	uint32_t n;

	if (!status && late) {
		ast_str_append(text, 0, "Error: the Kafka engine has not answered within %d ms.\n", limit_ms);
		return;
	}
	if (!status) {
		ast_str_append(text, 0, "Error: the Kafka engine is not there to answer.\n");
		return;
	}
	ast_str_append(text, 0, "Connections:\n%-15s %s\n", "Name", "Brokers");
	for (n = 0; (name = connection_nth("", n)); n++) {
		ast_str_append(text, 0, "%-15s (not known without the engine)\n", name);
		ast_free(name);
	}
}

static char *run(uint32_t index, struct ast_cli_args *a)
{
	bool status = !strcmp(commands[index].words, STATUS_COMMAND), late = false;
	int limit_ms = commands[index].waits ? connection_patience(NULL) : ASK_MS;
	struct ast_str *text = ast_str_create(1024);
	struct boundary_writer request = { 0 };
	enum peer_result asked;
	struct peer_answer answer;
	const char *printed;

	if (!text) {
		return CLI_FAILURE;
	}
	stages_publish(); /* staged records count as waiting */
	put_words(&request, BOUNDARY_RUN, index, a, a->argc);
	asked = engine_ask(&request, 0, limit_ms, NULL, 0, &answer);
	late = asked == PEER_LATE;
	if (asked == PEER_OK) {
		printed = boundary_get_text(&answer.reader, NULL);
		if (printed) {
			ast_str_append(&text, 0, "%s", printed);
		}
		if (!answer_end(&answer) && !printed) {
			ast_free(text);
			return CLI_SHOWUSAGE;
		}
	} else {
		print_without_engine(status, late, limit_ms, &text);
	}
	if (status || late || !engine_now()) {
		engine_status(late ? limit_ms : 0, &text);
	}
	ast_cli(a->fd, "%s", ast_str_buffer(text));
	ast_free(text);
	return CLI_SUCCESS;
}

static char *complete(uint32_t index, struct ast_cli_args *a)
{
	struct boundary_writer request = { 0 };
	const char *candidate = NULL;
	struct peer_answer answer;
	uint32_t count, n = a->n, i;
	char *copy;

	/* During completion argv ends with the partial word, if there is one. */
	put_words(&request, BOUNDARY_COMPLETE, index, a, MIN(a->pos, a->argc));
	boundary_put_string(&request, a->word);
	if (engine_ask(&request, 0, COMPLETE_MS, NULL, 0, &answer) != PEER_OK) {
		return connection_nth(a->word, n);
	}
	count = boundary_get_count(&answer.reader, sizeof(uint32_t));
	for (i = 0; i < count && i <= n; i++) {
		candidate = boundary_get_string(&answer.reader);
	}
	copy = n < count && !answer.reader.failed ? ast_strdup(candidate) : NULL;
	peer_free(answer.fields);
	return copy;
}

static char *handle(struct ast_cli_entry *e, int cmd, struct ast_cli_args *a)
{
	uint32_t index = e - entries;

	switch (cmd) {
	case CLI_INIT:
		e->command = (char *) commands[index].words; /* Asterisk copies the words */
		e->usage = commands[index].usage;
		return NULL;
	case CLI_GENERATE:
		return complete(index, a);
	default:
		return run(index, a);
	}
}

int cli_register(void)
{
	uint32_t i;

	entries = ast_calloc(command_count, sizeof(*entries));
	if (!entries) {
		return -1;
	}
	for (i = 0; i < command_count; i++) {
		/* The members are const, so a filled-in entry is copied over. */
		struct ast_cli_entry entry = { .handler = handle, .summary = commands[i].summary };

		memcpy(&entries[i], &entry, sizeof(entry));
	}
	return ast_cli_register_multiple(entries, command_count);
}

void cli_unregister(void)
{
	if (entries) {
		ast_cli_unregister_multiple(entries, command_count);
		ast_free(entries);
	}
	entries = NULL;
}
