/* SPDX-License-Identifier: Apache-2.0 */
#include "options.h"
#include "failure.h"
#include "help.h"
#include "message.h"
#include "plan.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LEAST_POLL 1e-3
#define MOST_POLL 10
#define LEAST_TURN 0.05
#define MOST_TURN 60

static _Noreturn void usage(const char *message) {
  fail(EXIT_USAGE, "profinfer-recorder --help lists the options", "%s", message);
}

static double seconds(const char *name, const char *given, double least, double most) {
  char *end;
  double value = strtod(given, &end);
  if (end == given || *end || !(value >= least && value <= most))
    usage(text("--%s %s is not between %g and %g seconds", name, given, least, most));
  return value;
}

/* Bytes of "4M", "512K" or 4194304. */
static size_t size(const char *name, const char *given) {
  char *end;
  unsigned long long value = strtoull(given, &end, 10);
  const char *units = "KMG", *unit = *end ? strchr(units, *end & ~0x20) : 0;
  if (end == given || *given == '-' || (*end && (!unit || end[1])))
    usage(text("--%s %s is not a size: write 4M, 512K or a number of bytes", name, given));
  int shift = unit ? 10 * (unit - units + 1) : 0;
  unsigned long long page = sysconf(_SC_PAGESIZE);
  if (value > (1ull << 30) >> shift || (value <<= shift) < page || value & (value - 1))
    usage(text("--%s %s must be a power of two between %lluK and 1G", name, given, page >> 10));
  return value;
}

static pid_t process(const char *given) {
  char *end;
  long value = strtol(given, &end, 10);
  if (end == given || *end || value < 1 || value > 1 << 22)
    usage(text("--pid %s is not a process", given));
  return value;
}

enum {
  FORCE = 256,
  PID,
  PLAN,
  LEVEL,
  DURATION,
  TRANSPORT,
  RING,
  STRUCTURE,
  POLL,
  OBJECT,
  VERSION,
  EXPERTS,
  WEIGHTS,
  ITERATIONS,
  SCHEDULER,
  ATTACH,
  FAULTS,
  BLOCK_IO,
  EVICT,
  KILL,
  EMPTY,
  ALTERNATE,
  SERVE
};

static const struct option known[] = {
    {"pid", 1, 0, PID},
    {"plan", 1, 0, PLAN},
    {"output", 1, 0, 'o'},
    {"force", 0, 0, FORCE},
    {"level", 1, 0, LEVEL},
    {"duration", 1, 0, DURATION},
    {"transport", 1, 0, TRANSPORT},
    {"ring-size", 1, 0, RING},
    {"structure-ring-size", 1, 0, STRUCTURE},
    {"poll", 1, 0, POLL},
    {"object", 1, 0, OBJECT},
    {"experts", 0, 0, EXPERTS},
    {"expert-weights", 0, 0, WEIGHTS},
    {"iterations", 1, 0, ITERATIONS},
    {"scheduler", 1, 0, SCHEDULER},
    {"attach", 1, 0, ATTACH},
    {"faults", 0, 0, FAULTS},
    {"block-io", 0, 0, BLOCK_IO},
    {"evict", 0, 0, EVICT},
    {"kill", 0, 0, KILL},
    {"empty-handlers", 0, 0, EMPTY},
    {"alternate", 1, 0, ALTERNATE},
    {"serve", 1, 0, SERVE}, /* profinfer's own affair: not in the help */
    {"version", 0, 0, VERSION},
    {"help", 0, 0, 'h'},
    {0, 0, 0, 0},
};

/* The option's value, which must be one of the words of a sentence. */
static const char *one_of(const char *what, const char *words) {
  const char *found = strstr(words, optarg);
  size_t length = strlen(optarg);
  bool is_whole = found && length && (found == words || found[-1] == ' ') &&
                  (!found[length] || found[length] == ',' || found[length] == ' ') &&
                  strcmp(optarg, "or");
  if (!is_whole)
    usage(text("there is no %s %s: %s", what, optarg, words));
  return optarg;
}

/* "100" (one), "100-199", or "100-" (all from there). */
static void iterations(struct options *options, const char *given) {
  char *end;
  unsigned long long first = strtoull(given, &end, 10), last = first;
  bool is_range = end != given && *end == '-' && given[0] != '-';
  if (is_range)
    last = end[1] ? strtoull(end + 1, &end, 10) : (1ull << 62) - 2;
  else if (end == given)
    end = "?";
  if ((*end && !(is_range && !end[1])) || given[0] == '-' || last < first || last >> 62)
    usage(text("--iterations %s is not a range: write 100, 100-199 or 100-", given));
  options->iterations = given;
  options->first_ubatch = first;
  options->last_ubatch = last + 1;
}

