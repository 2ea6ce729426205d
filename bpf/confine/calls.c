/* SPDX-License-Identifier: Apache-2.0 */
#include "calls.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifdef __x86_64__
#define MACHINE AUDIT_ARCH_X86_64
#else
#define MACHINE AUDIT_ARCH_AARCH64
#endif

/* Calls of the x32 kind have this bit, and are many of the others'. */
#define OTHER_KIND 0x40000000

#define LOAD(member) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, member))
#define ANSWER(value) BPF_STMT(BPF_RET | BPF_K, value)
#define REFUSE(error) ANSWER(SECCOMP_RET_ERRNO | (error))
/* The next instruction where it is so, else the one behind that. */
#define IF_EQUAL(value) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1)
#define IF_ANY_OF(bits) BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, bits, 0, 1)
#define NEVER(call) IF_EQUAL(SYS_##call), REFUSE(EPERM)

/* Namespaces give capabilities of their own, and a new process may come with them. */
#define NAMESPACES                                                                                 \
  (CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS |       \
   CLONE_NEWCGROUP)

void calls_refuse(bool has_empty_network) {
  uint32_t inet = has_empty_network ? AF_INET : AF_UNSPEC;
  uint32_t inet6 = has_empty_network ? AF_INET6 : AF_UNSPEC;
  struct sock_filter code[] = {
      LOAD(arch),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, MACHINE, 1, 0),
      ANSWER(SECCOMP_RET_KILL_PROCESS),
      LOAD(nr),
      IF_ANY_OF(OTHER_KIND),
      REFUSE(ENOSYS),
      /* Other processes of the same user. */
      NEVER(ptrace),
      NEVER(process_vm_readv),
      NEVER(process_vm_writev),
      NEVER(pidfd_getfd),
      NEVER(kcmp),
      /* Other roots. */
      NEVER(unshare),
      NEVER(setns),
      NEVER(chroot),
      NEVER(pivot_root),
      NEVER(mount),
      NEVER(umount2),
      NEVER(open_tree),
      NEVER(move_mount),
      NEVER(fsopen),
      NEVER(fspick),
      NEVER(open_by_handle_at),
      /* The user's keys. */
      NEVER(add_key),
      NEVER(request_key),
      NEVER(keyctl),
      /* What does others' work in the kernel. */
      NEVER(io_uring_setup),
      NEVER(bpf),
      NEVER(perf_event_open),
      NEVER(userfaultfd),
      /* Its flags are in memory, where nobody can look; who wants a thread then asks by clone. */
      IF_EQUAL(SYS_clone3),
      REFUSE(ENOSYS),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 0, 3),
      LOAD(args[0]),
      IF_ANY_OF(NAMESPACES),
      REFUSE(EPERM),
      LOAD(nr),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_socket, 0, 4),
      LOAD(args[0]),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, inet, 2, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, inet6, 1, 0),
      REFUSE(EAFNOSUPPORT),
      ANSWER(SECCOMP_RET_ALLOW),
  };
  struct sock_fprog program = {sizeof code / sizeof *code, code};
  /* Where that flag is not known, mitigations slow the process down, and that is all. */
  if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW, &program))
    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}
