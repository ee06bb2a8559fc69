/*
 * res_kafka: what a subscription leaves to the next engine.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */

/*! \file
 *
 * \brief The member id, the pauses and the positions of a subscription, for the engine after a death.
 */

#include "asterisk.h"

#include "asterisk/lock.h"
#include "asterisk/utils.h"

#include "internal.h"

/* Limit of a kept member id, bytes: Kafka's ids are the client id, at most 249 here, and a UUID. */
#define MEMBER_MAX 1024

/* Limit of partitions with a kept position. */
#define POSITIONS_MAX 4096

/* Limit of kept pauses, bytes. */
#define PAUSES_MAX 65536

struct position {
	char *topic;
	int32_t partition;
	int64_t next; /* the offset behind the last delivered message */
};

AST_MUTEX_DEFINE_STATIC(lock); /* of all members and pauses */

void bequest_member(struct bequest *b, const char *member)
{
	char *copy = strlen(member) <= MEMBER_MAX ? ast_strdup(member) : NULL;

	ast_mutex_lock(&lock);
	if (copy) {
		SWAP(b->member, copy);
	}
	ast_mutex_unlock(&lock);
	ast_free(copy);
}

int bequest_pause(struct bequest *b, const char *topics, int on)
{
	size_t length = strlen(topics), room;
	const char *line, *next;
	char *noted, *at;
	int result = -1;

	ast_mutex_lock(&lock);
	room = strlen(S_OR(b->pauses, "")) + length + 3;
	noted = at = room <= PAUSES_MAX && !strchr(topics, '\n') ? ast_malloc(room) : NULL;
	if (noted) {
		for (line = S_OR(b->pauses, ""); *line; line = next) {
			next = strchr(line, '\n') + 1;
			if (length && (next - line != (ssize_t) length + 2 || memcmp(line + 1, topics, length))) {
				at = mempcpy(at, line, next - line);
			}
		}
		sprintf(at, "%c%s\n", on ? '+' : '-', topics);
		SWAP(b->pauses, noted);
		result = 0;
	}
	ast_mutex_unlock(&lock);
	ast_free(noted);
	return result;
}

/* Finds or makes the position of a message's partition. NULL without memory, or at the limit. */
static struct position *position_of(struct bequest *b, const struct ast_kafka_record *m)
{
	struct position *p;
	uint32_t i;

	for (i = 0; i < b->position_count; i++) {
		p = &b->positions[(b->position_at + i) % b->position_count];
		if (p->partition == m->partition && !strcmp(p->topic, m->topic)) {
			return p;
		}
	}
	if (i == POSITIONS_MAX || !(p = ast_realloc(b->positions, (i + 1) * sizeof(*p)))) {
		return NULL;
	}
	b->positions = p;
	p[i] = (struct position) { .topic = ast_strdup(m->topic), .partition = m->partition };
	b->position_count += p[i].topic != NULL;
	return p[i].topic ? &p[i] : NULL;
}

void bequest_position(struct bequest *b, const struct ast_kafka_record *m)
{
	struct position *p = position_of(b, m);

	if (p) {
		p->next = m->offset + 1;
		b->position_at = p - b->positions;
	}
}

void bequest_put(struct bequest *b, struct boundary_writer *request, bool pauses)
{
	uint32_t i;

	ast_mutex_lock(&lock);
	boundary_put_string(request, S_OR(b->member, ""));
	if (pauses) {
		boundary_put_string(request, S_OR(b->pauses, ""));
	}
	ast_mutex_unlock(&lock);
	boundary_put_count(request, b->position_count);
	for (i = 0; i < b->position_count; i++) {
		boundary_put_string(request, b->positions[i].topic);
		boundary_put_number(request, (int64_t) b->positions[i].partition);
		boundary_put_number(request, b->positions[i].next);
	}
}

void bequest_free(struct bequest *b)
{
	ast_free(b->pauses);
	ast_free(b->member);
	while (b->position_count) {
		ast_free(b->positions[--b->position_count].topic);
	}
	ast_free(b->positions);
}
