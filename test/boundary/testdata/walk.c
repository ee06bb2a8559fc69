/*
 * Reads frames with boundary/codec.c and writes them again, for boundary_test.go.
 *
 *   walk echo              each frame of the input, decoded and encoded again, to the output
 *   walk fuzz SEED ROUNDS  damaged copies of the frames of the input; exits with 1 if the codec misbehaves
 *
 * The input is a list of records: length of the shape (32 bits, little-endian, like all lengths), the shape,
 * length of the frame, the frame. A shape has one letter for each field: n number, s signed, u and i of 32
 * bits, b truth, t text, and [...] a list.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "boundary/codec.h"
#include "stage/stage.h"

_Static_assert((int) RESK_REFUSED_CLOSED == STAGE_CLOSED && (int) RESK_REFUSED_TOO_LONG == STAGE_TOO_LONG
	&& (int) RESK_REFUSED_FULL_FRAMES == STAGE_FULL_FRAMES && (int) RESK_REFUSED_FULL_CHARGE == STAGE_FULL_CHARGE
	&& (int) RESK_REFUSED_NO_MEMORY == STAGE_NO_MEMORY, "a refusal has the number of the stage's result");

struct sample {
	char *shape;
	unsigned char *frame;
	size_t length;
};

static unsigned long steps; /* gets of a single walk */
static volatile unsigned char sink;

static void die(const char *what)
{
	fprintf(stderr, "walk: %s\n", what);
	exit(1);
}

static size_t list_end(const char *shape)
{
	size_t at = 0;
	int depth = 1;

	while (depth > 0) {
		depth += shape[at] == '[' ? 1 : shape[at] == ']' ? -1 : 0;
		at++;
	}
	return at - 1;
}

/* Returns the minimum length of the shape's fields, up to the end of the shape or of the enclosing list. */
static size_t least(const char *shape)
{
	size_t bytes = 0;

	for (; *shape && *shape != ']'; shape++) {
		bytes += *shape == 't' || *shape == '[' ? 4 : 8;
		if (*shape == '[') {
			shape += 1 + list_end(shape + 1);
		}
	}
	return bytes;
}

static void text(struct boundary_reader *reader, struct boundary_writer *writer)
{
	size_t length;
	const char *bytes = boundary_get_text(reader, &length);

	if (!bytes && length) {
		die("a text of none has a length");
	}
	for (size_t i = 0; bytes && i <= length; i++) { /* the NUL too */
		sink ^= (unsigned char) bytes[i];
	}
	if (bytes && (bytes[length] || strlen(bytes) > length)) {
		die("a text does not end with NUL");
	}
	boundary_put_text(writer, bytes, length);
}

static void walk(const char *shape, struct boundary_reader *reader, struct boundary_writer *writer)
{
	for (; *shape && *shape != ']'; shape++) {
		steps++;
		switch (*shape) {
		case 'n':
			boundary_put_number(writer, boundary_get_number(reader));
			break;
		case 's':
			boundary_put_number(writer, (uint64_t) boundary_get_signed(reader, INT64_MIN, INT64_MAX));
			break;
		case 'u':
			boundary_put_number(writer, boundary_get_uint32(reader));
			break;
		case 'i':
			boundary_put_number(writer, (uint64_t) (int64_t) boundary_get_int32(reader));
			break;
		case 'b':
			boundary_put_number(writer, (uint64_t) boundary_get_bool(reader));
			break;
		case 't':
			text(reader, writer);
			break;
		case '[': {
			uint32_t count = boundary_get_count(reader, least(shape + 1));
			size_t at = boundary_put_count(writer, 0);
			uint32_t i;

			for (i = 0; i < count; i++) {
				walk(shape + 1, reader, writer);
			}
			boundary_set_count(writer, at, i);
			shape += 1 + list_end(shape + 1);
			break;
		}
		default:
			die("a shape with an unknown letter");
		}
	}
}

/* Decodes a frame and encodes it again. Returns 0, or -1 for a damaged frame. */
static int again(const struct sample *sample, const char *shape, struct boundary_writer *writer)
{
	struct boundary_head head;
	struct boundary_reader reader;

	if (sample->length < BOUNDARY_HEAD_SIZE || boundary_parse_head(sample->frame, &head)
		|| head.length != sample->length - BOUNDARY_HEAD_SIZE) {
		return -1;
	}
	steps = 0;
	boundary_read(&reader, sample->frame + BOUNDARY_HEAD_SIZE, head.length);
	boundary_begin(writer, head.kind, head.flags, head.number);
	walk(shape, &reader, writer);
	if (steps > 16 + 4 * sample->length) {
		die("more steps than the frame has bytes for");
	}
	return boundary_end(&reader) ? -1 : boundary_finish(writer);
}

static void *allocate(size_t bytes)
{
	void *memory = malloc(bytes ? bytes : 1);

	if (!memory) {
		die("no memory");
	}
	return memory;
}

static int read_length(uint32_t *length)
{
	unsigned char bytes[4];

	if (fread(bytes, 1, 4, stdin) != 4) {
		return 0;
	}
	*length = bytes[0] | bytes[1] << 8 | bytes[2] << 16 | (uint32_t) bytes[3] << 24;
	return 1;
}

