/* SPDX-License-Identifier: Apache-2.0 */
/* An engine describes itself. Started inside the engine's own root by its own loader, in a process
 * that is confined already and thrown away:
 *
 *   profinfer-describer --channel N --model FILE --scratch FOLDER [--backends FOLDER]
 *       [--note TEXT]... [--sibling FILE]... --object FILE... --symbol NAME INDEX HEX...
 *
 * INDEX counts the objects. Lines of JSON go to descriptor N, each with more than the one before,
 * so that a crash keeps what was found. */
#include "answer.h"
#include "description.h"
#include "engine.h"
#include "experiments.h"
#include "peek.h"

#include <string.h>
#include <unistd.h>

static struct {
  char **next, **end;
  const char *model, *scratch, *backends;
} options;

static const char *take(void) {
  if (options.next == options.end)
    unfit("an argument is missing");
  return *options.next++;
}

static uint64_t take_number(unsigned base) {
  const char *text = take();
  uint64_t number = 0;
  if (base == 16 && text[0] == '0' && text[1] == 'x')
    text += 2;
  for (; *text; text++) {
    static const char digits[] = "0123456789abcdef";
    const char *digit = strchr(digits, *text);
    if (!digit || digit >= digits + base)
      unfit("not a number: %s", text);
    number = number * base + (digit - digits);
  }
  return number;
}

static void read_options(void) {
  while (options.next < options.end) {
    const char *name = take();
    if (!strcmp(name, "--channel")) {
      answer_begin(take_number(10));
    } else if (!strcmp(name, "--model")) {
      options.model = take();
    } else if (!strcmp(name, "--scratch")) {
      options.scratch = take();
    } else if (!strcmp(name, "--backends")) {
      options.backends = take();
    } else if (!strcmp(name, "--note")) {
      note("%s", take());
    } else if (!strcmp(name, "--object")) {
      engine_add_object(take());
    } else if (!strcmp(name, "--sibling")) {
      engine_add_sibling(take());
    } else if (!strcmp(name, "--symbol")) {
      const char *function = take();
      unsigned object = take_number(10);
      engine_add_symbol(function, object, take_number(16));
    } else {
      unfit("no such option: %s", name);
    }
  }
  if (!options.model || !options.scratch)
    unfit("--model and --scratch are needed");
}

static void describe(void) {
  char failure[REASON_SIZE];
  read_options();
  peek_begin();
  engine_load(options.scratch);
  describe_names();
  describe_tensor();
  describe_cgraph();
  answer_found();
  backends_begin(options.backends);
  /* In copies, so that a crash, or what one does to the engine, is none for the rest. */
  describe_ubatch_begin(options.model);
  pid_t copy = copy_begin(describe_backend);
  if (!copy_end(copy, failure))
    note("backend: %s", failure);
  answer_found();
  describe_ubatch_end();
  answer_found();
}

int main(int count, char **arguments) {
  char reason[REASON_SIZE];
  description_begin();
  answer_begin(3);
  options.next = arguments + 1;
  options.end = arguments + count;
  if (!attempt(describe, reason))
    answer_error(reason);
  /* Not through the library's destructors, which may do anything. */
  _exit(0);
}
