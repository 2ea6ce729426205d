/* SPDX-License-Identifier: Apache-2.0 */
#include "descriptors.h"
#include "harness.h"

#include <fcntl.h>
#include <sys/resource.h>

static struct rlimit limit(void) {
  struct rlimit now;
  CHECK(!getrlimit(RLIMIT_NOFILE, &now));
  return now;
}

static void begin_with(rlim_t soft, rlim_t hard) {
  CHECK(!setrlimit(RLIMIT_NOFILE, &(struct rlimit){soft, hard}));
}

/* Above the hard limit where that may be; a command gets what there was at first. */
static void raise_and_restore(void) {
  begin_with(64, 200);
  bool is_final = setrlimit(RLIMIT_NOFILE, &(struct rlimit){64, 201});
  begin_with(64, 200);
  descriptors_allow();
  CHECK_EQUAL(limit().rlim_cur, is_final ? 200 : 1024);
  descriptors_allow_more(500);
  CHECK_EQUAL(limit().rlim_cur, is_final ? 200 : 1524);
  descriptors_allow_more(100);
  CHECK_EQUAL(limit().rlim_cur, is_final ? 200 : 1524);
  descriptors_restore();
  CHECK_EQUAL(limit().rlim_cur, 64);
  CHECK_EQUAL(limit().rlim_max, 200);
}

static void as_many_as_are_needed(void) { CHECK_APART(raise_and_restore()); }

static void too_few_are_named(void) {
  CHECK_FAILS(4, "this process may have 100",
              (begin_with(50, 100), geteuid() || !setuid(65534) ? descriptors_allow() : (void)0));
}

static void standard_streams_are_not_given_to_files(void) {
  pid_t child = fork();
  if (!child) {
    close(0);
    close(2);
    descriptors_reserve();
    int fd = open("/dev/null", O_RDONLY);
    bool is_closed_by_exec = fcntl(0, F_GETFD) == FD_CLOEXEC && fcntl(2, F_GETFD) == FD_CLOEXEC;
    _exit(fd > 2 && is_closed_by_exec && fcntl(1, F_GETFD) == 0 ? 0 : 1);
  }
  int status;
  waitpid(child, &status, 0);
  CHECK_EQUAL(status, 0);
}

int main(void) {
  RUN(as_many_as_are_needed);
  RUN(too_few_are_named);
  RUN(standard_streams_are_not_given_to_files);
}
