/*
 * kafka_bench: the payloads.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */

/*! \file
 *
 * \brief Payloads similar to call records as JSON. Names repeat and values vary like in a PBX, so compression
 * has a realistic task: neither one repeated byte nor random bytes.
 */

#include "asterisk.h"

#include <stdio.h>

#include "asterisk/utils.h"

#include "payload.h"

/* Limit of all different payloads, bytes; more than a batch, so no batch has a payload twice. */
#define POOL (8 * 1024 * 1024)
#define FEWEST 16
#define MOST 8192

/* A sequence equal in every process (xorshift, as published by Marsaglia). */
static uint32_t next(uint32_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 17;
	*state ^= *state << 5;
	return *state;
}

/* A field of a record, with a comma. */
static int field(char *text, size_t size, int which, long number, uint32_t *state)
{
	static const char *const dispositions[] = { "ANSWERED", "ANSWERED", "ANSWERED", "NO ANSWER", "BUSY", "FAILED" };
	static const char *const contexts[] = { "from-internal", "from-trunk", "ivr-main", "queue-sales", "queue-support" };
	uint32_t a = next(state), b = next(state);

	switch (which % 10) {
	case 0:
		return snprintf(text, size, "\"uniqueid\":\"pbx1-%u.%ld\",", 1763800000 + (unsigned) number / 7, number);
	case 1:
		return snprintf(text, size, "\"disposition\":\"%s\",", dispositions[a % ARRAY_LEN(dispositions)]);
	case 2:
		return snprintf(text, size, "\"src\":\"+4930%07u\",", a % 10000000);
	case 3:
		return snprintf(text, size, "\"dst\":\"%u\",", 100 + a % 900);
	case 4:
		return snprintf(text, size, "\"channel\":\"PJSIP/trunk%u-%08lx\",", a % 4, number * 2);
	case 5:
		return snprintf(text, size, "\"start\":\"2026-03-%02u %02u:%02u:%02u\",", 1 + a % 28, b % 24, a / 28 % 60, b / 24 % 60);
	case 6:
		return snprintf(text, size, "\"duration\":%u,\"billsec\":%u,", a % 600 + b % 30, a % 600);
	case 7:
		return snprintf(text, size, "\"dcontext\":\"%s\",", contexts[a % ARRAY_LEN(contexts)]);
	case 8:
		return snprintf(text, size, "\"dstchannel\":\"PJSIP/%u-%08lx\",", 100 + b % 900, number * 2 + 1);
	default:
		return snprintf(text, size, "\"lastapp\":\"Dial\",\"lastdata\":\"PJSIP/%u,%u,tT\",", 100 + b % 900, 10 + a % 50);
	}
}

/* Whole fields while they fit, then the number in a final field of the remaining size. */
static void fill(char *value, size_t bytes, long number)
{
	uint32_t state = 2463534242u + 977 * (uint32_t) number;
	size_t used = 0;
	char text[128];
	int which;

	if (used < bytes) {
		value[used++] = '{';
	}
	for (which = 0;; which++) {
		size_t length = field(text, sizeof(text), which, number, &state);

		if (used + length + sizeof("\"n\":\"\"}") > bytes) {
			break;
		}
		memcpy(value + used, text, length);
		used += length;
	}
	snprintf(text, sizeof(text), "\"n\":\"%0100ld", number);
	/* The last digits of the number that fit. */
	if (used < bytes) {
		size_t room = bytes - used, head = MIN(room, sizeof("\"n\":\"") - 1), tail = MIN(room - head, 2), middle = room - head - tail;

		memcpy(value + used, text, head);
		memcpy(value + used + head, text + strlen(text) - middle, middle);
		memcpy(value + used + head + middle, "\"}", tail);
	}
}

int payloads_make(struct payloads *payloads, size_t bytes, long needed)
{
	long i;

	payloads->bytes = bytes;
	payloads->count = MAX(1, MIN(needed, MIN(MOST, MAX(FEWEST, (long) (POOL / MAX(bytes, 1))))));
	payloads->values = ast_malloc(payloads->count * bytes + 1);
	payloads->keys = ast_calloc(PAYLOAD_KEYS, sizeof(*payloads->keys));
	if (!payloads->values || !payloads->keys) {
		return -1;
	}
	for (i = 0; i < payloads->count; i++) {
		fill(payloads->values + i * bytes, bytes, i);
	}
	for (i = 0; i < PAYLOAD_KEYS; i++) {
		snprintf(payloads->keys[i], sizeof(*payloads->keys), "pbx1-%ld.%ld", 1763800000 + i / 7, i);
	}
	return 0;
}

void payloads_free(struct payloads *payloads)
{
	ast_free(payloads->values);
	ast_free(payloads->keys);
	memset(payloads, 0, sizeof(*payloads));
}