static void take(struct options *options, int option) {
  switch (option) {
  case PID:
    options->pid = process(optarg);
    break;
  case PLAN:
    options->plan = optarg;
    break;
  case 'o':
    options->output = optarg;
    break;
  case FORCE:
    options->force = true;
    break;
  case LEVEL:
    options->level = optarg;
    if (level_named(optarg) == LEVEL_COUNT)
      usage(text("there is no level %s: token, graph, operator or barrier", optarg));
    break;
  case DURATION:
    options->duration = seconds("duration", optarg, 1e-3, 1e9);
    break;
  case TRANSPORT:
    options->transport = one_of("transport", "auto, ring or perf");
    break;
  case SCHEDULER:
    options->scheduler = one_of("scheduler mode", "auto, system, target or off");
    break;
  case ATTACH:
    options->attach = one_of("way to attach", "auto, uprobe_multi or perf_event");
    break;
  case ITERATIONS:
    iterations(options, optarg);
    break;
  case FAULTS:
    options->faults = true;
    break;
  case BLOCK_IO:
    options->block_io = true;
    break;
  case EVICT:
    options->evict = true;
    break;
  case KILL:
    options->kills = true;
    break;
  case EMPTY:
    options->empty_handlers = true;
    break;
  case ALTERNATE:
    options->alternate = seconds("alternate", optarg, LEAST_TURN, MOST_TURN);
    break;
  case SERVE:
    options->serve = atoi(optarg);
    break;
  case RING:
    options->ring_size = size("ring-size", optarg);
    break;
  case STRUCTURE:
    options->structure_ring_size = size("structure-ring-size", optarg);
    break;
  case POLL:
    options->poll = seconds("poll", optarg, LEAST_POLL, MOST_POLL);
    break;
  case OBJECT:
    options->object = optarg;
    break;
  case WEIGHTS:
    options->expert_weights = true; /* fall through */
  case EXPERTS:
    options->experts = true;
    break;
  case 'h':
    fputs(help, stdout);
    exit(fflush(stdout) ? 1 : 0);
  case VERSION:
    puts("profinfer-recorder " PROFINFER_VERSION);
    exit(fflush(stdout) ? 1 : 0);
  default:
    usage("unknown option, or one without its value");
  }
}

static struct options defaults(void) {
  return (struct options){
      .serve = -1,
      .socket = -1,
      .plan_fd = -1,
      .capture_fd = -1,
      .transport = "auto",
      .attach = "auto",
      .scheduler = "auto",
      .poll = 0.5,
      .ring_size = 4 << 20,
      .scheduler_ring_size = 1 << 20,
      .structure_ring_size = 4 << 20,
  };
}

struct options options_parse(int argc, char **argv) {
  struct options options = defaults();
  int option;
  while ((option = getopt_long(argc, argv, "+o:h", known, 0)) != -1)
    take(&options, option);
  if (options.serve >= 0)
    return options;
  if (optind < argc)
    options.command = argv + optind;
  if ((!options.pid && !options.command) || !options.plan || !options.output || !*options.output)
    usage("--pid or a command, --plan and -o are needed");
  if (options.pid && options.kills)
    usage("--kill goes with a command, not with --pid");
  if (options.pid && options.command)
    usage(text("%s is no option; it is either --pid or a command", *options.command));
  size_t page = sysconf(_SC_PAGESIZE);
  options.scheduler_ring_size = options.ring_size / 4 > page ? options.ring_size / 4 : page;
  return options;
}

static size_t bytes(json_object *message, const char *name, size_t otherwise) {
  double given = message_number(message, name);
  size_t size = given >= 4096 && given <= 1 << 30 ? given : otherwise;
  return size & (size - 1) ? otherwise : size;
}

static const char *word(json_object *message, const char *name, const char *otherwise) {
  const char *given = message_text(message, name);
  return *given ? text("%s", given) : otherwise;
}

struct options options_of(json_object *message) {
  struct options options = defaults();
  json_object *range = message_list(message, "iterations");
  options.pid = message_integer(message, "pid", INT32_MAX);
  options.level = word(message, "level", 0);
  options.transport = word(message, "transport", options.transport);
  options.attach = word(message, "attach", options.attach);
  options.scheduler = word(message, "scheduler", options.scheduler);
  options.duration = message_number(message, "duration");
  double poll = message_number(message, "poll");
  if (poll >= LEAST_POLL && poll <= MOST_POLL)
    options.poll = poll;
  options.ring_size = bytes(message, "ring_size", options.ring_size);
  options.scheduler_ring_size = bytes(message, "scheduler_ring_size", options.scheduler_ring_size);
  options.structure_ring_size = bytes(message, "structure_ring_size", options.structure_ring_size);
  if (range && json_object_array_length(range) == 2) {
    options.first_ubatch = json_object_get_int64(json_object_array_get_idx(range, 0));
    options.last_ubatch = json_object_get_int64(json_object_array_get_idx(range, 1));
  }
  options.experts = message_flag(message, "experts");
  options.expert_weights = message_flag(message, "expert_weights");
  options.faults = message_flag(message, "faults");
  options.block_io = message_flag(message, "block_io");
  options.evict = message_flag(message, "evict");
  options.empty_handlers = message_flag(message, "empty_handlers");
  double turn = message_number(message, "alternate");
  if (turn >= LEAST_TURN && turn <= MOST_TURN)
    options.alternate = turn;
  options.by_bcc = !strcmp(message_text(message, "loader"), "bcc");
  if (json_object_object_get_ex(message, "means", &options.means))
    options.means =
        json_object_is_type(options.means, json_type_object) ? json_object_get(options.means) : 0;
  options.shows_progress = message_flag(message, "progress");
  options.stays = message_flag(message, "stays");
  if (options.level && level_named(options.level) == LEVEL_COUNT)
    usage(text("there is no level %s", options.level));
  return options;
}
