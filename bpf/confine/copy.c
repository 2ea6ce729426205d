/* SPDX-License-Identifier: Apache-2.0 */
#include "copy.h"
#include "report.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

size_t copy_size(int file) {
  struct stat status;
  if (fstat(file, &status) || !S_ISREG(status.st_mode))
    report_failure("descriptor %d is no regular file", file);
  return (size_t)status.st_size;
}

void copy_file(int file, size_t size, const char *path, mode_t mode) {
  int copy = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
  off_t at = 0;
  while (copy >= 0 && (size_t)at < size)
    if (sendfile(copy, file, &at, size - (size_t)at) <= 0)
      break;
  if (copy < 0 || (size_t)at < size || fchmod(copy, mode))
    report_failure("cannot copy to %s: %s", path, strerror(errno));
  close(copy);
}
