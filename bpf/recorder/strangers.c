/* SPDX-License-Identifier: Apache-2.0 */
#include "strangers.h"
#include "failure.h"

#include <stdlib.h>

struct strangers strangers_begin(void) {
  struct strangers strangers = {.known = tids_begin()};
  strangers_know(&strangers, 0);
  return strangers;
}

void strangers_know(struct strangers *strangers, uint32_t tid) { tids_add(&strangers->known, tid); }

void strangers_meet(struct strangers *strangers, const struct record *records, size_t count) {
  for (const struct record *record = records; record < records + count; record++) {
    if (record->kind == KIND_NEWNAME || record->kind == KIND_RENAME)
      strangers_know(strangers, record->tid);
    if (record->kind != KIND_SWITCH && record->kind != KIND_WAKING)
      continue;
    if (!tids_have(&strangers->known, record->tid))
      set_add(&strangers->met, record->tid);
    if (!tids_have(&strangers->known, (uint32_t)record->a))
      set_add(&strangers->met, (uint32_t)record->a);
  }
}

size_t strangers_take(struct strangers *strangers, uint32_t **tids) {
  struct set *met = &strangers->met;
  size_t count = 0;
  *tids = met->count ? allocate(met->count, sizeof(**tids)) : 0;
  for (size_t i = 0; i < met->size; i++) {
    uint32_t tid = met->slots[i];
    if (tids_add(&strangers->known, tid)) /* else its name came on another CPU */
      (*tids)[count++] = tid;
  }
  free(met->slots);
  *met = (struct set){0};
  return count;
}
