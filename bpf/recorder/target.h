/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The target: a process, looked at through one descriptor of its folder in /proc, so that a PID
 * that is given to another process meanwhile cannot mislead. Names and paths are the target's own
 * and not to be trusted; what is returned as text is valid UTF-8.
 */
#ifndef PROFINFER_TARGET_H
#define PROFINFER_TARGET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

struct target {
  pid_t pid;
  int folder; /* /proc/PID */
  int pidfd;  /* readable once it has ended; -1 where the kernel has no such thing */
};

/* One executable mapping of a file. */
struct mapping {
  uint64_t start, end, offset;
  uint64_t inode;
  char device[16];
  char *path; /* as the target sees it; display only */
};

/* EXIT_TARGET when there is no such process, or it is one thread of another. */
struct target target_open(pid_t pid);

/* The same, but whether there is one to be looked at; `target_close` lets go of it. */
bool target_try(pid_t pid, struct target *target);
void target_close(struct target *target);

/* Whether all of its threads have ended. */
bool target_has_ended(const struct target *target);

/* The name of a thread, or of the process (0), in memory of its own; 0 when it has ended. */
char *target_name(const struct target *target, pid_t thread);

/* A file of /proc/PID, whole, with a NUL behind it; 0 when it cannot be read. */
char *target_read(const struct target *target, const char *name, size_t *length);

/* Its executable mappings of files in order of address; EXIT_TARGET when it has ended. */
struct mapping *target_mappings(const struct target *target, size_t *count);

/* The same, but none when it has ended, or they cannot be read. */
struct mapping *target_try_mappings(const struct target *target, size_t *count);

/* Lets go of them. */
void mappings_free(struct mapping *mappings, size_t count);

/* What stat says of the file that is mapped there; false when it says nothing. */
bool target_stat_mapped(const struct target *target, const struct mapping *mapping,
                        struct stat *status);

/* Opens the file that is mapped there; -1 when it cannot. */
int target_open_mapped(const struct target *target, const struct mapping *mapping);

/* Bytes as valid UTF-8 in memory of its own: U+FFFD takes the place of what is not. */
char *utf8(const char *bytes, size_t length);

#endif
