/* SPDX-License-Identifier: Apache-2.0 */
#include "user.h"
#include "report.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

void user_become(uid_t uid, gid_t gid) {
  if (!geteuid() && (setgroups(0, NULL) || setresgid(gid, gid, gid) || setresuid(uid, uid, uid)))
    report_failure("cannot become user %u: %s", uid, strerror(errno));
  if (!geteuid() || !getuid())
    report_failure("no engine is loaded as root");
  struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
  struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {0};
  if (syscall(SYS_capset, &header, none))
    report_failure("capabilities could not be dropped: %s", strerror(errno));
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    report_failure("no_new_privs was refused: %s", strerror(errno));
  prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}
