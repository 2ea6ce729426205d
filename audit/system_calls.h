/* SPDX-License-Identifier: Apache-2.0 */
/* System calls without libc. */
#ifndef PROFINFER_SYSTEM_CALLS_H
#define PROFINFER_SYSTEM_CALLS_H

#if defined(__x86_64__)

#define SYS_READ 0
#define SYS_CLOSE 3
#define SYS_MMAP 9
#define SYS_MADVISE 28
#define SYS_GETPID 39
#define SYS_FCNTL 72
#define SYS_FTRUNCATE 77
#define SYS_PRCTL 157
#define SYS_GETTID 186
#define SYS_CLOCK_GETTIME 228
#define SYS_TGKILL 234
#define SYS_OPENAT 257
#define SYS_PRLIMIT64 302
#define SYS_MEMFD_CREATE 319

static long call6(long number, long a, long b, long c, long d, long e, long f) {
  register long fourth __asm__("r10") = d;
  register long fifth __asm__("r8") = e;
  register long sixth __asm__("r9") = f;
  long result;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "a"(number), "D"(a), "S"(b), "d"(c), "r"(fourth), "r"(fifth), "r"(sixth)
                   : "rcx", "r11", "memory");
  return result;
}

#elif defined(__aarch64__)

#define SYS_FCNTL 25
#define SYS_FTRUNCATE 46
#define SYS_OPENAT 56
#define SYS_CLOSE 57
#define SYS_READ 63
#define SYS_CLOCK_GETTIME 113
#define SYS_TGKILL 131
#define SYS_PRCTL 167
#define SYS_GETPID 172
#define SYS_GETTID 178
#define SYS_MMAP 222
#define SYS_MADVISE 233
#define SYS_PRLIMIT64 261
#define SYS_MEMFD_CREATE 279

static long call6(long number, long a, long b, long c, long d, long e, long f) {
  register long which __asm__("x8") = number;
  register long first __asm__("x0") = a;
  register long second __asm__("x1") = b;
  register long third __asm__("x2") = c;
  register long fourth __asm__("x3") = d;
  register long fifth __asm__("x4") = e;
  register long sixth __asm__("x5") = f;
  __asm__ volatile("svc 0"
                   : "+r"(first)
                   : "r"(which), "r"(second), "r"(third), "r"(fourth), "r"(fifth), "r"(sixth)
                   : "memory");
  return first;
}

#endif

static long call(long number, long a, long b, long c) { return call6(number, a, b, c, 0, 0, 0); }

#endif
