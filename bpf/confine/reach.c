/* SPDX-License-Identifier: Apache-2.0 */
#include "reach.h"
#include "report.h"
#include "user.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static struct reach reach(const struct object *object) {
  struct stat found, meant;
  /* Whatever lies there must not stop us. */
  int flags = O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
  int file = open(object->placed ? object->placed : object->path, flags);
  if (file < 0)
    return (struct reach){errno, 0};
  int is_it = !fstat(file, &found) && !fstat(object->file, &meant) &&
              found.st_dev == meant.st_dev && found.st_ino == meant.st_ino;
  close(file);
  return (struct reach){0, is_it};
}

void reach_try(const struct arguments *arguments, struct reach *reaches) {
  int ends[2];
  size_t size = arguments->object_count * sizeof *reaches, got = 0;
  if (pipe2(ends, O_CLOEXEC))
    report_failure("no pipe: %s", strerror(errno));
  pid_t child = fork();
  if (!child) {
    user_become(arguments->uid, arguments->gid);
    for (size_t i = 0; i < arguments->object_count; i++)
      reaches[i] = reach(&arguments->objects[i]);
    _exit(write(ends[1], reaches, size) == (ssize_t)size ? EXIT_SUCCESS : EXIT_FAILURE);
  }
  close(ends[1]);
  ssize_t count;
  while ((count = read(ends[0], (char *)reaches + got, size - got)) > 0)
    got += (size_t)count;
  close(ends[0]);
  if (child < 0 || waitpid(child, NULL, 0) != child || got != size)
    report_failure("it cannot be told which files can be read");
}

bool reach_may_read(const struct arguments *arguments, int file) {
  struct stat status;
  if (fstat(file, &status))
    return false;
  if (status.st_uid == arguments->uid)
    return status.st_mode & S_IRUSR;
  return status.st_mode & (status.st_gid == arguments->gid ? S_IRGRP : S_IROTH);
}
