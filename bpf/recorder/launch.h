/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Launching a command so that probes are in place before an engine's first instruction runs: it
 * and its descendants are stopped (SIGSTOP, by bpf/launch.h) after each exec and whenever their
 * dynamic loader has changed the list of objects. Whoever is told of such a process looks at it,
 * attaches what is to be attached, and lets it go on.
 */
#ifndef PROFINFER_LAUNCH_H
#define PROFINFER_LAUNCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "graph_look.h"
#include "source.h"

struct launch_request {
  char **argv;       /* 0 at the end */
  const char *audit; /* what LD_AUDIT is to be, our library last; "" leaves it as it is */
  bool has_user;     /* another one's */
  uid_t uid;
  gid_t gid;
  gid_t *groups;
  size_t group_count;
};

/* What is to be loaded; `looks_at_files`: so that who has mapped nothing but known_files.h is not
 * stopped, where the kernel can tell. EXIT_KERNEL where this kernel lacks a tracepoint. */
struct source launch_source(bool looks_at_files);

/* Loads what it takes and starts the guard (guard.h). EXIT_KERNEL where this kernel lacks a
 * tracepoint. */
void launch_open(void);

/* Starts a command: our child, in our process group, with our standard streams. Its PID;
 * EXIT_TARGET when it cannot be run. */
pid_t launch_start(const struct launch_request *request);

/* Readable when a process has been stopped: then launch_take. */
int launch_fd(void);

/* Those that have been stopped and stand still now, at most `room`; each is told once. */
size_t launch_take(pid_t *pids, size_t room);

/* Lets a stopped process go on; any other is left alone. */
void launch_go(pid_t pid);

/* Has a process stopped when it enters one of these places of a file, too: there its engine begins
 * to work. What it forks holds that engine, too: where it is not stopped when it begins, the places
 * are watched `everywhere`, at the price of a hit for strangers that run the same file. */
void launch_watch_work(pid_t pid, bool everywhere, int file, const uint64_t *offsets, size_t count);

/* Why a process that has been told of stands: the bits of held.h. */
unsigned launch_why(pid_t pid);

/* Where that is because it is about to work: with which arguments. */
bool launch_work(pid_t pid, struct work *work);

/* A process is recorded, or not to be: it is not stopped any more when it works. */
void launch_settle(pid_t pid);

/* Processes that run already, and what they start, belong to the family from now on. */
void launch_follow(pid_t pid);

/* Whether processes that one with an engine forks are stopped when they begin: this kernel may not
 * be able to. */
bool launch_sees_forks(void);

/* Watches only this one from now on; all others that are stopped go on. */
void launch_keep(pid_t pid);

/* Watches nobody any more; everybody goes on. */
void launch_close(void);

/* In a forked child, first of all: closes what would keep others stopped, or our programs loaded.
 */
void launch_leave(void);

#endif
