/*
 * res_kafka: writes and reads the frames between the module and the engine.
 *
 * A frame is the length of the rest (32 bits), the kind (16), flags (16), the number of the request (64), and
 * the fields in the order of the table in messages.h. All numbers are little-endian. A number field has 64
 * bits. A text has its length (32 bits, BOUNDARY_NONE = none), its bytes, and a final NUL outside the length.
 * A list has its count (32 bits) and then the fields of each element. The fields end with the frame.
 *
 * A writer or reader is not safe for concurrent use; different objects are independent. No function blocks,
 * logs, or takes a lock. Arbitrary bytes do not harm the reader, unless the bytes change meanwhile.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#ifndef RES_KAFKA_CODEC_H
#define RES_KAFKA_CODEC_H

#include <stddef.h>
#include <stdint.h>

#include "messages.h"

/* The bytes before the fields, and the part of them outside the length: the length field. */
#define BOUNDARY_HEAD_SIZE 16
#define BOUNDARY_UNCOUNTED 4

/* In flags: the frame is an answer. */
#define BOUNDARY_ANSWER 1

/* Length of a text that is none. */
#define BOUNDARY_NONE UINT32_MAX

/* Encodes one frame after another into its own memory. A zeroed writer is ready for boundary_begin. After a
 * failure (no memory, too long) every call does nothing until the next boundary_begin. */
struct boundary_writer {
	unsigned char *bytes; /* the frame; owned */
	size_t used;          /* bytes of the frame */
	size_t size;          /* bytes allocated */
	size_t limit;         /* most bytes of this frame */
	int failed;
};

/* boundary_begin starts a frame and drops the previous frame. flags: 0 or BOUNDARY_ANSWER. number: of the
 * request, 0 = one-way. */
void boundary_begin(struct boundary_writer *writer, uint16_t kind, uint16_t flags, uint64_t number);

/* boundary_put_number appends a number; a signed number as two's complement, a bool as 0 or 1. */
void boundary_put_number(struct boundary_writer *writer, uint64_t number);

/* boundary_set_number replaces the number that was put when `at` bytes of the frame were used. */
void boundary_set_number(struct boundary_writer *writer, size_t at, uint64_t number);

/* boundary_put_text appends length bytes, which may hold NUL. data NULL: the text is none. */
void boundary_put_text(struct boundary_writer *writer, const char *data, size_t length);

/* boundary_put_string appends a text that ends with NUL. NULL: no text. */
void boundary_put_string(struct boundary_writer *writer, const char *string);

/* boundary_put_count begins a list; the caller appends count elements. The return value is for
 * boundary_set_count, which replaces a count unknown before the elements. */
size_t boundary_put_count(struct boundary_writer *writer, uint32_t count);
void boundary_set_count(struct boundary_writer *writer, size_t at, uint32_t count);

/* boundary_finish completes the frame: writer->bytes, writer->used long, valid until the next boundary_begin.
 * Returns 0, or -1 after a failure; then there is no frame to send. */
int boundary_finish(struct boundary_writer *writer);

/* boundary_free frees the memory; the writer is as if zeroed. */
void boundary_free(struct boundary_writer *writer);

/* The head of a frame. */
struct boundary_head {
	size_t length; /* of the fields, bytes */
	uint64_t number;
	uint16_t kind;
	uint16_t flags;
};

/* boundary_parse_head reads BOUNDARY_HEAD_SIZE bytes. Returns 0, or -1 if the length is invalid for the kind,
 * or flags has other bits than BOUNDARY_ANSWER. The caller must check that the kind exists and is
 * expected. */
int boundary_parse_head(const unsigned char *bytes, struct boundary_head *head);

/* Decodes the fields of a frame. After a failure (too short, a text without NUL, a number out of range) every
 * get returns 0 or NULL, and boundary_end returns -1. A caller may therefore get all fields and check once. A
 * loop over a count ends, because the count is at most the number of remaining bytes. */
struct boundary_reader {
	const unsigned char *at;
	const unsigned char *end;
	int failed;
};

/* boundary_read begins to read fields, without taking ownership. Texts point into fields and are valid as
 * long. */
void boundary_read(struct boundary_reader *reader, const void *fields, size_t length);

/* boundary_get_number reads a number. */
uint64_t boundary_get_number(struct boundary_reader *reader);

/* boundary_get_signed reads a signed number from least to most; any other number is a failure. */
int64_t boundary_get_signed(struct boundary_reader *reader, int64_t least, int64_t most);

/* boundary_get_int32, boundary_get_uint32, boundary_get_bool: a number that does not fit is a failure. */
int32_t boundary_get_int32(struct boundary_reader *reader);
uint32_t boundary_get_uint32(struct boundary_reader *reader);
int boundary_get_bool(struct boundary_reader *reader);

/* boundary_get_text reads a text: its bytes, and a final NUL. NULL: no text, or a failure. length may be
 * NULL; without a text it becomes 0. The bytes may contain NUL, so a C string may be shorter than the text,
 * never longer. */
const char *boundary_get_text(struct boundary_reader *reader, size_t *length);

/* boundary_get_string is boundary_get_text with "" in place of NULL. */
const char *boundary_get_string(struct boundary_reader *reader);

/* boundary_get_count reads the count of a list. Each element has at least `least` bytes (1 or more): a number
 * has 8, a text or a list 4. A count above the remaining bytes is a failure, and the result is 0. */
uint32_t boundary_get_count(struct boundary_reader *reader, size_t least);

/* boundary_end returns 0 when every get succeeded and no byte is left, else -1. */
int boundary_end(const struct boundary_reader *reader);

#endif /* RES_KAFKA_CODEC_H */
