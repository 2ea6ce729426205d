/* SPDX-License-Identifier: Apache-2.0 */
#include "root.h"
#include "mounts.h"
#include "report.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <linux/magic.h>

/* More than any system has in its root. */
enum { MOST_ENTRIES = 512 };
#define SUBSTANCE "/root"

static int open_or_fail(int folder, const char *path) {
  int opened = openat(folder, path, O_RDONLY | O_CLOEXEC);
  if (opened < 0)
    report_failure("cannot open %s: %s", path, strerror(errno));
  return opened;
}

static void enter(int namespace) {
  if (setns(namespace, CLONE_NEWNS))
    report_failure("cannot enter the process's mount namespace: %s", strerror(errno));
  close(namespace);
}

/* A copy of the engine's mount namespace, of which nothing gets back to it; its root. */
static int copy_namespace(const struct arguments *arguments, int proc) {
  int folder = arguments->root >= 0 ? arguments->root : open_or_fail(AT_FDCWD, "/");
  /* Our own, too: that leads to its root even from a root of our own below it. In a user namespace
   * of our own there is nothing to enter: whoever is in another root gets none. */
  if (!geteuid())
    enter(arguments->mounts >= 0 ? arguments->mounts : open_or_fail(proc, "self/ns/mnt"));
  else if (arguments->mounts >= 0)
    report_failure("only root can enter the process's mount namespace");
  /* The working directory alone of all that is open is followed into the copy. */
  if (fchdir(folder) || unshare(CLONE_NEWNS))
    report_failure("no mount namespace: %s", strerror(errno));
  if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
    report_failure("mounts cannot be made private: %s", strerror(errno));
  /* By the links in /proc, what stays open would lead out of the new root. */
  close(folder);
  return open_or_fail(AT_FDCWD, ".");
}

/* Mounts a file system over everything. Whoever enters a namespace is led to what is on top. */
static void cover(int proc, size_t size) {
  char *options = report_text("mode=0755,nr_inodes=4096,size=%zu", size);
  if (mount("profinfer", "/", "tmpfs", MS_NOSUID | MS_NODEV, options))
    report_failure("no file system in memory: %s", strerror(errno));
  enter(open_or_fail(proc, "self/ns/mnt"));
  struct statfs status;
  if (statfs("/", &status) || status.f_type != TMPFS_MAGIC)
    report_failure("the new root is not the one on top");
  /* One level down: who is in another root than its namespace's can make no user namespace. */
  if (mkdir(SUBSTANCE, 0755) || chroot(SUBSTANCE) || chdir("/"))
    report_failure("the new root cannot be entered: %s", strerror(errno));
}

void root_bind(int folder, const char *path) {
  /* By descriptors: on the way to the folder no name can be exchanged any more. */
  if (mkdir(path, 0755) || fchdir(folder) || mount(".", path, NULL, MS_BIND | MS_REC, NULL))
    report_failure("cannot mount at %s: %s", path, strerror(errno));
  if (chdir("/"))
    report_failure("the new root is gone");
  mounts_protect(path);
}

static void take_over(int root, const char *name) {
  char target[PATH_MAX], *path = report_text("/%s", name);
  /* Neither followed nor mounted if it is a place where file systems appear when asked for. */
  int entry = openat(root, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
  struct stat status;
  if (entry < 0 || fstat(entry, &status))
    return;
  /* What is closed to who is not root has nothing for the engine, either. */
  if (S_ISDIR(status.st_mode) && !fchdir(entry))
    root_bind(entry, path);
  ssize_t length = S_ISLNK(status.st_mode) ? readlinkat(entry, "", target, sizeof target - 1) : -1;
  if (length > 0) {
    target[length] = 0;
    if (symlink(target, path))
      report_failure("cannot make the link %s: %s", path, strerror(errno));
  }
  close(entry);
}

void root_make(const struct arguments *arguments, size_t size, bool has_processes) {
  int proc = open_or_fail(AT_FDCWD, "/proc");
  int root = copy_namespace(arguments, proc);
  cover(proc, size);
  DIR *folder = fdopendir(root);
  if (!folder)
    report_failure("cannot read the root: %s", strerror(errno));
  if (mkdir(HOME, 0755))
    report_failure("cannot make %s: %s", HOME, strerror(errno));
  const char *const hidden[] = {".", "..", HOME + 1, "proc", "dev"};
  bool has_proc = false;
  const struct dirent *entry;
  for (int count = 0; count < MOST_ENTRIES && (entry = readdir(folder)); count++) {
    bool is_hidden = false;
    for (size_t i = 0; i < sizeof hidden / sizeof *hidden; i++)
      is_hidden |= !strcmp(entry->d_name, hidden[i]);
    if (!is_hidden)
      take_over(root, entry->d_name);
    has_proc |= !strcmp(entry->d_name, "proc");
  }
  mounts_hide_processes(proc, HOME "/nothing");
  /* Its own processes alone are to be seen. */
  if (has_proc && !mkdir("/proc", 0555) && has_processes)
    mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY, NULL);
  closedir(folder);
  close(proc);
}
