/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROFINFER_CLOCKS_H
#define PROFINFER_CLOCKS_H

#include <time.h>

/* A clock in seconds. */
static inline double clock_s(clockid_t clock) {
  struct timespec now;
  clock_gettime(clock, &now);
  return now.tv_sec + now.tv_nsec / 1e9;
}

#endif
