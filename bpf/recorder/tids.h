/* SPDX-License-Identifier: Apache-2.0 */
/* A set of thread ids, a bit for each that there can be: however many threads come and go, it does
 * not grow. */
#ifndef PROFINFER_TIDS_H
#define PROFINFER_TIDS_H

#include <stdbool.h>
#include <stdint.h>

struct tids {
  unsigned char *bits;
};

struct tids tids_begin(void);

/* Whether it is in the set; what no thread can have always is. */
bool tids_have(const struct tids *tids, uint32_t tid);

/* Whether it is new; it is in the set from then on. */
bool tids_add(struct tids *tids, uint32_t tid);

#endif
