/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a stub does while it is switched on: it takes a slot of its thread's ring, reads the time,
 * writes the record, and goes on to the function. Only a signal handler of the same thread can come
 * between, so that nothing is locked. Each of these has 256 bytes; rings.h has every offset.
 */
#ifndef PROFINFER_RECORD_X86_64_H
#define PROFINFER_RECORD_X86_64_H

/* r11: the slot, r10: the record's word as far as it is known before the time. rdtscp waits until
 * the slot has been taken; it gives the CPU, too, and takes two registers that hold arguments. */
#define RECORD(kind, a, b)                                                                         \
  "1: mov stub_mine@gottpoff(%rip), %r10\n"                                                        \
  "mov %fs:(%r10), %r11\n"                                                                         \
  "cmp stub_page + 8 * stub(%rip), %r11\n"                                                         \
  "jne 3f\n"                                                                                       \
  "mov %fs:8(%r10), %r10\n"                                                                        \
  "2: mov (%r10), %rax\n"                                                                          \
  "cmp 8(%r10), %rax\n"                                                                            \
  "jae 3f\n"                                                                                       \
  "lea 1(%rax), %r11\n"                                                                            \
  "cmpxchg %r11, (%r10)\n"                                                                         \
  "jne 2b\n"                                                                                       \
  "mov %rax, %r11\n"                                                                               \
  "and stub_page + 384(%rip), %r11\n"                                                              \
  "shl $5, %r11\n"                                                                                 \
  "lea 128(%r10, %r11), %r11\n"                                                                    \
  "inc %rax\n"                                                                                     \
  "shl $36, %rax\n"                                                                                \
  "or 16(%r10), %rax\n"                                                                            \
  "mov %rax, %r10\n"                                                                               \
  "push %rdx\n"                                                                                    \
  ".cfi_adjust_cfa_offset 8\n"                                                                     \
  "push %rcx\n"                                                                                    \
  ".cfi_adjust_cfa_offset 8\n"                                                                     \
  "rdtscp\n"                                                                                       \
  "shl $32, %rdx\n"                                                                                \
  "or %rdx, %rax\n"                                                                                \
  "mov %rax, (%r11)\n"                                                                             \
  "and $0xfff, %ecx\n"                                                                             \
  "shl $24, %rcx\n"                                                                                \
  "lea " #kind " << 22(%r10, %rcx), %r10\n"                                                        \
  "pop %rcx\n"                                                                                     \
  ".cfi_adjust_cfa_offset -8\n"                                                                    \
  "pop %rdx\n"                                                                                     \
  ".cfi_adjust_cfa_offset -8\n" a b "mov %r10, 24(%r11)\n"                                         \
  "jmp *slots + 32 * stub(%rip)\n"                                                                 \
  "3: mov $stub, %eax\n"                                                                           \
  "call recorder_miss\n"                                                                           \
  "test %eax, %eax\n"                                                                              \
  "jne 1b\n"                                                                                       \
  "jmp *slots + 32 * stub(%rip)\n"                                                                 \
  ".balign 256, 0xcc\n"                                                                            \
  ".set stub, stub + 1\n"

#define RECORDS(first, kind, a, b) ".rept " EXPANDED(COPIES) "\n" first RECORD(kind, a, b) ".endr\n"

/* An operator of certain ops goes by the NOPs behind its stub, where a probe sits (audit.c). */
#define SEND_ON                                                                                    \
  "mov stub_page + 416(%rip), %r10\n"                                                              \
  "test %r10, %r10\n"                                                                              \
  "je 1f\n"                                                                                        \
  "mov (%rsi, %r10), %r10d\n"                                                                      \
  "cmp stub_page + 424(%rip), %r10d\n"                                                             \
  "je stubs + 64 * stub + 40\n"                                                                    \
  "cmp stub_page + 428(%rip), %r10d\n"                                                             \
  "je stubs + 64 * stub + 40\n"

/* As the handlers of bpf/handlers.h have it: which argument is what. */
#define RECORDERS                                                                                  \
  ".balign 256\n"                                                                                  \
  "recorders:\n"                                                                                   \
  ".cfi_startproc\n"                                                                               \
  ".set stub, 0\n" RECORDS(SEND_ON, 1, "mov %rsi, 8(%r11)\n", "movq $0, 16(%r11)\n")               \
      RECORDS("", 2, "mov %rdx, 8(%r11)\n", "mov %rsi, 16(%r11)\n") RECORDS(                       \
          "", 3, "mov %rdi, 8(%r11)\n", "movq $0, 16(%r11)\n") ".cfi_endproc\n" RECORDER_MISS

/* stub_miss(), of which the compiler is told not to use other registers than these, with every
 * argument as it was. */
#define RECORDER_MISS                                                                              \
  "recorder_miss:\n"                                                                               \
  ".cfi_startproc\n"                                                                               \
  "push %rdi\n"                                                                                    \
  ".cfi_adjust_cfa_offset 8\n"                                                                     \
  "push %rsi\n"                                                                                    \
  ".cfi_adjust_cfa_offset 8\n"                                                                     \
  "push %rdx\n"                                                                                    \
  ".cfi_adjust_cfa_offset 8\n"                                                                     \
  "push %rcx\n"                                                                                    \
  ".cfi_adjust_cfa_offset 8\n"                                                                     \
  "push %r8\n"                                                                                     \
  ".cfi_adjust_cfa_offset 8\n"                                                                     \
  "push %r9\n"                                                                                     \
  ".cfi_adjust_cfa_offset 8\n"                                                                     \
  "mov %eax, %edi\n"                                                                               \
  "call stub_miss\n"                                                                               \
  "pop %r9\n"                                                                                      \
  ".cfi_adjust_cfa_offset -8\n"                                                                    \
  "pop %r8\n"                                                                                      \
  ".cfi_adjust_cfa_offset -8\n"                                                                    \
  "pop %rcx\n"                                                                                     \
  ".cfi_adjust_cfa_offset -8\n"                                                                    \
  "pop %rdx\n"                                                                                     \
  ".cfi_adjust_cfa_offset -8\n"                                                                    \
  "pop %rsi\n"                                                                                     \
  ".cfi_adjust_cfa_offset -8\n"                                                                    \
  "pop %rdi\n"                                                                                     \
  ".cfi_adjust_cfa_offset -8\n"                                                                    \
  "ret\n"                                                                                          \
  ".cfi_endproc\n"

#endif
