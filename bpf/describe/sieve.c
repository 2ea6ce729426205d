/* SPDX-License-Identifier: Apache-2.0 */
#include "sieve.h"
#include "description.h"

#include <stdio.h>
#include <string.h>

/* How many of the candidates a note tells. */
#define TOLD 6

void sieve_begin(struct sieve *sieve, size_t size, size_t step) {
  *sieve = (struct sieve){.size = size, .step = step};
}

void sieve_bytes(struct sieve *sieve, const void *raw, const void *wanted, size_t length) {
  for (size_t at = 0; at < sieve->size; at += sieve->step)
    if (at + length > sieve->size || memcmp((const char *)raw + at, wanted, length))
      sieve->is_out[at] = true;
}

void sieve_integer(struct sieve *sieve, const void *raw, uint64_t wanted) {
  /* Both processors are little-endian. */
  sieve_bytes(sieve, raw, &wanted, sieve->step);
}

long sieve_only(const struct sieve *sieve, const char *what) {
  char text[TOLD * 8] = "";
  size_t count = 0, length = 0, only = 0;
  for (size_t at = 0; at < sieve->size; at += sieve->step) {
    if (sieve->is_out[at])
      continue;
    only = at;
    if (count++ < TOLD)
      length += snprintf(text + length, sizeof(text) - length, "%s%zu", length ? ", " : "", at);
  }
  if (count == 1)
    return only;
  if (count)
    note("%s: found at [%s]", what, text);
  else
    note("%s: not found by experiment", what);
  return ABSENT;
}
