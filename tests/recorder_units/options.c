/* SPDX-License-Identifier: Apache-2.0 */
#include "options.h"
#include "harness.h"

#include <getopt.h>

#define MOST_WORDS 32

/* Of a command line, words apart by spaces. */
static struct options parsed(const char *line) {
  static char words[1024], *argv[MOST_WORDS];
  int argc = 0;
  snprintf(words, sizeof(words), "profinfer-recorder %s", line);
  for (char *rest = words, *word; (word = strsep(&rest, " "));)
    argv[argc++] = word;
  argv[argc] = 0;
  optind = 0; /* from the beginning */
  return options_parse(argc, argv);
}

#define LEAST "--pid 7 --plan p -o c "
#define CHECK_REFUSED(line, words) CHECK_FAILS(EXIT_USAGE, words, parsed(line))

static void what_is_not_said_has_its_default(void) {
  struct options options = parsed("--pid 7 --plan plan.json --output capture.raw");
  CHECK_EQUAL(options.pid, 7);
  CHECK_TEXT(options.plan, "plan.json");
  CHECK_TEXT(options.output, "capture.raw");
  CHECK_EQUAL(options.ring_size, 4 << 20);
  CHECK_EQUAL(options.scheduler_ring_size, 1 << 20);
  CHECK_EQUAL(options.structure_ring_size, 4 << 20);
  CHECK_EQUAL(options.serve, -1);
  CHECK_EQUAL(options.socket, -1);
  CHECK(options.poll == 0.5 && options.duration == 0);
  CHECK(!options.force && !options.command && !options.level && !options.experts);
  CHECK(options.first_ubatch == 0 && options.last_ubatch == 0);
}

static void sizes_have_units(void) {
  CHECK_EQUAL(parsed(LEAST "--ring-size 4M").ring_size, 4 << 20);
  CHECK_EQUAL(parsed(LEAST "--ring-size 64k").ring_size, 64 << 10);
  CHECK_EQUAL(parsed(LEAST "--ring-size 1G").ring_size, 1 << 30);
  CHECK_EQUAL(parsed(LEAST "--structure-ring-size 8192").structure_ring_size, 8192);
  CHECK_REFUSED(LEAST "--ring-size 2G", "--ring-size 2G must be a power of two");
  CHECK_REFUSED(LEAST "--ring-size 3M", "--ring-size 3M must be a power of two");
  CHECK_REFUSED(LEAST "--ring-size 2048", "--ring-size 2048 must be a power of two");
  CHECK_REFUSED(LEAST "--ring-size -4096", "--ring-size -4096 is not a size");
  CHECK_REFUSED(LEAST "--ring-size 4MB", "--ring-size 4MB is not a size");
  CHECK_REFUSED(LEAST "--ring-size M", "--ring-size M is not a size");
  CHECK_REFUSED(LEAST "--ring-size 18446744073709551616", "must be a power of two");
}

static void it_is_on_and_off_for_seconds(void) {
  CHECK(parsed(LEAST "--force").alternate == 0);
  CHECK(parsed(LEAST "--alternate 0.5").alternate == 0.5);
  CHECK_REFUSED(LEAST "--alternate 0.01", "--alternate 0.01 is not between");
  CHECK_REFUSED(LEAST "--alternate nan", "--alternate nan is not between");
}

static void ubatches_are_counted_from_0(void) {
  struct options options = parsed(LEAST "--iterations 100-199");
  CHECK_EQUAL(options.first_ubatch, 100);
  CHECK_EQUAL(options.last_ubatch, 200);
  options = parsed(LEAST "--iterations 5");
  CHECK_EQUAL(options.first_ubatch, 5);
  CHECK_EQUAL(options.last_ubatch, 6);
  options = parsed(LEAST "--iterations 5-");
  CHECK_EQUAL(options.first_ubatch, 5);
  CHECK(options.last_ubatch > 1ull << 60);
  CHECK_REFUSED(LEAST "--iterations 9-5", "--iterations 9-5 is not a range");
  CHECK_REFUSED(LEAST "--iterations -5", "--iterations -5 is not a range");
  CHECK_REFUSED(LEAST "--iterations x", "--iterations x is not a range");
  CHECK_REFUSED(LEAST "--iterations 5-x", "--iterations 5-x is not a range");
  CHECK_REFUSED(LEAST "--iterations 5--7", "--iterations 5--7 is not a range");
}

