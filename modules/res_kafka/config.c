/*
 * res_kafka: reading configuration files.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */

/*! \file
 *
 * \brief Reads a file with Asterisk's own loader, so that templates, #include and #exec work, and lists its lines for
 * the engine, which alone knows what they mean.
 */

#include "asterisk.h"

#include "asterisk/config.h"
#include "asterisk/logger.h"
#include "asterisk/utils.h"

#include "internal.h"

/* Counts the entries when list is NULL, else fills them in. */
static size_t list_entries(struct ast_config *config, const char *file, struct resk_entry *list)
{
	struct ast_category *category = NULL;
	size_t count = 0;

	while ((category = ast_category_browse_filtered(config, NULL, category, NULL))) {
		const char *section = ast_category_get_name(category);
		struct ast_variable *v;

		if (list) {
			list[count] = (struct resk_entry) { .file = file, .section = section };
		}
		count++;
		for (v = ast_category_first(category); v; v = v->next) {
			if (list) {
				list[count] = (struct resk_entry) {
					.file = S_OR(v->file, file),
					.line = v->lineno,
					.section = section,
					.name = v->name,
					.value = v->value,
					.inherited = v->inherited,
				};
			}
			count++;
		}
	}
	return count;
}

int entries_load(const char *file, struct entries *entries)
{
	struct ast_flags flags = { 0 };
	struct ast_config *config = ast_config_load2(file, "res_kafka", flags);

	memset(entries, 0, sizeof(*entries));
	if (config == CONFIG_STATUS_FILEINVALID) {
		ast_log(LOG_ERROR, "%s cannot be read; the lines above say why\n", file);
		return -1;
	}
	if (!config || config == CONFIG_STATUS_FILEUNCHANGED) {
		ast_log(LOG_ERROR, "%s is missing; `make samples` installs an example\n", file);
		return -1;
	}
	entries->owner = config;
	entries->count = list_entries(config, file, NULL);
	entries->list = ast_calloc(entries->count + 1, sizeof(*entries->list));
	if (!entries->list) {
		entries_free(entries);
		return -1;
	}
	list_entries(config, file, entries->list);
	return 0;
}

void entries_free(struct entries *entries)
{
	ast_free(entries->list);
	if (entries->owner) {
		ast_config_destroy(entries->owner);
	}
	memset(entries, 0, sizeof(*entries));
}
