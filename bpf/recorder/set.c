/* SPDX-License-Identifier: Apache-2.0 */
#include "set.h"
#include "failure.h"

#include <stdlib.h>

static uint64_t *slot_of(const struct set *set, uint64_t number) {
  size_t at = number * 0x9E3779B97F4A7C15ull >> 32;
  while (set->slots[at & (set->size - 1)] && set->slots[at & (set->size - 1)] != number)
    at++;
  return &set->slots[at & (set->size - 1)];
}

static void grow(struct set *set) {
  struct set larger = {.size = set->size ? 2 * set->size : 64, .count = set->count};
  larger.slots = allocate(larger.size, sizeof(*larger.slots));
  for (size_t i = 0; i < set->size; i++)
    if (set->slots[i])
      *slot_of(&larger, set->slots[i]) = set->slots[i];
  free(set->slots);
  *set = larger;
}

bool set_add(struct set *set, uint64_t number) {
  if (2 * set->count >= set->size)
    grow(set);
  uint64_t *slot = slot_of(set, number);
  if (*slot == number)
    return false;
  *slot = number;
  set->count++;
  return true;
}
