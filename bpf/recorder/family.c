/* SPDX-License-Identifier: Apache-2.0 */
#include "family.h"

#include <bpf/bpf.h>

bool family_set(int map, pid_t pid, uint32_t what, bool is_new) {
  return !bpf_map_update_elem(map, &(uint32_t){pid}, &what, is_new ? BPF_ANY : BPF_EXIST);
}

void family_leave_but(int map, pid_t pid) {
  uint32_t kept = pid, next, *at = 0;
  while (!bpf_map_get_next_key(map, at, &next))
    if (next == kept)
      at = &kept;
    else
      bpf_map_delete_elem(map, &next);
}
