/* SPDX-License-Identifier: Apache-2.0 */
/* The BPF objects that tools/build_bpf.sh has made for this machine, so that this one file is all
 * that a board needs. */
#ifndef PROFINFER_EMBEDDED_H
#define PROFINFER_EMBEDDED_H

#include <stdbool.h>
#include <stddef.h>

/* The object of a source ("profinfer", "scheduler" or "launch") for a transport, unpacked; its size
 * is in `size`. One that has no transport is the same for both. EXIT_KERNEL when it cannot be. */
void *embedded_object(const char *name, bool by_perf, size_t *size);

#endif
