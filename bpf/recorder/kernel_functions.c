/* SPDX-License-Identifier: Apache-2.0 */
#include "kernel_functions.h"
#include "failure.h"

#include <linux/bpf.h>
#include <stdlib.h>
#include <string.h>

/* KERNEL_FUNCTION(0) of bpf/libbpf.h. */
#define FIRST 0x10000
#define KERNEL_CALL 2 /* BPF_PSEUDO_KFUNC_CALL (Linux 5.13) */

static bool is_helper_call(const struct bpf_insn *instruction) {
  return instruction->code == (BPF_JMP | BPF_CALL) && !instruction->src_reg;
}

void kernel_functions_set(struct bpf_program *program, const struct source *source) {
  size_t count = bpf_program__insn_cnt(program);
  struct bpf_insn *code = allocate(count, sizeof(*code));
  memcpy(code, bpf_program__insns(program), count * sizeof(*code));
  for (size_t i = 0; i < count; i++) {
    int64_t function = (int64_t)code[i].imm - FIRST;
    if (!is_helper_call(&code[i]) || function < 0 || function >= (int64_t)source->function_count)
      continue;
    code[i].src_reg = KERNEL_CALL;
    code[i].imm = source->functions[function];
  }
  if (bpf_program__set_insns(program, code, count))
    fail(EXIT_KERNEL, "", "out of memory");
  free(code);
}
