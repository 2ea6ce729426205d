/* SPDX-License-Identifier: Apache-2.0 */
/* The family of a launched command, in a map that bpf/launch.h keeps. */
#ifndef PROFINFER_FAMILY_H
#define PROFINFER_FAMILY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* What is known of a member, as in bpf/launch.h. */
#define MEMBER 1
#define HOLDER 2
#define WAITED 4
#define BORN 8

/* Says what is known of a process; of a stranger only if it is to be `new`. Whether that was
 * done. */
bool family_set(int map, pid_t pid, uint32_t what, bool is_new);

/* Members that were forked some time ago and have executed nothing since: most do that at once, and
 * need not be looked at. At most `room`; each is told once. `is_early`: there are others for which
 * it is too early. */
size_t family_born(int map, pid_t *pids, size_t room, bool *is_early);

#endif
