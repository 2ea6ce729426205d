/* SPDX-License-Identifier: Apache-2.0 */
#include "priority.h"

#include <sched.h>
#include <sys/resource.h>

#define NICE 10

void priority_give_way(bool is_hurried) {
  static int usual = -1, nice = 0, as_is = -1;
  struct sched_param none = {0};
  if (is_hurried == as_is)
    return;
  as_is = is_hurried;
  if (usual < 0) {
    usual = sched_getscheduler(0);
    nice = getpriority(PRIO_PROCESS, 0);
  }
  if (usual != SCHED_OTHER)
    return; /* whoever chose another knows better */
  setpriority(PRIO_PROCESS, 0, is_hurried || nice > NICE ? nice : NICE);
  sched_setscheduler(0, is_hurried ? SCHED_OTHER : SCHED_BATCH, &none);
}
