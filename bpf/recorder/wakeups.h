/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Being woken by a BPF program: it sends to a perf buffer, of which nobody reads more than that
 * something was sent. So the buffer need not have room: what is old is overwritten.
 */
#ifndef PROFINFER_WAKEUPS_H
#define PROFINFER_WAKEUPS_H

/* Makes the buffers of a map of perf events, for each CPU that is there, and adds them to an
 * epoll. EXIT_KERNEL. */
void wakeups_open(int map, unsigned cpus, int epoll);

/* Closes them. */
void wakeups_close(void);

#endif
