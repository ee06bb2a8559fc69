/*
 * kafka_bench: the payloads.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */

#ifndef KAFKA_BENCH_PAYLOAD_H
#define KAFKA_BENCH_PAYLOAD_H

#include <stddef.h>

/*! \brief How many different keys there are. */
#define PAYLOAD_KEYS 1000

/*! \brief Payloads and keys, made before any clock runs. The same numbers give the same bytes in every process. */
struct payloads {
	size_t bytes;  /* of each payload */
	long count;    /* of different payloads */
	char *values;  /* contiguous */
	char (*keys)[40];
};

/*!
 * \brief Make payloads of this size, as many different ones as needed or as fit in a few megabytes. -1
 * without memory.
 */
int payloads_make(struct payloads *payloads, size_t bytes, long needed);

/*! \brief Free the payloads of payloads_make(), also after a failure, or for all zero. */
void payloads_free(struct payloads *payloads);

/*! \brief The payload of message number i. */
static inline const char *payload_of(const struct payloads *payloads, long i)
{
	return payloads->values + i % payloads->count * payloads->bytes;
}

#endif
