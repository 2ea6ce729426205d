/* SPDX-License-Identifier: Apache-2.0 */
#include "horizon.h"

/* A handler takes its slot first and the time after: what was begun after the drain before is
 * younger than that one's limit. Of other orders nothing is known: handlers interrupt each other.
 */
void horizon_move(struct horizon *horizon, uint64_t limit, const struct look *looks,
                  unsigned cpus) {
  uint64_t until = limit;
  for (unsigned cpu = 0; cpu < cpus; cpu++) {
    if (looks[cpu].seen == SEEN_UNTIL_NEW && horizon->limit < until)
      until = horizon->limit;
    if (looks[cpu].seen == SEEN_UNTIL_OLD)
      until = 0;
  }
  horizon->limit = limit;
  if (until > horizon->at)
    horizon->at = until;
}
