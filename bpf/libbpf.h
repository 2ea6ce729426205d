/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* What the programs of the libbpf dialect share: helpers, parameters, and a probe's registers. */
#ifndef PROFINFER_LIBBPF_H
#define PROFINFER_LIBBPF_H

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

/* Whether this dialect can have the kernel call a function again and again. */
#define HAS_LOOPS 1

/* Read-only data, set before loading. */
#define PARAMETER(name) const volatile __s32 name;

/* A function of the kernel's own: its number there, which user space puts in the place of this one
 * before loading. Where the kernel has no such function, calls of it must be dead. */
#define KERNEL_FUNCTION(n) ((void *)(0x10000 + (n)))

/* The registers at a probe as the kernel shows them to BPF: a stable interface (x86-64: struct
 * pt_regs, arm64: struct user_pt_regs of the UAPI), of which arguments and results are used, and
 * the stack pointer. */
struct registers {
  __u64 word[36];
};

#if defined(__TARGET_ARCH_x86)
/* di, si, dx, cx stand in a row, downwards; then, further down, r8 and r9. */
#define ARGUMENT(r, n) ((r)->word[(n) < 5 ? 15 - (n) : 14 - (n)])
#define RESULT(r) ((r)->word[10])
#define STACK(r) ((r)->word[19])
/* struct bpf_perf_event_data of the UAPI: the registers (x86-64: 21 of them), the period of the
 * sample, the address. */
#define FAULT_ADDRESS(r) ((r)->word[21 + 1])
/* x86 keeps stores in order. */
#define STORES_IN_ORDER 1
#elif defined(__TARGET_ARCH_arm64)
#define ARGUMENT(r, n) ((r)->word[(n)-1])
#define RESULT(r) ((r)->word[0])
#define STACK(r) ((r)->word[31])
/* 31 registers, sp, pc, pstate; then as above. */
#define FAULT_ADDRESS(r) ((r)->word[34 + 1])
#else
#error "this architecture's arguments are not known yet"
#endif

char LICENSE[] SEC("license") = "GPL";

#endif