static void words_are_whole(void) {
  CHECK_TEXT(parsed(LEAST "--transport perf").transport, "perf");
  CHECK_TEXT(parsed(LEAST "--scheduler off").scheduler, "off");
  CHECK_TEXT(parsed(LEAST "--attach uprobe_multi").attach, "uprobe_multi");
  CHECK_REFUSED(LEAST "--transport per", "there is no transport per: auto, ring or perf");
  CHECK_REFUSED(LEAST "--transport or", "there is no transport or");
  CHECK_REFUSED(LEAST "--transport ,", "there is no transport ,");
  CHECK_REFUSED(LEAST "--transport=", "there is no transport ");
  CHECK_REFUSED(LEAST "--level all", "there is no level all");
}

static void numbers_are_in_range(void) {
  CHECK(parsed(LEAST "--poll 0.001").poll == 0.001);
  CHECK_REFUSED(LEAST "--poll 0", "--poll 0 is not between 0.001 and 10 seconds");
  CHECK_REFUSED(LEAST "--poll nan", "--poll nan is not between");
  CHECK_REFUSED(LEAST "--duration -1", "--duration -1 is not between");
  CHECK_REFUSED(LEAST "--duration 1s", "--duration 1s is not between");
  CHECK_REFUSED("--pid 0 --plan p -o c", "--pid 0 is not a process");
  CHECK_REFUSED("--pid 99999999999 --plan p -o c", "--pid 99999999999 is not a process");
}

static void a_command_or_a_process(void) {
  struct options options = parsed("--plan p -o c -- engine --pid 5");
  CHECK_EQUAL(options.pid, 0);
  CHECK_TEXT(options.command[0], "engine");
  CHECK_TEXT(options.command[1], "--pid");
  CHECK(!options.command[3]);
  options = parsed("--plan p -o c engine -x");
  CHECK_TEXT(options.command[1], "-x");
  CHECK_REFUSED(LEAST "engine", "it is either --pid or a command");
  CHECK_REFUSED("--plan p -o c", "--pid or a command, --plan and -o are needed");
  CHECK_REFUSED("--pid 7 -o c", "--plan and -o are needed");
  CHECK_REFUSED(LEAST "--none", "unknown option");
}

static struct options asked(const char *text) { return options_of(json_tokener_parse(text)); }

static void of_a_message(void) {
  struct options options = asked(
      "{\"pid\": 7, \"level\": \"graph\", \"ring_size\": 65536, \"poll\": 0.25, \"duration\": 2,"
      "\"iterations\": [3, 9], \"faults\": true, \"transport\": \"perf\", \"loader\": \"bcc\"}");
  CHECK_EQUAL(options.pid, 7);
  CHECK_TEXT(options.level, "graph");
  CHECK_TEXT(options.transport, "perf");
  CHECK_TEXT(options.attach, "auto");
  CHECK_EQUAL(options.ring_size, 65536);
  CHECK_EQUAL(options.first_ubatch, 3);
  CHECK_EQUAL(options.last_ubatch, 9);
  CHECK(options.poll == 0.25 && options.duration == 2);
  CHECK(options.faults && options.by_bcc && !options.block_io);
}

static void what_a_message_cannot_ask(void) {
  struct options options =
      asked("{\"ring_size\": 65537, \"scheduler_ring_size\": 1e300, \"structure_ring_size\": -1,"
            "\"poll\": 1e300, \"pid\": 1e300, \"iterations\": [3]}");
  CHECK_EQUAL(options.ring_size, 4 << 20);
  CHECK_EQUAL(options.scheduler_ring_size, 1 << 20);
  CHECK_EQUAL(options.structure_ring_size, 4 << 20);
  CHECK_EQUAL(options.pid, 0);
  CHECK(options.poll == 0.5);
  CHECK_EQUAL(options.last_ubatch, 0);
  CHECK_FAILS(EXIT_USAGE, "there is no level all", asked("{\"level\": \"all\"}"));
}

int main(void) {
  RUN(what_is_not_said_has_its_default);
  RUN(sizes_have_units);
  RUN(it_is_on_and_off_for_seconds);
  RUN(ubatches_are_counted_from_0);
  RUN(words_are_whole);
  RUN(numbers_are_in_range);
  RUN(a_command_or_a_process);
  RUN(of_a_message);
  RUN(what_a_message_cannot_ask);
}
