/*
 * res_kafka: the command line.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */

/*! \file
 *
 * \brief Registers every command that the engine's table lists and passes words through, so that another command
 * needs nothing here.
 */

#include "asterisk.h"

#include "asterisk/cli.h"
#include "asterisk/logger.h"
#include "asterisk/module.h"
#include "asterisk/utils.h"

#include "internal.h"

static struct ast_cli_entry *commands;
static int command_count;

static char *describe(struct ast_cli_entry *e, uint32_t index)
{
	struct resk_command command = { 0 };

	if (resk_command_at(index, &command) == RESK_OK) {
		e->command = (char *) command.words; /* Asterisk makes a copy of it */
		e->usage = command.usage;
	}
	return NULL;
}

static void words_of(struct ast_cli_args *a, int count, struct resk_text *words)
{
	int i;

	for (i = 0; i < count; i++) {
		words[i] = (struct resk_text) { a->argv[i], strlen(a->argv[i]) };
	}
}

static char *complete(uint32_t index, struct ast_cli_args *a)
{
	/* While completing, argv ends with the word that is being typed, if any of it has been. */
	int count = MIN(a->pos, a->argc);
	struct resk_text words[count + 1];

	words_of(a, count, words);
	return resk_complete(index, words, count, a->word, a->n);
}

static char *run(uint32_t index, struct ast_cli_args *a)
{
	struct resk_text words[a->argc + 1];
	char *printed;

	words_of(a, a->argc, words);
	printed = resk_run(index, words, a->argc);
	if (!printed) {
		return CLI_SHOWUSAGE;
	}
	ast_cli(a->fd, "%s", printed);
	ast_free(printed);
	return CLI_SUCCESS;
}

static char *handle(struct ast_cli_entry *e, int cmd, struct ast_cli_args *a)
{
	uint32_t index = e - commands;

	switch (cmd) {
	case CLI_INIT:
		return describe(e, index);
	case CLI_GENERATE:
		return complete(index, a);
	default:
		return run(index, a);
	}
}

int cli_register(void)
{
	struct resk_command command = { 0 };
	int i;

	while (resk_command_at(command_count, &command) == RESK_OK) {
		command_count++;
	}
	commands = ast_calloc(command_count, sizeof(*commands));
	if (!commands) {
		command_count = 0;
		return -1;
	}
	for (i = 0; i < command_count; i++) {
		resk_command_at(i, &command);
		/* The members are const, so a filled-in entry is copied over. */
		struct ast_cli_entry entry = { .handler = handle, .summary = command.summary };

		memcpy(&commands[i], &entry, sizeof(entry));
	}
	return ast_cli_register_multiple(commands, command_count);
}

void cli_unregister(void)
{
	if (commands) {
		ast_cli_unregister_multiple(commands, command_count);
		ast_free(commands);
	}
	commands = NULL;
	command_count = 0;
}
