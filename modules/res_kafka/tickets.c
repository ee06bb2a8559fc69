/*
 * res_kafka: numbers of outstanding reports.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */

/*! \file
 *
 * \brief Numbers in place of the modules' pointers in reports.
 *
 * A pointer never leaves this process. The engine gets a number valid for one report. A repeated report,
 * after the death of an engine, or an invented one has an invalid number and is dropped.
 */

#include "asterisk.h"

#include "asterisk/lock.h"
#include "asterisk/utils.h"

#include "internal.h"

/* How many are allocated first. Later allocations double the number. */
#define FIRST 1024

struct ticket {
	void *opaque;
	uint32_t serial; /* odd = outstanding; grows with each use */
	uint32_t engine; /* number of engine deaths at the ticket's start, or at the last repetition of its record */
	uint32_t free;   /* the next free ticket, plus 1 */
};

void tickets_init(struct tickets *tickets)
{
	memset(tickets, 0, sizeof(*tickets));
	ast_mutex_init(&tickets->lock);
}

void tickets_destroy(struct tickets *tickets)
{
	ast_free(tickets->list);
	ast_mutex_destroy(&tickets->lock);
}

/* Adds free tickets, when there are none. Caller must hold the lock. */
static void grow(struct tickets *tickets)
{
	uint32_t count = tickets->count ? 2 * tickets->count : FIRST, i;
	struct ticket *list = count > UINT32_MAX / 2 ? NULL : ast_realloc(tickets->list, count * sizeof(*list));

	if (list) {
		for (i = tickets->count; i < count; i++) {
			list[i] = (struct ticket) { .free = i + 1 < count ? i + 2 : 0 };
		}
		tickets->list = list;
		tickets->free = tickets->count + 1;
		tickets->count = count;
	}
}

uint64_t tickets_take(struct tickets *tickets, void *opaque, uint32_t engine)
{
	struct ticket *ticket;
	uint64_t number = 0;
	uint32_t index;

	ast_mutex_lock(&tickets->lock);
	if (!tickets->free) {
		grow(tickets);
	}
	if (tickets->free) {
		index = tickets->free - 1;
		ticket = &tickets->list[index];
		tickets->free = ticket->free;
		ticket->opaque = opaque;
		ticket->engine = engine;
		ticket->serial++;
		number = (uint64_t) ticket->serial << 32 | index;
	}
	ast_mutex_unlock(&tickets->lock);
	return number;
}

/* Finds an outstanding ticket by number, NULL for none. Caller must hold the lock. */
static struct ticket *find(struct tickets *tickets, uint64_t number)
{
	uint32_t index = number, serial = number >> 32;
	struct ticket *ticket = index < tickets->count ? &tickets->list[index] : NULL;

	return ticket && serial % 2 && ticket->serial == serial ? ticket : NULL;
}

/* Ends a ticket. Caller must hold the lock. */
static void *end(struct tickets *tickets, struct ticket *ticket, uint32_t index)
{
	ticket->serial++;
	ticket->free = tickets->free;
	tickets->free = index + 1;
	return ticket->opaque;
}

int tickets_redeem(struct tickets *tickets, uint64_t number, void **opaque)
{
	struct ticket *ticket;

	ast_mutex_lock(&tickets->lock);
	ticket = find(tickets, number);
	if (ticket) {
		*opaque = end(tickets, ticket, number);
	}
	ast_mutex_unlock(&tickets->lock);
	return ticket != NULL;
}

void tickets_again(struct tickets *tickets, uint64_t number, uint32_t engine)
{
	struct ticket *ticket;

	ast_mutex_lock(&tickets->lock);
	ticket = find(tickets, number);
	if (ticket) {
		ticket->engine = engine;
	}
	ast_mutex_unlock(&tickets->lock);
}

int tickets_lost(struct tickets *tickets, uint32_t engine, uint32_t *from, void **opaque)
{
	struct ticket *ticket = NULL;

	ast_mutex_lock(&tickets->lock);
	for (; *from < tickets->count && !ticket; (*from)++) {
		ticket = &tickets->list[*from];
		if (ticket->serial % 2 && ticket->engine < engine) {
			*opaque = end(tickets, ticket, *from);
		} else {
			ticket = NULL;
		}
	}
	ast_mutex_unlock(&tickets->lock);
	return ticket != NULL;
}
