/* SPDX-License-Identifier: Apache-2.0 */
#include "tids.h"
#include "harness.h"

static void each_is_new_once(void) {
  struct tids tids = tids_begin();
  static const uint32_t some[] = {0, 1, 7, 8, 9, 65535, (1u << 22) - 1};
  for (size_t i = 0; i < sizeof(some) / sizeof(*some); i++) {
    CHECK(!tids_have(&tids, some[i]));
    CHECK(tids_add(&tids, some[i]));
    CHECK(tids_have(&tids, some[i]));
    CHECK(!tids_add(&tids, some[i]));
  }
  CHECK(!tids_have(&tids, 2));
}

static void what_no_thread_can_have_is_never_new(void) {
  struct tids tids = tids_begin();
  CHECK(tids_have(&tids, 1u << 22));
  CHECK(!tids_add(&tids, UINT32_MAX));
}

int main(void) {
  RUN(each_is_new_once);
  RUN(what_no_thread_can_have_is_never_new);
}
