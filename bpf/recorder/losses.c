/* SPDX-License-Identifier: Apache-2.0 */
#include "losses.h"
#include "failure.h"

#include <string.h>

size_t losses_room(const struct losses *losses) { return (size_t)losses->cpus * losses->kinds; }

struct losses losses_begin(unsigned cpus, unsigned first_kind, unsigned kinds,
                           const struct loss *now, uint64_t read_at) {
  struct losses losses = {
      .cpus = cpus, .first_kind = first_kind, .kinds = kinds, .read_at = read_at};
  size_t room = losses_room(&losses);
  losses.first = allocate(room, sizeof(*now));
  losses.last = allocate(room, sizeof(*now));
  memcpy(losses.first, now, room * sizeof(*now));
  memcpy(losses.last, now, room * sizeof(*now));
  return losses;
}

/* Nobody else takes records out: once a ring was full it stayed full until it was drained, so
 * everything drained from it is older than the losses. */
size_t losses_take(struct losses *losses, const struct loss *now, uint64_t time,
                   const struct look *looks, struct loss_entry *entries) {
  size_t room = losses_room(losses), count = 0;
  for (size_t i = 0; i < room; i++) {
    unsigned cpu = i / losses->kinds, kind = losses->first_kind + i % losses->kinds;
    if (now[i].lost <= losses->last[i].lost)
      continue;
    uint64_t since = losses->read_at;
    if (!is_wide(kind) && looks[cpu].newest > since)
      since = looks[cpu].newest;
    if (since > now[i].last_ts)
      since = now[i].last_ts;
    uint64_t lost = now[i].lost - losses->first[i].lost;
    entries[count++] = (struct loss_entry){cpu, kind, lost, since, now[i].last_ts};
  }
  memcpy(losses->last, now, room * sizeof(*now));
  losses->read_at = time;
  return count;
}

uint64_t losses_of(const struct losses *losses, unsigned kind) {
  uint64_t lost = 0;
  for (unsigned cpu = 0; cpu < losses->cpus; cpu++) {
    size_t i = (size_t)cpu * losses->kinds + kind - losses->first_kind;
    lost += losses->last[i].lost - losses->first[i].lost;
  }
  return lost;
}

uint64_t losses_total(const struct losses *losses) {
  uint64_t lost = 0;
  for (unsigned kind = 0; kind < losses->kinds; kind++)
    lost += losses_of(losses, losses->first_kind + kind);
  return lost;
}
