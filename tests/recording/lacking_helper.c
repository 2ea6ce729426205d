/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Preloaded into a recorder, it stands for a kernel that lacks what BPF programs may call:
 * LACKING_HELPER is its number. With LACKING_SHORT only tries are refused: where a helper is not
 * used the others have it as dead code.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <linux/bpf.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/syscall.h>

#define SHORT 8 /* instructions of a try */

static int asks_for_it(const union bpf_attr *attr) {
  const struct bpf_insn *code = (const struct bpf_insn *)attr->insns;
  const char *lacking = getenv("LACKING_HELPER");
  if (!lacking || (getenv("LACKING_SHORT") && attr->insn_cnt > SHORT))
    return 0;
  for (unsigned i = 0; i < attr->insn_cnt; i++)
    if (code[i].code == (BPF_JMP | BPF_CALL) && !code[i].src_reg && code[i].imm == atoi(lacking))
      return 1;
  return 0;
}

long syscall(long number, ...) {
  typedef long syscall_fn(long number, ...);
  va_list arguments;
  long given[6];
  va_start(arguments, number);
  for (int i = 0; i < 6; i++)
    given[i] = va_arg(arguments, long);
  va_end(arguments);
  if (number == SYS_bpf && given[0] == BPF_PROG_LOAD &&
      asks_for_it((const union bpf_attr *)given[1])) {
    errno = EINVAL;
    return -1;
  }
  syscall_fn *real = (syscall_fn *)dlsym(RTLD_NEXT, "syscall");
  return real(number, given[0], given[1], given[2], given[3], given[4], given[5]);
}
