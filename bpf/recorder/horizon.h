/* SPDX-License-Identifier: Apache-2.0 */
/* Up to when the past is complete: everything older has been taken out of the rings. */
#ifndef PROFINFER_HORIZON_H
#define PROFINFER_HORIZON_H

#include <stdint.h>

/* A handler may be interrupted between taking its slot and the time: longer than that is seen as an
 * unfinished slot, which stops the drain. */
#define HOLD_NS 1000000

/* What a drain has seen of the ring of one CPU: all that had been begun by then; or a record was
 * not finished, which had been begun after the drain before it, or earlier. */
enum seen { SEEN_ALL, SEEN_UNTIL_NEW, SEEN_UNTIL_OLD };

struct look {
  uint64_t newest; /* of its records; 0 where it took none */
  enum seen seen;
};

/* How far it is. */
struct horizon {
  uint64_t at;
  uint64_t limit; /* of the drain before */
};

/* After a drain, which is not to go beyond `limit`: of what begins after the call that gave the
 * limit nothing is older. */
void horizon_move(struct horizon *horizon, uint64_t limit, const struct look *looks, unsigned cpus);

#endif
