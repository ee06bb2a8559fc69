/*
 * res_kafka: what the engine says of its own accord.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */

/*! \file
 *
 * \brief Lines for Asterisk's log, and which members subscriptions are.
 */

#include "asterisk.h"

#include "asterisk/logger.h"
#include "asterisk/strings.h"
#include "asterisk/utils.h"

#include "engine_internal.h"

static void write_log(int level, const char *file, int line, const char *function, const char *text)
{
	static const int levels[] = {
		[RESK_LOG_DEBUG] = __LOG_DEBUG,
		[RESK_LOG_NOTICE] = __LOG_NOTICE,
		[RESK_LOG_WARNING] = __LOG_WARNING,
		[RESK_LOG_ERROR] = __LOG_ERROR,
	};

	if (level < 0 || level >= (int) ARRAY_LEN(levels)) {
		level = RESK_LOG_ERROR;
	}
	if (level == RESK_LOG_DEBUG && !DEBUG_ATLEAST(1)) {
		return;
	}
	ast_log(levels[level], file, line, function, "%s\n", text);
}

void engine_supervisor_says(int level, const char *text)
{
	write_log(level, __FILE__, __LINE__, "supervisor", text);
}

/* Copies a text of the engine's, without what a log must not have. */
static char *printable(char *copy, size_t size, const char *text)
{
	char *at;

	ast_copy_string(copy, text, size);
	for (at = copy; *at; at++) {
		if ((unsigned char) *at < ' ' || *at == 0x7f) {
			*at = ' ';
		}
	}
	return copy;
}

void engine_says(void *owner, uint16_t kind, const unsigned char *fields, size_t length)
{
	struct boundary_reader reader;
	char file[64], function[64], text[4096];
	int32_t level, line;
	uint64_t number;

	boundary_read(&reader, fields, length);
	if (kind == BOUNDARY_MEMBER) {
		number = boundary_get_number(&reader);
		ast_copy_string(text, boundary_get_string(&reader), sizeof(text));
		if (boundary_end(&reader)) {
			engine_broken();
			return;
		}
		deliveries_note(number, text);
		return;
	}
	if (kind != BOUNDARY_LOG) {
		engine_refuse("it sent a message of an unknown kind");
		return;
	}
	level = boundary_get_int32(&reader);
	printable(file, sizeof(file), boundary_get_string(&reader));
	line = boundary_get_int32(&reader);
	printable(function, sizeof(function), boundary_get_string(&reader));
	printable(text, sizeof(text), boundary_get_string(&reader));
	if (boundary_end(&reader)) {
		engine_broken();
		return;
	}
	write_log(level, file, line, function, text);
}
