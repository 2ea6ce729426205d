/* SPDX-License-Identifier: Apache-2.0 */
/* The parser of the kernel's types, which are the kernel's word and not taken for granted. */
#include "btf.h"
#include "fuzz.h"
#include "kernel_types.h"

void fuzz_one(const uint8_t *data, size_t size) {
  struct btf_types types;
  struct kernel_types found;
  if (!btf_open(&types, data, size)) {
    btf_offset(&types, "a", "b", "c");
    btf_offset(&types, "task_struct", "pid", 0);
    btf_tracepoint_arguments(&types, "sched_switch");
  }
  btf_close(&types);
  kernel_types_find(data, size, &found);
  fuzz_look_at_text(found.problem);
}
