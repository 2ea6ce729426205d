/* SPDX-License-Identifier: Apache-2.0 */
/* The program's entry, instead of a libc's own: that one would tie us to the libc it came with. */
int main(int count, char **arguments);
int __libc_start_main(int (*)(int, char **), int, char **, void (*)(void), void (*)(void),
                      void (*)(void), void *);

__attribute__((noreturn, used, visibility("hidden"))) void start_on(long *stack) {
  /* No constructors, and nothing to do at the end: we leave by _exit. */
  __libc_start_main(main, (int)stack[0], (char **)(stack + 1), 0, 0, 0, stack);
  __builtin_trap();
}

#if defined(__x86_64__)
__asm__(".globl _start\n.type _start, @function\n_start:\n\t"
        "endbr64\n\txor %ebp, %ebp\n\tmov %rsp, %rdi\n\tand $-16, %rsp\n\tcall start_on\n\thlt\n");
#elif defined(__aarch64__)
__asm__(".globl _start\n.type _start, %function\n_start:\n\t"
        "hint 34\n\tmov x29, #0\n\tmov x30, #0\n\tmov x0, sp\n\tbl start_on\n");
#else
#error "no entry is known for this processor"
#endif
