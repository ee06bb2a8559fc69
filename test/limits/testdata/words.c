/*
 * Prints the sentences of boundary/kernel_limits.h about threads and memory.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#include <errno.h>
#include <stdio.h>

#include "boundary/kernel_limits.h"

int main(void)
{
	char text[LIMITS_WORDS];

	puts(limits_words(EAGAIN, NULL, text, sizeof(text)));
	puts(limits_memory_words(text, sizeof(text)));
	printf("%llu kills\n", (unsigned long long) limits_kills());
	return 0;
}
