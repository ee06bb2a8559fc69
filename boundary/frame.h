/*
 * res_kafka: the content of a frame in the stage: a record, or the fields of an event.
 *
 * The module writes frames. The engine reads frames, including frames of an earlier version in shared memory.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#ifndef RES_KAFKA_FRAME_H
#define RES_KAFKA_FRAME_H

#include <stdint.h>

/* Head of a frame's content. A later version may find frames in shared memory, so a change also raises
 * STAGE_SLAB_LAYOUT. The head is followed by topic, key, value, and then fields: a struct resk_field_head,
 * name and value for each, without padding. Integers are in the machine's byte order. */
struct resk_frame_head {
	int64_t accepted_ns;  /* CLOCK_REALTIME at the acceptance of the call */
	uint64_t source;      /* 0 = a record; else the number of the event source, from resk_source_open; its upper half is
	                       * the kind, valid in later runs too */
	uint32_t topic_length;
	uint32_t key_length;  /* RESK_NULL = no key */
	uint32_t value_length;/* RESK_NULL = null value */
	uint32_t field_count; /* the record's headers, or the event's fields */
};

#define RESK_NULL UINT32_MAX

/* Kinds of field values, in bytes: a text unchanged; an integer as int64_t; a time as two int64_t, seconds
 * and microseconds. A record's headers are texts. */
enum resk_field_kind {
	RESK_FIELD_TEXT = 0,
	RESK_FIELD_INTEGER = 1,
	RESK_FIELD_TIME = 2,
	RESK_FIELD_VARIABLE = 3, /* text, a variable with a name of the user's choice */
	RESK_FIELD_REPORT = 4,   /* not a header but a struct resk_report_to of a record, with an empty name */
};

struct resk_field_head {
	uint32_t name_length;
	uint32_t value_length; /* RESK_NULL = null */
	uint32_t kind;
};

/* The receiver of a record's outcome. */
struct resk_report_to {
	uint64_t reports; /* number from resk_reports_open; a closed number has no receiver */
	uint64_t opaque;  /* comes back in the report */
};

#endif /* RES_KAFKA_FRAME_H */
