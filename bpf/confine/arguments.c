/* SPDX-License-Identifier: Apache-2.0 */
#include "arguments.h"
#include "report.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static unsigned long number(const char *what, const char *word) {
  char *end;
  unsigned long value = strtoul(word, &end, 10);
  if (!*word || *end || value >= UINT32_MAX)
    report_failure("%s %s is no number", what, word);
  return value;
}

const char *path_name(const char *path) {
  const char *slash = strrchr(path, '/');
  return slash ? slash + 1 : path;
}

char *path_folder(const char *path) {
  size_t length = (size_t)(path_name(path) - path);
  return report_text("%.*s", (int)(length > 1 ? length - 1 : length), path);
}

static void add_object(struct arguments *arguments, char **words) {
  struct object object = {.file = (int)number("descriptor", words[0]), .path = words[1]};
  const char *name = path_name(object.path);
  if (object.path[0] != '/' || !*name || !strcmp(name, ".") || !strcmp(name, ".."))
    report_failure("%s is no path of a file", object.path);
  arguments->objects[arguments->object_count++] = object;
}

static bool take_text(struct arguments *arguments, const char *option, const char *word) {
  const struct {
    const char *option;
    const char **place;
  } texts[] = {
      {"--program", &arguments->program}, {"--model", &arguments->model},
      {"--loader", &arguments->loader},   {"--emulator", &arguments->emulator},
      {"--sysroot", &arguments->sysroot}, {"--scratch", &arguments->scratch},
  };
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
    if (!strcmp(option, texts[i].option)) {
      *texts[i].place = word;
      return true;
    }
  return false;
}

static bool take_number(struct arguments *arguments, const char *option, const char *word) {
  if (!strcmp(option, "--uid"))
    arguments->uid = (uid_t)number(option, word);
  else if (!strcmp(option, "--gid"))
    arguments->gid = (gid_t)number(option, word);
  else if (!strcmp(option, "--seconds"))
    arguments->seconds = (unsigned)number(option, word);
  else if (!strcmp(option, "--mounts"))
    arguments->mounts = (int)number(option, word);
  else if (!strcmp(option, "--root"))
    arguments->root = (int)number(option, word);
  else if (!strcmp(option, "--backends"))
    arguments->backends = (int)number(option, word);
  else
    return false;
  return true;
}

/* How many words an option takes, itself included. */
static int take(struct arguments *arguments, char **words, int left) {
  const char *option = words[0];
  if (!strcmp(option, "--copy")) {
    arguments->may_copy = true;
    return 1;
  }
  if (left >= 3 && !strcmp(option, "--object")) {
    add_object(arguments, words + 1);
    return 3;
  }
  if (left >= 4 && !strcmp(option, "--symbol")) {
    memcpy(arguments->symbols + arguments->symbol_words, words, 4 * sizeof *words);
    arguments->symbol_words += 4;
    return 4;
  }
  if (left < 2 ||
      (!take_text(arguments, option, words[1]) && !take_number(arguments, option, words[1])))
    report_failure("odd argument %s", option);
  return 2;
}

struct arguments arguments_parse(int argc, char **argv) {
  size_t most = (size_t)argc;
  struct arguments arguments = {
      .mounts = -1,
      .root = -1,
      .objects = report_allocate(most, sizeof(struct object)),
      .symbols = report_allocate(most, sizeof(char *)),
  };
  for (int i = 1; i < argc;)
    i += take(&arguments, argv + i, argc - i);
  if (!arguments.program || !arguments.model || !arguments.loader || !arguments.object_count)
    report_failure("not told what to run");
  if (!arguments.uid || (!geteuid() && !arguments.gid))
    report_failure("no engine is loaded as root");
  if ((size_t)arguments.backends >= arguments.object_count)
    report_failure("no object %d", arguments.backends);
  if (arguments.emulator && (!arguments.sysroot || arguments.root >= 0))
    report_failure("an emulator takes a sysroot and no other root");
  return arguments;
}
