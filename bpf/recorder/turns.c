/* SPDX-License-Identifier: Apache-2.0 */
#include "turns.h"

struct turns turns_begin(double each, double now) {
  return (struct turns){
      .each = each, .next = now + each, .times = each ? json_object_new_array() : 0};
}

double turns_nap(const struct turns *turns, double now, double nap) {
  return turns->each && turns->next - now < nap ? turns->next - now : nap;
}

bool turns_is_due(const struct turns *turns, double now) {
  return turns->each && now >= turns->next;
}

void turns_took(struct turns *turns, uint64_t until, uint64_t from, double now) {
  json_object_array_add(turns->times, json_object_new_int64((int64_t)until));
  json_object_array_add(turns->times, json_object_new_int64((int64_t)from));
  turns->is_off = !turns->is_off;
  turns->next = now + turns->each;
}
