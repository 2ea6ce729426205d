/* SPDX-License-Identifier: Apache-2.0 */
#include "files.h"
#include "copy.h"
#include "placing.h"
#include "report.h"
#include "root.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define PROGRAM HOME "/profinfer-describer"
#define MODEL HOME "/tiny.gguf"
#define SCRATCH HOME "/scratch"
#define SYSROOT HOME "/sysroot"

/* What files take beyond their bytes. */
enum { OVERHEAD = 16 << 20 };

size_t files_size(const struct arguments *arguments, int program, int model) {
  size_t size = OVERHEAD + copy_size(program) + copy_size(model) + placing_size(arguments);
  return arguments->may_copy ? size + PLACING_NEIGHBOURS : size;
}

static void make_scratch(uid_t uid, gid_t gid) {
  const char *options = report_text("mode=0700,uid=%u,gid=%u,size=8m,nr_inodes=64", uid, gid);
  if (mkdir(SCRATCH, 0700) || mount("profinfer", SCRATCH, "tmpfs", MS_NOSUID | MS_NODEV, options))
    report_failure("no folder for what is made on the way: %s", strerror(errno));
}

static void bind_sysroot(const char *path) {
  int folder = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (folder < 0)
    report_failure("cannot open the sysroot %s: %s", path, strerror(errno));
  root_bind(folder, SYSROOT);
  close(folder);
}

struct files files_place(struct arguments *arguments, int program, int model) {
  struct files files = {PROGRAM, MODEL, SCRATCH, arguments->sysroot ? SYSROOT : NULL};
  copy_file(program, copy_size(program), PROGRAM, 0555);
  copy_file(model, copy_size(model), MODEL, 0444);
  make_scratch(arguments->uid, arguments->gid);
  if (arguments->sysroot)
    bind_sysroot(arguments->sysroot);
  placing_objects(arguments);
  return files;
}

struct files files_leave(struct arguments *arguments) {
  struct files files = {arguments->program, arguments->model, arguments->scratch,
                        arguments->sysroot};
  if (arguments->root >= 0 || arguments->mounts >= 0)
    report_failure("another root can be entered only where mounts can be made");
  placing_leave(arguments);
  return files;
}
