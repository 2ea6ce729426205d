/* SPDX-License-Identifier: Apache-2.0 */
/* Who manages a process: what /proc/PID/cgroup tells of its container and systemd unit. Pure: text
 * in, text out. */
#ifndef PROFINFER_CGROUP_H
#define PROFINFER_CGROUP_H

/* Each in memory of its own; 0 where nothing tells. */
struct cgroup {
  char *path;      /* as seen from our own cgroup namespace: it may begin with "/.." */
  char *container; /* the innermost one's id, 64 hexadecimal digits */
  char *pod;       /* the uid of Kubernetes's */
  char *unit;      /* the innermost service or scope */
};

/* The whole file's text, of cgroup v1, v2 or both. */
struct cgroup cgroup_parse(const char *text);

void cgroup_free(struct cgroup *cgroup);

#endif
