/* SPDX-License-Identifier: Apache-2.0 */
#include "hit_pairs.h"

#include <stddef.h>
#include <stdlib.h>
#include <time.h>

#define HITS 8    /* of a block */
#define ROUND 32  /* pairs until the interval is looked at again */
#define MOST 1024 /* pairs */
#define LIMIT_NS 80000000
#define NARROW 0.04 /* of the cost, to either side; or these ns: the clock's own two readings */
#define NARROW_NS 8
#define LINE 64
#define BYTES (1 << 18) /* more than the nearest cache has */
#define STEP (1 << 15)  /* bytes between two hits: a microsecond or some */

static volatile unsigned char memory[BYTES];

static uint64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

__attribute__((noinline, noclone)) static void nothing(void) { __asm__ volatile(""); }

/* Never inlined: blocks with hits and without are the same code. */
__attribute__((noinline, noclone)) uint64_t hits_among_work(void (*function)(void), int hits) {
  uint64_t start = now();
  size_t at = 0;
  for (int i = 0; i < hits; i++) {
    function();
    for (size_t end = at + STEP; at < end; at += LINE)
      memory[at % BYTES]++;
  }
  return now() - start;
}

static int by_size(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

/* By ranks: what else the machine does makes some pairs wrong by any amount. */
static struct hit_pairs median(double *differences, int count) {
  qsort(differences, (size_t)count, sizeof(*differences), by_size);
  int aside = 0, middle = count / 2;
  while (aside * aside < count) /* 95 % are within 0.98 times the root of their number */
    aside++;
  struct hit_pairs found = {
      .ns = (differences[middle - 1] + differences[middle]) / 2,
      .low = differences[middle - aside],
      .high = differences[middle + aside - 1],
  };
  double wide = NARROW * found.ns > NARROW_NS ? NARROW * found.ns : NARROW_NS;
  found.is_settled = found.high - found.low <= 2 * wide;
  return found;
}

struct hit_pairs hit_pairs(void (*function)(void)) {
  static double differences[MOST];
  struct hit_pairs found = {0};
  uint64_t end = now() + LIMIT_NS;
  hits_among_work(nothing, HITS);
  for (int count = 0; count < MOST && !found.is_settled && (!count || now() < end);) {
    for (int i = 0; i < ROUND; i++, count++) {
      /* By turns also which is the first. */
      double first = (double)hits_among_work(i % 2 ? nothing : function, HITS);
      double second = (double)hits_among_work(i % 2 ? function : nothing, HITS);
      differences[count] = (i % 2 ? second - first : first - second) / HITS;
    }
    found = median(differences, count);
  }
  return found;
}
