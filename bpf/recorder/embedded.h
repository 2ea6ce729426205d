/* SPDX-License-Identifier: Apache-2.0 */
/* The BPF objects that tools/build_bpf.sh has made for this machine, one for each transport, so
 * that this one file is all that a board needs. */
#ifndef PROFINFER_EMBEDDED_H
#define PROFINFER_EMBEDDED_H

extern const char embedded_ring[], embedded_ring_end[];
extern const char embedded_perf[], embedded_perf_end[];

#endif