static int read_sample(struct sample *sample)
{
	uint32_t length;

	if (!read_length(&length)) {
		return 0;
	}
	sample->shape = allocate(length + 1);
	if (fread(sample->shape, 1, length, stdin) != length) {
		die("a shape that is cut short");
	}
	sample->shape[length] = '\0';
	if (!read_length(&length)) {
		die("a sample without a frame");
	}
	sample->length = length;
	sample->frame = allocate(length);
	if (fread(sample->frame, 1, length, stdin) != length) {
		die("a frame that is cut short");
	}
	return 1;
}

static int echo(void)
{
	struct boundary_writer writer = { 0 };
	struct sample sample;

	while (read_sample(&sample)) {
		if (again(&sample, sample.shape, &writer)) {
			die("a frame of the other side is damaged");
		}
		if (fwrite(writer.bytes, 1, writer.used, stdout) != writer.used) {
			die("cannot write");
		}
		free(sample.shape);
		free(sample.frame);
	}
	boundary_free(&writer);
	return fflush(stdout) ? 1 : 0;
}

static uint64_t state; /* of a xorshift generator */

static uint32_t below(uint32_t limit)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (uint32_t) (state >> 16) % limit;
}

/* Damages bytes of a frame, and usually corrects the length, because otherwise few frames pass the check of
 * the head. */
static void damage(struct sample *copy)
{
	static const uint32_t values[] = { 0, 1, 2, 4, 7, 255, 256, 65535, 0x7fffffff, 0x80000000, 0xfffffffe, UINT32_MAX };
	uint32_t value;

	for (uint32_t i = below(4); i > 0 && copy->length > 0; i--) {
		size_t at = below((uint32_t) copy->length);

		switch (below(3)) {
		case 0:
			copy->frame[at] = (unsigned char) below(256);
			break;
		case 1:
			copy->frame[at] ^= (unsigned char) (1u << below(8));
			break;
		default:
			value = below(2) ? values[below(sizeof(values) / sizeof(values[0]))] : below((uint32_t) copy->length + 9);
			memcpy(copy->frame + at, &value, copy->length - at < 4 ? copy->length - at : 4);
		}
	}
	if (copy->length >= 4 && below(16)) {
		value = (uint32_t) copy->length - BOUNDARY_UNCOUNTED;
		memcpy(copy->frame, &value, 4);
	}
}

/* A head is accepted if and only if its length and flags are valid. */
static void check_head(void)
{
	static const uint32_t lengths[] = { 0, 11, 12, 13, BOUNDARY_FRAME_MAX, BOUNDARY_FRAME_MAX + 1, BOUNDARY_MESSAGES_MAX,
		BOUNDARY_MESSAGES_MAX + 1, UINT32_MAX };
	static const uint16_t kinds[] = { 0, BOUNDARY_NEXT, BOUNDARY_RUN, UINT16_MAX };
	uint32_t length = below(4) ? lengths[below(sizeof(lengths) / sizeof(lengths[0]))] : below(UINT32_MAX);
	uint16_t rest[2] = { kinds[below(4)], (uint16_t) (below(4) ? below(3) : below(65536)) };
	size_t most = rest[0] == BOUNDARY_NEXT && rest[1] == BOUNDARY_ANSWER ? BOUNDARY_MESSAGES_MAX : BOUNDARY_FRAME_MAX;
	struct boundary_head head;
	unsigned char bytes[BOUNDARY_HEAD_SIZE] = { 0 };
	int accepted;

	memcpy(bytes, &length, 4);
	memcpy(bytes + 4, rest, 4);
	accepted = !boundary_parse_head(bytes, &head);
	if (accepted != (length >= 12 && length <= most && rest[1] <= 1) || head.length != (accepted ? length - 12 : 0)) {
		die("a head is accepted that is not one of a frame, or refused that is");
	}
}

static int fuzz(uint64_t seed, unsigned long rounds)
{
	struct boundary_writer writer = { 0 };
	struct sample samples[1024];
	uint32_t count = 0;
	unsigned long accepted = 0;

	state = seed | 1;
	while (count < 1024 && read_sample(&samples[count])) {
		count++;
	}
	for (unsigned long round = 0; count && round < rounds; round++) {
		const struct sample *sample = &samples[below(count)];
		/* Full length, truncated, or longer; in a block of exactly this size, so the sanitizer sees every
		 * byte beyond the end. */
		size_t length = below(4) ? sample->length : below(2) ? below((uint32_t) sample->length + 1) : sample->length + below(9);
		struct sample copy = { .frame = allocate(length), .length = length };

		check_head();
		memset(copy.frame, (int) below(256), length);
		memcpy(copy.frame, sample->frame, length < sample->length ? length : sample->length);
		damage(&copy);
		if (!again(&copy, below(8) ? sample->shape : samples[below(count)].shape, &writer)) {
			accepted++;
			if (writer.used != copy.length || memcmp(writer.bytes, copy.frame, copy.length)) {
				die("an accepted frame is encoded differently");
			}
		}
		free(copy.frame);
	}
	for (uint32_t i = 0; i < count; i++) {
		free(samples[i].shape);
		free(samples[i].frame);
	}
	boundary_free(&writer);
	printf("%lu of %lu accepted\n", accepted, rounds);
	return accepted == 0 || accepted == rounds; /* otherwise all or none were damaged */
}

int main(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], "echo")) {
		return echo();
	}
	if (argc == 4 && !strcmp(argv[1], "fuzz")) {
		return fuzz(strtoull(argv[2], NULL, 0), strtoul(argv[3], NULL, 0));
	}
	fprintf(stderr, "walk echo | fuzz SEED ROUNDS\n");
	return 2;
}
