/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* The BCC dialect of launch.h. */
#include "launch.h"
#include <uapi/linux/ptrace.h>

BPF_TABLE("lru_hash", u32, u32, family, 65536);
BPF_HASH(held, u32, u64, 1024);
BPF_TABLE("lru_hash", u32, struct work, works, 1024);
BPF_PERF_OUTPUT(stops);

BODY u32 family_find(u32 pid) {
  u32 *what = family.lookup(&pid);
  return what ? *what : 0;
}

BODY void family_set(u32 pid, u32 what) { family.update(&pid, &what); }

BODY void family_delete(__u32 pid) { family.delete(&pid); }

BODY long held_add(__u32 pid, __u64 now) { return held.update(&pid, &now); }

BODY void held_delete(__u32 pid) { held.delete(&pid); }

BODY void work_set(__u32 pid, const struct work *work) { works.update(&pid, (struct work *)work); }

BODY long tell_stopped(void *ctx, __u32 pid) { return stops.perf_submit(ctx, &pid, sizeof(pid)); }

/* What that takes BCC does not compile. */
BODY int is_known(void) { return 0; }

BODY int is_known_program(void) { return 0; }

int on_exec(void *ctx) { return stop_after_exec(ctx); }

int on_objects_changed(struct pt_regs *ctx) { return stop_loaded(ctx); }

int on_work(struct pt_regs *ctx) {
  return stop_at_work(ctx, PT_REGS_PARM1(ctx), PT_REGS_PARM2(ctx));
}

int on_graph(struct pt_regs *ctx) { return see_work(PT_REGS_PARM1(ctx), PT_REGS_PARM2(ctx)); }

int on_fork(void *ctx) { return follow_fork(ctx); }

int on_fork_inside(void *ctx) { return follow_fork_inside(ctx); }

int on_start(struct pt_regs *ctx) { return stop_born(ctx); }

int on_exit(void *ctx) { return leave_family(ctx); }
