/* SPDX-License-Identifier: Apache-2.0 */
/* The family of a launched command, in a map that bpf/launch.h keeps. */
#ifndef PROFINFER_FAMILY_H
#define PROFINFER_FAMILY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* What is known of a member, as in bpf/launch.h. */
#define MEMBER 1
#define HOLDER 2
#define WAITED 4
#define UNTOLD 32

/* Says what is known of a process; of a stranger only if it is to be `new`. Whether that was
 * done. */
bool family_set(int map, pid_t pid, uint32_t what, bool is_new);

/* Nobody belongs to it any more but this one. */
void family_leave_but(int map, pid_t pid);

#endif
