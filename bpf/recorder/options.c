/* SPDX-License-Identifier: Apache-2.0 */
#include "options.h"
#include "failure.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char help[] =
    "usage: profinfer-recorder --pid PID --plan FILE -o FILE [options]\n"
    "\n"
    "Records a running engine into a raw capture, without Python. Make the plan where Python is,\n"
    "from copies of the engine's files, and the trace from the capture:\n"
    "\n"
    "  profinfer plan --target libllama.so libggml*.so -o plan.json     (on the host)\n"
    "  profinfer-recorder --pid 1234 --plan plan.json -o capture.raw    (on the board, as root)\n"
    "  profinfer convert capture.raw trace.pftrace                      (on the host)\n"
    "\n"
    "  --pid PID             the process to record\n"
    "  --plan FILE           what profinfer plan has made of its files\n"
    "  -o, --output FILE     the capture, readable by you alone\n"
    "  --force               overwrite it\n"
    "  --level LEVEL         token, graph, operator or barrier: at most the plan's (default)\n"
    "  --duration S          end after this many seconds (default: at Ctrl-C or the target's end)\n"
    "  --transport ring|perf mapped rings (Linux 5.12), or perf buffers (Linux 5.5) (default: "
    "ring)\n"
    "  --ring-size SIZE      bytes of each CPU's ring, a power of two (default: 512K)\n"
    "  --structure-ring-size SIZE\n"
    "                        bytes of the ring for graph structure; of each CPU's with perf\n"
    "                        (default: 1M)\n"
    "  --poll S              seconds between drains (default: 0.5)\n"
    "  --experts             which experts each token is sent to\n"
    "  --expert-weights      and what the router gave them\n"
    "  --object FILE         use this BPF object, not the one inside\n"
    "  --version, --help\n"
    "\n"
    "Whatever ends it, the capture is valid up to its last frame, and the probes are gone.\n"
    "\n"
    "exit codes:\n"
    "  2 usage           3 privileges      4 the kernel lacks something, or refuses\n"
    "  5 the target      6 the plan does not fit the target's files\n"
    "  7 output          8 the plan is not one, or of another version\n";

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
  WEIGHTS
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
    {"version", 0, 0, VERSION},
    {"help", 0, 0, 'h'},
    {0, 0, 0, 0},
};

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
    options->transport = optarg;
    if (strcmp(optarg, "auto") && strcmp(optarg, "ring") && strcmp(optarg, "perf"))
      usage(text("there is no transport %s: auto, ring or perf", optarg));
    break;
  case RING:
    options->ring_size = size("ring-size", optarg);
    break;
  case STRUCTURE:
    options->structure_ring_size = size("structure-ring-size", optarg);
    break;
  case POLL:
    options->poll = seconds("poll", optarg, 1e-3, 10);
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

struct options options_parse(int argc, char **argv) {
  struct options options = {
      .transport = "auto", .poll = 0.5, .ring_size = 512 << 10, .structure_ring_size = 1 << 20};
  int option;
  while ((option = getopt_long(argc, argv, "o:h", known, 0)) != -1)
    take(&options, option);
  if (optind < argc)
    usage(text("%s is no option; a command cannot be launched, only recorded by its --pid",
               argv[optind]));
  if (!options.pid || !options.plan || !options.output || !*options.output)
    usage("--pid, --plan and -o are needed");
  return options;
}
