/*
 * The reference of res_kafka's measurements: its configuration. For measurements only.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */

/*! \file
 *
 * \brief kafka.conf, and its translation for librdkafka.
 *
 * Every option of the replaced module is in the table with its default, so librdkafka's own defaults never
 * apply; a test compares the defaults with internal/config. An option outside the table goes to librdkafka
 * under its own name with dots for underscores, so a measurement can try any option.
 */

#include "asterisk.h"

#include "asterisk/config.h"
#include "asterisk/logger.h"
#include "asterisk/strings.h"
#include "asterisk/utils.h"

#include "internal.h"

#define CONF_FILE "kafka.conf"
#define LOG_SECONDS 30

#define BOTH (ROLE_PRODUCER | ROLE_CONSUMER)

/* An empty default is not given to librdkafka; an empty property is an option of the engine's own, and ignored here. */
static const struct option {
	const char *name;
	const char *property;
	const char *fallback;
	int roles;
} options[] = {
	{ "brokers", "bootstrap.servers", "localhost:9092", BOTH },
	{ "client_id", "client.id", "asterisk", BOTH },
	{ "request_timeout_ms", "request.timeout.ms", "5000", ROLE_PRODUCER },
	{ "message_timeout_ms", "message.timeout.ms", "300000", ROLE_PRODUCER },
	{ "socket_timeout_ms", "socket.timeout.ms", "10000", BOTH },
	{ "reconnect_backoff_ms", "reconnect.backoff.ms", "100", BOTH },
	{ "reconnect_backoff_max_ms", "reconnect.backoff.max.ms", "10000", BOTH },
	{ "security_protocol", "security.protocol", "plaintext", BOTH },
	{ "sasl_mechanisms", "sasl.mechanisms", "", BOTH },
	{ "sasl_username", "sasl.username", "", BOTH },
	{ "sasl_password", "sasl.password", "", BOTH },
	{ "ssl_ca_location", "ssl.ca.location", "", BOTH },
	{ "ssl_certificate_location", "ssl.certificate.location", "", BOTH },
	{ "ssl_key_location", "ssl.key.location", "", BOTH },
	{ "message_max_bytes", "message.max.bytes", "1000000", BOTH },
	{ "compression_codec", "compression.codec", "none", ROLE_PRODUCER },
	{ "compression_level", "compression.level", "-1", ROLE_PRODUCER },
	{ "linger_ms", "queue.buffering.max.ms", "5", ROLE_PRODUCER },
	{ "batch_num_messages", "batch.num.messages", "10000", ROLE_PRODUCER },
	{ "batch_size", "batch.size", "1000000", ROLE_PRODUCER },
	{ "queue_buffering_max_messages", "queue.buffering.max.messages", "100000", ROLE_PRODUCER },
	{ "queue_buffering_max_kbytes", "queue.buffering.max.kbytes", "1048576", ROLE_PRODUCER },
	{ "acks", "request.required.acks", "-1", ROLE_PRODUCER },
	{ "retries", "message.send.max.retries", "2147483647", ROLE_PRODUCER },
	{ "enable_idempotence", "enable.idempotence", "no", ROLE_PRODUCER },
	{ "group_id", "group.id", "", ROLE_CONSUMER },
	{ "auto_offset_reset", "auto.offset.reset", "latest", ROLE_CONSUMER },
	{ "enable_auto_commit", "enable.auto.commit", "yes", ROLE_CONSUMER },
	{ "auto_commit_interval_ms", "auto.commit.interval.ms", "5000", ROLE_CONSUMER },
	{ "session_timeout_ms", "session.timeout.ms", "45000", ROLE_CONSUMER },
	{ "max_poll_interval_ms", "max.poll.interval.ms", "300000", ROLE_CONSUMER },
	{ "debug", "debug", "", BOTH },
	{ "type", "", "", BOTH },
	{ "connections_max_idle_ms", "", "", BOTH },
	{ "request_max_bytes", "", "", BOTH },
	{ "durability", "", "", BOTH },
	{ "spool_dir", "", "", BOTH },
	{ "spool_max_mbytes", "", "", BOTH },
	{ "spool_sync", "", "", BOTH },
	{ "spool_full", "", "", BOTH },
	{ "spool_max_hours", "", "", BOTH },
	{ "flush_timeout_ms", "", "", BOTH },
};

static struct ast_config *config;

int config_load(void)
{
	struct ast_flags flags = { 0 };

	config = ast_config_load2(CONF_FILE, AST_MODULE, flags);
	if (!config || config == CONFIG_STATUS_FILEINVALID || config == CONFIG_STATUS_FILEUNCHANGED) {
		ast_log(LOG_ERROR, "%s cannot be read\n", CONF_FILE);
		config = NULL;
		return -1;
	}
	return 0;
}

void config_free(void)
{
	ast_config_destroy(config);
	config = NULL;
}

