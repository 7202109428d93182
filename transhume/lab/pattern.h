/* The bytes of every checked connection: PERIOD bytes of a linear congruential generator, repeated.
 *
 * The byte at offset i of a connection is pattern[i % PERIOD]. PERIOD is prime, so that lost or doubled segments of
 * any usual size show.
 */
#include <stdint.h>

enum { PERIOD = 65521 };
static unsigned char pattern[2 * PERIOD]; /* twice, so that any PERIOD bytes of it are contiguous */

static void make_pattern(void) {
  uint32_t x = 1;
  for (int i = 0; i < PERIOD; i++) {
    x = x * 1103515245u + 12345u;
    pattern[i] = pattern[i + PERIOD] = (unsigned char)(x >> 16);
  }
}
