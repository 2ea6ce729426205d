/* SPDX-License-Identifier: Apache-2.0 */
#include "run_stats.h"

#include <bpf/bpf.h>
#include <unistd.h>

static int counting = -1; /* counting ends with it */

void run_stats_set(bool is_wanted) {
  if (is_wanted && counting < 0)
    counting = bpf_enable_stats(BPF_STATS_RUN_TIME);
  if (!is_wanted && counting >= 0) {
    close(counting);
    counting = -1;
  }
}
