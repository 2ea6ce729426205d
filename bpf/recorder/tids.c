/* SPDX-License-Identifier: Apache-2.0 */
#include "tids.h"
#include "failure.h"

/* No kernel gives out higher ones (PID_MAX_LIMIT). What was never written to takes no memory. */
#define MOST (1u << 22)

struct tids tids_begin(void) {
  return (struct tids){allocate(MOST / 8, 1)};
}

bool tids_have(const struct tids *tids, uint32_t tid) {
  return tid >= MOST || tids->bits[tid / 8] >> tid % 8 & 1;
}

bool tids_add(struct tids *tids, uint32_t tid) {
  bool is_new = !tids_have(tids, tid);
  if (is_new)
    tids->bits[tid / 8] |= 1 << tid % 8;
  return is_new;
}
