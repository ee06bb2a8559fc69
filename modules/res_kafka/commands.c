/*
 * res_kafka: the engine's CLI commands.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */

/*! \file
 *
 * \brief Runs and completes commands of the engine's table, and answers for it while there is no engine.
 */

#include "asterisk.h"

#include "asterisk/logger.h"
#include "asterisk/strings.h"
#include "asterisk/utils.h"

#include "engine_internal.h"
#include "internal.h"

/* Most commands that an engine may have, so that its table is bounded. */
#define COMMANDS_MAX 256

/* How commands of this module begin: the engine must not take the place of others. */
#define COMMAND_PREFIX "kafka "

/* What a command may take longer than the engine allows it, ms. */
#define SLACK_MS 500

/* The command that also shows the engine. */
#define STATUS_COMMAND "kafka show status"

static struct resk_command *commands;
static uint32_t command_count;

void commands_clear(void)
{
	uint32_t i;

	for (i = 0; i < command_count; i++) {
		ast_free((char *) commands[i].words);
		ast_free((char *) commands[i].summary);
		ast_free((char *) commands[i].usage);
	}
	ast_free(commands);
	commands = NULL;
	command_count = 0;
}

int commands_read(struct boundary_reader *reader)
{
	uint32_t count = boundary_get_count(reader, 3 * sizeof(uint32_t)), i;
	bool first = !commands;

	if (!count || count > COMMANDS_MAX || (first && !(commands = ast_calloc(count, sizeof(*commands))))) {
		return -1;
	}
	for (i = 0; i < count; i++) {
		const char *words = boundary_get_string(reader);
		const char *summary = boundary_get_string(reader);
		const char *usage = boundary_get_string(reader);

		if (!first) {
			continue; /* an engine of the same build has the same ones */
		}
		if (strncmp(words, COMMAND_PREFIX, strlen(COMMAND_PREFIX))) {
			return -1;
		}
		command_count = i + 1;
		commands[i].words = ast_strdup(words);
		commands[i].summary = ast_strdup(summary);
		commands[i].usage = ast_strdup(usage);
		if (!commands[i].words || !commands[i].summary || !commands[i].usage) {
			return -1;
		}
	}
	return 0;
}

int32_t resk_command_at(uint32_t index, struct resk_command *command)
{
	if (index >= command_count) {
		return RESK_ENOENT;
	}
	*command = commands[index];
	return RESK_OK;
}

static void put_words(struct boundary_writer *request, uint16_t kind, uint32_t index, const struct resk_text *words, size_t count)
{
	size_t i;

	boundary_begin(request, kind, 0, 1);
	boundary_put_number(request, index);
	boundary_put_count(request, count);
	for (i = 0; i < count; i++) {
		boundary_put_text(request, words[i].data, words[i].length);
	}
}

/* What is printed when there is no engine to ask. */
static void print_without_engine(uint32_t index, struct ast_str **text)
{
	char *name;
	uint32_t n;

	if (strcmp(commands[index].words, STATUS_COMMAND)) {
		ast_str_append(text, 0, "Error: the Kafka engine is not there to answer.\n");
		return;
	}
	ast_str_append(text, 0, "Connections:\n%-15s %s\n", "Name", "Brokers");
	for (n = 0; (name = names_nth("", n)); n++) {
		ast_str_append(text, 0, "%-15s (not known without the engine)\n", name);
		ast_free(name);
	}
}

/* Appends what the engine prints. Returns 0, or 1 when the usage is to be shown. */
static int print(uint32_t index, const struct resk_text *words, size_t count, struct ast_str **text)
{
	struct boundary_writer request = { 0 };
	struct boundary_reader reader;
	struct peer_answer answer;
	const char *printed;

	put_words(&request, BOUNDARY_RUN, index, words, count);
	if (engine_ask(&request, 0, names_patience(NULL) + SLACK_MS, NULL, &answer) != PEER_OK) {
		print_without_engine(index, text);
		return 0;
	}
	boundary_read(&reader, answer.fields, answer.length);
	printed = boundary_get_text(&reader, NULL);
	if (boundary_end(&reader)) {
		engine_broken();
		print_without_engine(index, text);
		printed = "";
	}
	if (printed) {
		ast_str_append(text, 0, "%s", printed);
	}
	peer_free(answer.fields);
	return !printed;
}

char *resk_run(uint32_t index, const struct resk_text *words, size_t count)
{
	struct ast_str *text = ast_str_create(1024);
	bool status = index < command_count && !strcmp(commands[index].words, STATUS_COMMAND);
	char *result = NULL;

	if (!text || index >= command_count) {
		ast_free(text);
		return NULL;
	}
	producers_publish(); /* what is staged counts as waiting */
	if (!print(index, words, count, &text)) {
		if (status) {
			engine_status(&text);
		}
		if (!engine_now() && !status) {
			engine_status(&text);
		}
		result = ast_strdup(ast_str_buffer(text));
	}
	ast_free(text);
	return result;
}

char *resk_complete(uint32_t index, const struct resk_text *words, size_t count, const char *word, uint32_t n)
{
	struct boundary_writer request = { 0 };
	struct boundary_reader reader;
	struct peer_answer answer;
	const char *candidate = NULL;
	uint32_t candidates, i;
	char *copy;

	put_words(&request, BOUNDARY_COMPLETE, index, words, count);
	boundary_put_string(&request, word);
	if (engine_ask(&request, 0, 1000, NULL, &answer) != PEER_OK) {
		return names_nth(word, n);
	}
	boundary_read(&reader, answer.fields, answer.length);
	candidates = boundary_get_count(&reader, sizeof(uint32_t));
	for (i = 0; i < candidates && i <= n; i++) {
		candidate = boundary_get_string(&reader);
	}
	copy = n < candidates && !reader.failed ? ast_strdup(candidate) : NULL;
	peer_free(answer.fields);
	return copy;
}
