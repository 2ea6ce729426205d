/* SPDX-License-Identifier: Apache-2.0 */
/* profinfer-confine: runs the describer, with a stranger's engine in it, as nobody that matters.
 *
 * It enters the mount namespace of the engine's process, takes a copy of it that is its own, makes
 * a root in memory with the describer in it, goes there, closes whatever is open, and only then
 * gives up its privileges. Then the engine's own dynamic loader starts the describer. */
#include "arguments.h"
#include "calls.h"
#include "files.h"
#include "limits.h"
#include "placing.h"
#include "report.h"
#include "root.h"
#include "supervise.h"
#include "user.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

extern char **environ;

enum { MOST_DESCRIPTORS = 1 << 16 };

static int open_ours(const char *path) {
  int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0)
    report_failure("cannot open %s: %s (make setup builds it)", path, strerror(errno));
  return file;
}

/* An open folder is a way out of any root. */
static void close_from(unsigned least) {
  if (syscall(SYS_close_range, least, ~0U, 0))
    for (int descriptor = (int)least; descriptor < MOST_DESCRIPTORS; descriptor++)
      close(descriptor);
}

/* The first process has nothing to do but to wait. */
static void retire(void *data) {
  const struct arguments *arguments = data;
  close_from(STDIN_FILENO + 1);
  user_become(arguments->uid, arguments->gid);
  calls_refuse(true);
}

static void add(char **words, size_t *count, const char *word) {
  words[(*count)++] = report_text("%s", word);
}

static void add_option(char **words, size_t *count, const char *option, const char *value) {
  if (value) {
    add(words, count, option);
    add(words, count, value);
  }
}

/* The describer's command line: the dynamic loader's, which may be run by an emulator. */
static char **command(const struct arguments *arguments, const struct files *files,
                      const char *note) {
  const struct object *objects = arguments->objects;
  size_t most = 32 + 2 * arguments->object_count + arguments->symbol_words, count = 0;
  char **words = report_allocate(most, sizeof *words);
  if (arguments->emulator) {
    add(words, &count, arguments->emulator);
    add_option(words, &count, "-L", files->sysroot);
    add(words, &count, report_text("%s/%s", files->sysroot, arguments->loader));
  } else {
    add(words, &count, arguments->loader);
  }
  add_option(words, &count, "--library-path", placing_folders(arguments));
  add(words, &count, files->program);
  add_option(words, &count, "--channel", report_text("%d", CHANNEL));
  add_option(words, &count, "--model", files->model);
  add_option(words, &count, "--scratch", files->scratch);
  add_option(words, &count, "--backends", path_folder(objects[arguments->backends].placed));
  add_option(words, &count, "--note", note);
  for (size_t i = 0; i < arguments->object_count; i++)
    add_option(words, &count, "--object", objects[i].placed);
  memcpy(words + count, arguments->symbols, arguments->symbol_words * sizeof *words);
  return words;
}

int main(int argc, char **argv) {
  report_open();
  /* Who asks may want files of its own to be closed to others. */
  umask(022);
  struct arguments arguments = arguments_parse(argc, argv);
  int program = open_ours(arguments.program), model = open_ours(arguments.model);
  size_t size = files_size(&arguments, program, model);
  limits_prepare();
  struct isolation isolation = supervise_isolate();
  supervise_die_with_parent();
  /* Who asks may have died before that. */
  report_be_heard();
  if (isolation.processes)
    supervise_first(arguments.seconds);
  struct files files;
  if (isolation.mounts) {
    root_make(&arguments, size, isolation.processes);
    files = files_place(&arguments, program, model);
  } else {
    files = files_leave(&arguments);
  }
  const char *note = NULL;
  if (!isolation.network)
    note = "the library was examined without a network namespace of its own";
  char **words = command(&arguments, &files, note);
  report_hand_over();
  if (isolation.processes)
    supervise_worker(retire, &arguments);
  close_from(CHANNEL + 1);
  limits_set(arguments.seconds);
  user_become(arguments.uid, arguments.gid);
  calls_refuse(isolation.network);
  supervise_die_with_parent();
  report_be_heard();
  execve(words[0], words, environ);
  report_failure("cannot start %s: %s", words[0], strerror(errno));
}
