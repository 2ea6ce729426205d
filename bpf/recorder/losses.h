/* SPDX-License-Identifier: Apache-2.0 */
/* What did not fit into the rings: programs count it by CPU and kind, and this says when it was. */
#ifndef PROFINFER_LOSSES_H
#define PROFINFER_LOSSES_H

#include <linux/types.h>
#include <stddef.h>

#include "../records.h"
#include "capture.h"
#include "horizon.h"

struct losses {
  unsigned cpus, first_kind, kinds;
  struct loss *first; /* by CPU and kind, as they stood in the beginning */
  struct loss *last;  /* as last read */
  uint64_t read_at;   /* when that was */
};

/* Kinds are numbered from `first_kind` on. `now`: what stands there. */
struct losses losses_begin(unsigned cpus, unsigned first_kind, unsigned kinds,
                           const struct loss *now, uint64_t read_at);

/* Takes what stands there now, at `time`, after a drain that has seen `looks`. Makes an entry of
 * each that has grown, and returns how many; there is room for losses_room(). */
size_t losses_take(struct losses *losses, const struct loss *now, uint64_t time,
                   const struct look *looks, struct loss_entry *entries);
size_t losses_room(const struct losses *losses);

/* So far: of one kind, and of all. */
uint64_t losses_of(const struct losses *losses, unsigned kind);
uint64_t losses_total(const struct losses *losses);

#endif
