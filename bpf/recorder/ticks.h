/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The processor's own counter as a clock: what stubs read in the place of a system call (audit/).
 * How it goes beside CLOCK_BOOTTIME is looked at in pairs, at every drain; between two of them it
 * is taken to go evenly.
 */
#ifndef PROFINFER_TICKS_H
#define PROFINFER_TICKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tick_pair {
  uint64_t ticks, boot; /* boot in ns */
  uint64_t around;      /* ticks between the looks at the counter before that clock and after */
};

#define TICK_PAIRS 64

struct ticks {
  struct tick_pair pairs[TICK_PAIRS]; /* the newest ones, in order */
  size_t count;
  double worst; /* ns by which a time may be wrong, so far */
};

/* Why no time can be made of the counter here; 0 where it can. It looks at every CPU that it may
 * run on. */
const char *ticks_problem(void);

/* Both clocks now. */
struct tick_pair ticks_look(void);

/* One more pair, which goes beyond those before: another one is passed over. */
void ticks_add(struct ticks *ticks, struct tick_pair pair);

/* When the counter stood so, in CLOCK_BOOTTIME; false before the first pair that is kept and after
 * the last one. */
bool ticks_boot(const struct ticks *ticks, uint64_t counter, uint64_t *boot);

#endif
