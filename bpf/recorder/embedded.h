/* SPDX-License-Identifier: Apache-2.0 */
/* The BPF objects that tools/build_bpf.sh has made for this machine, one for each transport, so
 * that this one file is all that a board needs. */
#ifndef PROFINFER_EMBEDDED_H
#define PROFINFER_EMBEDDED_H

#include <stdbool.h>
#include <stddef.h>

/* The object of a transport, unpacked; its size is in `size`. EXIT_KERNEL when it cannot be. */
void *embedded_object(bool by_perf, size_t *size);

#endif
