/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Functions of our own to be probed at their first byte: one per kind of instruction that
 * profinfer/binaries/sites.py tells apart, to see what a probe there costs.
 */
#ifndef PROFINFER_HIT_SITES_H
#define PROFINFER_HIT_SITES_H

#include <stddef.h>
#include <stdint.h>

struct hit_site {
  const char *kind;
  void (*function)(void);
};
extern const struct hit_site hit_sites[];
extern const size_t hit_site_count;

/* The one that every kernel takes: its instruction is executed out of line. */
extern void hit_stepped(void);

/* Nanoseconds that n calls of a function take. */
uint64_t hit_loop(void (*function)(void), uint64_t n);

/* The offset of a function in the file that it was loaded from; 0 for one that was not. */
uint64_t hit_offset(void (*function)(void));

#endif
