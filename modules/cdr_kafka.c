/*
 * cdr_kafka: call detail records to Kafka.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */

/*! \file
 *
 * \brief Lists the fields of each call detail record. The engine does the rest: internal/event has the table
 * of fields, and the engine interprets cdr_kafka.conf.
 */

/*** MODULEINFO
	<depend>res_kafka</depend>
	<support_level>extended</support_level>
 ***/

#include "asterisk.h"

#include "asterisk/astobj2.h"
#include "asterisk/cdr.h"
#include "asterisk/channel.h"
#include "asterisk/chanvars.h"
#include "asterisk/logger.h"
#include "asterisk/module.h"
#include "asterisk/utils.h"

#include "asterisk/kafka_source.h"

#define CDR_NAME "Kafka"

static struct ast_kafka_source *source;

#define TEXT(member) (struct ast_kafka_field) { #member, AST_KAFKA_TEXT, { .text = cdr->member } }
#define NAMED(label, value) (struct ast_kafka_field) { label, AST_KAFKA_TEXT, { .text = value } }
#define INTEGER(member) (struct ast_kafka_field) { #member, AST_KAFKA_INTEGER, { .integer = cdr->member } }
#define TIME(member) (struct ast_kafka_field) { #member, AST_KAFKA_TIME, { .time = cdr->member } }

static int cdr_log(struct ast_cdr *cdr)
{
	const struct ast_kafka_field base[] = {
		TEXT(clid), TEXT(src), TEXT(dst), TEXT(dcontext), TEXT(channel), TEXT(dstchannel), TEXT(lastapp), TEXT(lastdata),
		TIME(start), TIME(answer), TIME(end), INTEGER(duration), INTEGER(billsec),
		NAMED("disposition", ast_cdr_disp2str(cdr->disposition)),
		TEXT(accountcode),
		NAMED("amaflags", ast_channel_amaflags2string(cdr->amaflags)),
		TEXT(peeraccount), TEXT(linkedid), INTEGER(sequence),
#ifdef AST_MAX_TENANT_ID /* Asterisk 18.25, 18.9-cert17, 20.7-cert11, 20.10, 21.5, 22.0 and later */
		TEXT(tenantid), TEXT(peertenantid),
#endif
		TEXT(uniqueid), TEXT(userfield),
	};
	struct ast_kafka_field *fields;
	size_t count = ARRAY_LEN(base);
	struct ast_var_t *variable;
	int res;

	AST_LIST_TRAVERSE(&cdr->varshead, variable, entries) {
		count++;
	}
	fields = ast_malloc(count * sizeof(*fields));
	if (!fields) {
		return -1;
	}
	memcpy(fields, base, sizeof(base));
	count = ARRAY_LEN(base);
	AST_LIST_TRAVERSE(&cdr->varshead, variable, entries) {
		fields[count++] = (struct ast_kafka_field) {
			ast_var_full_name(variable), AST_KAFKA_VARIABLE, { .text = ast_var_value(variable) }
		};
	}
	res = ast_kafka_source_publish(source, fields, count);
	ast_free(fields);
	return res;
}

static int unload_module(void)
{
	/* Asterisk posts its pending call records (cdr.conf: batch = yes), possibly from a separate thread: the records
	 * of a missing backend are lost. */
	ast_cdr_engine_term();
	ast_kafka_source_settle(source);
	if (ast_cdr_unregister(CDR_NAME)) {
		return -1;
	}
	ao2_cleanup(source);
	source = NULL;
	return 0;
}

static int load_module(void)
{
	source = ast_kafka_source_open("cdr", "cdr_kafka.conf");
	if (!source) {
		return AST_MODULE_LOAD_DECLINE;
	}
	if (ast_cdr_register(CDR_NAME, ast_module_info->description, cdr_log)) {
		ast_log(LOG_ERROR, "Cannot register as a backend for call detail records\n");
		ao2_cleanup(source);
		source = NULL;
		return AST_MODULE_LOAD_DECLINE;
	}
	return AST_MODULE_LOAD_SUCCESS;
}

static int reload_module(void)
{
	return ast_kafka_source_reload(source) ? AST_MODULE_RELOAD_ERROR : AST_MODULE_RELOAD_SUCCESS;
}

AST_MODULE_INFO(ASTERISK_GPL_KEY, AST_MODFLAG_LOAD_ORDER, "Kafka CDR backend",
	.support_level = AST_MODULE_SUPPORT_EXTENDED,
	.load = load_module,
	.unload = unload_module,
	.reload = reload_module,
	.load_pri = AST_MODPRI_CDR_DRIVER,
	.requires = "cdr,res_kafka",
);
