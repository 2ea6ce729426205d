/* SPDX-License-Identifier: Apache-2.0 */
/* The offsets of a struct at which a field may be: those at which every sample has its value. */
#ifndef PROFINFER_SIEVE_H
#define PROFINFER_SIEVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STRUCT_MAX 4096

struct sieve {
  size_t size, step;
  bool is_out[STRUCT_MAX];
};

/* All multiples of `step` in a struct of that size. */
void sieve_begin(struct sieve *sieve, size_t size, size_t step);

/* Leaves those at which the struct `raw` has these bytes. */
void sieve_bytes(struct sieve *sieve, const void *raw, const void *wanted, size_t length);

/* Leaves those at which it has that integer, of `step` bytes. */
void sieve_integer(struct sieve *sieve, const void *raw, uint64_t wanted);

/* The only offset left, or ABSENT with a note. */
long sieve_only(const struct sieve *sieve, const char *what);

#endif
