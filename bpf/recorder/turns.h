/* SPDX-License-Identifier: Apache-2.0 */
/* On and off in turn, to see what recording costs: when, and when it was which. It decides; time
 * is told to it. */
#ifndef PROFINFER_TURNS_H
#define PROFINFER_TURNS_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>

struct turns {
  double each, next;  /* seconds; 0: it is on all the time */
  bool is_off;        /* at present */
  json_object *times; /* BOOTTIME ns: [it was on until, it was off from, until, on from], ... */
};

struct turns turns_begin(double each, double now);

/* Seconds that may be slept, at most `nap`. */
double turns_nap(const struct turns *turns, double now, double nap);

bool turns_is_due(const struct turns *turns, double now);

/* It was as it was until `until`, and is the other from `from` on, which is `now`. */
void turns_took(struct turns *turns, uint64_t until, uint64_t from, double now);

#endif
