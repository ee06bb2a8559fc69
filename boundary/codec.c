/*
 * res_kafka: see codec.h.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#include "codec.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

/* The first allocation of a writer, bytes: nearly all requests fit. */
#define FIRST_SIZE 512

static inline void store(unsigned char *to, uint64_t number, size_t bytes)
{
	number = htole64(number);
	memcpy(to, &number, bytes);
}

static inline uint64_t load(const unsigned char *from, size_t bytes)
{
	uint64_t number = 0;

	memcpy(&number, from, bytes);
	return le64toh(number);
}

/* Longest frame of a kind, without its length field. */
static size_t longest(uint16_t kind, uint16_t flags)
{
	return kind == BOUNDARY_NEXT && flags == BOUNDARY_ANSWER ? BOUNDARY_MESSAGES_MAX : BOUNDARY_FRAME_MAX;
}

/* Reserves space for more bytes; NULL after a failure. */
static unsigned char *extend(struct boundary_writer *writer, size_t bytes)
{
	unsigned char *at;

	if (writer->failed || bytes > writer->limit - writer->used) {
		writer->failed = 1;
		return NULL;
	}
	if (bytes > writer->size - writer->used) {
		size_t size = writer->size ? writer->size : FIRST_SIZE;
		unsigned char *larger;

		while (size - writer->used < bytes) {
			size *= 2;
		}
		larger = realloc(writer->bytes, size);
		if (!larger) {
			writer->failed = 1;
			return NULL;
		}
		writer->bytes = larger;
		writer->size = size;
	}
	at = writer->bytes + writer->used;
	writer->used += bytes;
	return at;
}

void boundary_begin(struct boundary_writer *writer, uint16_t kind, uint16_t flags, uint64_t number)
{
	unsigned char *at;

	writer->used = 0;
	writer->failed = 0;
	writer->limit = longest(kind, flags) + BOUNDARY_UNCOUNTED;
	at = extend(writer, BOUNDARY_HEAD_SIZE);
	if (at) {
		store(at, 0, 4); /* boundary_finish knows the length */
		store(at + 4, kind, 2);
		store(at + 6, flags, 2);
		store(at + 8, number, 8);
	}
}

void boundary_put_number(struct boundary_writer *writer, uint64_t number)
{
	unsigned char *at = extend(writer, 8);

	if (at) {
		store(at, number, 8);
	}
}

void boundary_set_number(struct boundary_writer *writer, size_t at, uint64_t number)
{
	if (!writer->failed) {
		store(writer->bytes + at, number, 8);
	}
}

void boundary_put_text(struct boundary_writer *writer, const char *data, size_t length)
{
	unsigned char *at;

	if (!data) {
		at = extend(writer, 4);
		if (at) {
			store(at, BOUNDARY_NONE, 4);
		}
		return;
	}
	if (length > BOUNDARY_MESSAGES_MAX) { /* prevents an overflow of the sum below */
		writer->failed = 1;
		return;
	}
	at = extend(writer, 4 + length + 1);
	if (at) {
		store(at, length, 4);
		memcpy(at + 4, data, length);
		at[4 + length] = '\0';
	}
}

void boundary_put_string(struct boundary_writer *writer, const char *string)
{
	boundary_put_text(writer, string, string ? strlen(string) : 0);
}

size_t boundary_put_count(struct boundary_writer *writer, uint32_t count)
{
	unsigned char *at = extend(writer, 4);

	if (!at) {
		return 0;
	}
	store(at, count, 4);
	return (size_t) (at - writer->bytes);
}

void boundary_set_count(struct boundary_writer *writer, size_t at, uint32_t count)
{
	if (!writer->failed) {
		store(writer->bytes + at, count, 4);
	}
}

int boundary_finish(struct boundary_writer *writer)
{
	if (writer->failed) {
		return -1;
	}
	store(writer->bytes, writer->used - BOUNDARY_UNCOUNTED, 4);
	return 0;
}

void boundary_free(struct boundary_writer *writer)
{
	free(writer->bytes);
	memset(writer, 0, sizeof(*writer));
}

int boundary_parse_head(const unsigned char *bytes, struct boundary_head *head)
{
	size_t length = (size_t) load(bytes, 4);

	head->kind = (uint16_t) load(bytes + 4, 2);
	head->flags = (uint16_t) load(bytes + 6, 2);
	head->number = load(bytes + 8, 8);
	if (head->flags > BOUNDARY_ANSWER || length < BOUNDARY_HEAD_SIZE - BOUNDARY_UNCOUNTED
		|| length > longest(head->kind, head->flags)) {
		head->length = 0;
		return -1;
	}
	head->length = length - (BOUNDARY_HEAD_SIZE - BOUNDARY_UNCOUNTED);
	return 0;
}

void boundary_read(struct boundary_reader *reader, const void *fields, size_t length)
{
	reader->at = fields;
	reader->end = reader->at + length;
	reader->failed = 0;
}

static void fail(struct boundary_reader *reader)
{
	reader->at = reader->end;
	reader->failed = 1;
}

/* The next bytes, or NULL after a failure. */
static const unsigned char *take(struct boundary_reader *reader, size_t bytes)
{
	const unsigned char *at = reader->at;

	if (reader->failed || bytes > (size_t) (reader->end - at)) {
		fail(reader);
		return NULL;
	}
	reader->at = at + bytes;
	return at;
}

uint64_t boundary_get_number(struct boundary_reader *reader)
{
	const unsigned char *at = take(reader, 8);

	return at ? load(at, 8) : 0;
}

int64_t boundary_get_signed(struct boundary_reader *reader, int64_t least, int64_t most)
{
	int64_t number = (int64_t) boundary_get_number(reader);

	if (number < least || number > most) {
		fail(reader);
	}
	return reader->failed ? 0 : number;
}

int32_t boundary_get_int32(struct boundary_reader *reader)
{
	return (int32_t) boundary_get_signed(reader, INT32_MIN, INT32_MAX);
}

uint32_t boundary_get_uint32(struct boundary_reader *reader)
{
	return (uint32_t) boundary_get_signed(reader, 0, UINT32_MAX);
}

int boundary_get_bool(struct boundary_reader *reader)
{
	return (int) boundary_get_signed(reader, 0, 1);
}

const char *boundary_get_text(struct boundary_reader *reader, size_t *length)
{
	const unsigned char *at = take(reader, 4);
	size_t bytes = at ? (size_t) load(at, 4) : BOUNDARY_NONE;

	if (length) {
		*length = 0;
	}
	if (bytes == BOUNDARY_NONE) {
		return NULL;
	}
	at = take(reader, bytes + 1);
	if (at && at[bytes] != '\0') {
		fail(reader);
		at = NULL;
	}
	if (at && length) {
		*length = bytes;
	}
	return (const char *) at;
}

const char *boundary_get_string(struct boundary_reader *reader)
{
	const char *text = boundary_get_text(reader, NULL);

	return text ? text : "";
}

uint32_t boundary_get_count(struct boundary_reader *reader, size_t least)
{
	const unsigned char *at = take(reader, 4);
	uint32_t count = at ? (uint32_t) load(at, 4) : 0;

	if (count > (size_t) (reader->end - reader->at) / (least ? least : 1)) {
		fail(reader);
		return 0;
	}
	return count;
}

int boundary_end(const struct boundary_reader *reader)
{
	return reader->failed || reader->at != reader->end ? -1 : 0;
}
