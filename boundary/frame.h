/*
 * res_kafka: what a frame in the stage holds: one record, or the fields of one event.
 *
 * The module writes frames and the engine reads them, also those that an earlier version left in shared memory.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#ifndef RES_KAFKA_FRAME_H
#define RES_KAFKA_FRAME_H

#include <stdint.h>

/* What a frame in the stage holds, also in shared memory where a later version may find it: a change raises
 * STAGE_SLAB_LAYOUT too. It is this head, then topic, key, value, then fields of struct resk_field_head each
 * followed by its name and value, all without padding. Integers are in the machine's byte order. */
struct resk_frame_head {
	int64_t accepted_ns;  /* CLOCK_REALTIME when the caller's call accepted it */
	uint64_t source;      /* 0 = a record; else the number, by resk_source_open, of the source whose fields these are: its
	                       * upper half says the kind to later runs as well */
	uint32_t topic_length;
	uint32_t key_length;  /* RESK_NULL = no key */
	uint32_t value_length;/* RESK_NULL = null value */
	uint32_t field_count; /* the record's headers, or the event's fields */
};

#define RESK_NULL UINT32_MAX

/* The field's own values come as bytes: text as it is; an integer as int64_t; a time as two int64_t, seconds and
 * microseconds. A record's headers are text. */
enum resk_field_kind {
	RESK_FIELD_TEXT = 0,
	RESK_FIELD_INTEGER = 1,
	RESK_FIELD_TIME = 2,
	RESK_FIELD_VARIABLE = 3, /* text, a variable whose name the user chose */
	RESK_FIELD_REPORT = 4,   /* of a record, no header: its value is a struct resk_report_to and its name is empty */
};

struct resk_field_head {
	uint32_t name_length;
	uint32_t value_length; /* RESK_NULL = null */
	uint32_t kind;
};

/* Who is to learn what becomes of a record. */
struct resk_report_to {
	uint64_t reports; /* the number from resk_reports_open; one that is closed by then is nobody */
	uint64_t opaque;  /* comes back in the report */
};

#endif /* RES_KAFKA_FRAME_H */
