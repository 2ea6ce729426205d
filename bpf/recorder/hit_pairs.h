/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a hit costs among work: between operators the kernel's code and what it needs have left the
 * caches, and what the hit puts there in the work's place has to come back. So blocks of work with
 * hits and without are timed in turn, and compared in pairs.
 */
#ifndef PROFINFER_HIT_PAIRS_H
#define PROFINFER_HIT_PAIRS_H

#include <stdbool.h>
#include <stdint.h>

struct hit_pairs {
  double ns;        /* a hit: the median of the pairs */
  double low, high; /* within which it is with 95 % */
  bool is_settled;  /* the interval is narrow; else the machine was busy for too long */
};

/* Of a function that is probed. Goes on while the interval is wide, for tens of ms at most. */
struct hit_pairs hit_pairs(void (*function)(void));

/* ns that so many calls among work take, the work with them. */
uint64_t hits_among_work(void (*function)(void), int hits);

#endif