int client_may_log(struct client *client)
{
	time_t now = time(NULL), before = __atomic_load_n(&client->logged, __ATOMIC_RELAXED);

	return now - before >= LOG_SECONDS
		&& __atomic_compare_exchange_n(&client->logged, &before, now, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

/* librdkafka's levels are syslog's, with the names of Asterisk's logger: 4 is a warning, 7 is debug. */
static void on_log(const rd_kafka_t *rk, int level, const char *facility, const char *text)
{
	struct client *client = rd_kafka_opaque(rk);

	if (level > 4) {
		ast_debug(3, "%s: %s: %s\n", rd_kafka_name(rk), facility, text);
	} else if (client_may_log(client)) {
		ast_log(LOG_WARNING, "%s: %s: %s\n", rd_kafka_name(rk), facility, text);
	}
}

static void on_error(rd_kafka_t *rk, int error, const char *reason, void *opaque)
{
	if (client_may_log(opaque)) {
		ast_log(LOG_WARNING, "%s: %s: %s\n", rd_kafka_name(rk), rd_kafka_err2name(error), reason);
	}
}

static void on_report(rd_kafka_t *rk, const rd_kafka_message_t *message, void *opaque)
{
	if (!message->err) {
		ast_debug(3, "%s: delivered %zu bytes to partition %d\n", rd_kafka_name(rk), message->len, message->partition);
	} else if (client_may_log(opaque)) {
		ast_log(LOG_ERROR, "%s: a message is lost: %s\n", rd_kafka_name(rk), rd_kafka_err2name(message->err));
	}
}

static void on_rebalance(rd_kafka_t *rk, rd_kafka_resp_err_t error, rd_kafka_topic_partition_list_t *partitions, void *opaque)
{
	rd_kafka_assign(rk, error == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS ? partitions : NULL);
}

static int set(rd_kafka_conf_t *conf, const char *property, const char *value)
{
	char reason[512];

	/* librdkafka knows true and false only. */
	if (!strcmp(property, "enable.idempotence") || !strcmp(property, "enable.auto.commit")) {
		value = ast_true(value) ? "true" : "false";
	}
	if (rd_kafka_conf_set(conf, property, value, reason, sizeof(reason)) != RD_KAFKA_CONF_OK) {
		ast_log(LOG_ERROR, "%s\n", reason);
		return -1;
	}
	return 0;
}

/* The options of the table, as set or by default. */
static int set_known(rd_kafka_conf_t *conf, const char *name, enum role role)
{
	const struct ast_variable *given = ast_variable_browse(config, name);
	size_t i;

	for (i = 0; i < ARRAY_LEN(options); i++) {
		const struct option *option = &options[i];
		/* The last line counts, so a section may override its template. */
		const char *value = S_OR(ast_variable_find_last_in_list(given, option->name), option->fallback);

		if ((option->roles & role) && option->property[0] && value[0] && set(conf, option->property, value)) {
			return -1;
		}
	}
	return 0;
}

static int known(const char *name)
{
	size_t i;

	for (i = 0; i < ARRAY_LEN(options) && strcasecmp(options[i].name, name); i++);
	return i < ARRAY_LEN(options);
}

static int set_unknown(rd_kafka_conf_t *conf, const char *name)
{
	const struct ast_variable *v;

	for (v = ast_variable_browse(config, name); v; v = v->next) {
		char *property = ast_strdupa(v->name), *c;

		for (c = property; *c; c++) {
			*c = *c == '_' ? '.' : *c;
		}
		if (!known(v->name) && set(conf, property, v->value)) {
			return -1;
		}
	}
	return 0;
}

int config_new_client(struct client *client, const char *name, enum role role)
{
	const char *type = ast_strlen_zero(name) ? NULL : ast_variable_retrieve(config, name, "type");
	rd_kafka_conf_t *conf;
	char reason[512];

	if (!type || strcasecmp(type, "connection")) {
		ast_log(LOG_WARNING, "%s has no connection '%s'\n", CONF_FILE, S_OR(name, ""));
		return -1;
	}
	ast_copy_string(client->name, name, sizeof(client->name));
	conf = rd_kafka_conf_new();
	if (set_known(conf, name, role) || set_unknown(conf, name)) {
		rd_kafka_conf_destroy(conf);
		return -1;
	}
	rd_kafka_conf_set_opaque(conf, client);
	rd_kafka_conf_set_log_cb(conf, on_log);
	rd_kafka_conf_set_error_cb(conf, on_error);
	if (role == ROLE_PRODUCER) {
		rd_kafka_conf_set_dr_msg_cb(conf, on_report);
	} else {
		rd_kafka_conf_set_rebalance_cb(conf, on_rebalance);
	}
	client->rk = rd_kafka_new(role == ROLE_PRODUCER ? RD_KAFKA_PRODUCER : RD_KAFKA_CONSUMER, conf, reason, sizeof(reason));
	if (!client->rk) {
		rd_kafka_conf_destroy(conf);
		ast_log(LOG_ERROR, "Connection '%s': %s\n", name, reason);
		return -1;
	}
	return 0;
}

static int clients_hash(const void *object, int flags)
{
	return ast_str_hash((flags & OBJ_SEARCH_MASK) == OBJ_SEARCH_KEY ? object : ((const struct client *) object)->name);
}

static int clients_compare(void *object, void *arg, int flags)
{
	const char *name = (flags & OBJ_SEARCH_MASK) == OBJ_SEARCH_KEY ? arg : ((struct client *) arg)->name;

	return strcmp(((struct client *) object)->name, name) ? 0 : CMP_MATCH;
}

struct ao2_container *clients_alloc(void)
{
	return ao2_container_alloc_hash(AO2_ALLOC_OPT_LOCK_MUTEX, 0, 31, clients_hash, NULL, clients_compare);
}
