/* An audit library (see rtld-audit(7)) that leads the calls of a few hot functions through stubs
 * made of NOPs, where a uprobe costs a fraction of what it does at the function itself.
 *
 * The dynamic loader asks la_symbind64() where each procedure linkage table entry shall lead; the
 * answer is a stub, which jumps to the function. Nothing of the engine is modified. ProfInfer
 * finds the stubs and the table from outside: profinfer/engine/stubs.py.
 *
 * It is loaded into strangers' processes: it needs no library, not even libc, and allocates
 * nothing. Where no hot function is, it asks for nothing; where there is one, rings.c makes ready
 * what it takes to record in a stub.
 */
#define _GNU_SOURCE /* for the names of rtld-audit in link.h */
#include <elf.h>
#include <link.h>
#include <stdint.h>

#include "audit.h"
#include "rings.h"

#define STRING(x) #x
#define EXPANDED(x) STRING(x)

/* Their order is that of the stubs, and of FUNCTIONS in profinfer/engine/stubs.py. */
static const char *const hot[] = {
    "ggml_cpu_extra_compute_forward",
    "ggml_compute_forward_rms_norm_mul_fused",
    "ggml_barrier",
};
_Static_assert(sizeof hot / sizeof *hot == HOT, "the tables agree");

/* One stub's state; index: function * COPIES + copy. What this process has not stored is 0.
 *
 * A closed object's target stays: at exit, the loader closes objects under the feet of threads
 * that still compute.
 */
struct slot {
  uint64_t target; /* where the stub jumps; 0 until a binding has been led through it */
  uint64_t real;   /* the function as its object defines it */
  uint64_t base;   /* load address of the object's virtual address 0 */
  uint64_t object; /* address of the object's struct link_map; 0: the slot is free */
};
_Static_assert(sizeof(struct slot) == 32, "the stubs and profinfer/engine/stubs.py count on it");

/* Each table has two names: code here reaches a hidden symbol without a detour. */
__attribute__((visibility("hidden"))) struct slot slots[STUBS];
extern EXPORT struct slot profinfer_slots[STUBS] __attribute__((alias("slots")));

/* Not 0 while the loader adds or removes objects: of those that ProfInfer sees mapped, some may not
 * have come to la_objopen() yet.
 */
EXPORT uint64_t profinfer_changing;

/* Each stub has 64 bytes. Which of its NOPs is the cheapest to probe depends on the kernel; behind
 * it stand as many for what a stub that records leaves to a probe (record_x86_64.h). No register
 * that carries an argument is touched, nor stack and return address; flags, r10, r11 and rax (x9 to
 * x17) are nobody's where a function begins.
 */
#if defined(__x86_64__)
#define NOPS                                                                                       \
  ".byte 0x90\n"                                                                                   \
  ".byte 0x0f, 0x1f, 0x44, 0x00, 0x00\n"                                                           \
  ".byte 0x66, 0x2e, 0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00\n"
#define STUB                                                                                       \
  "endbr64\n" NOPS "cmpq $0, stub_page + 8 * stub(%rip)\n"                                         \
  "jne recorders + 256 * stub\n"                                                                   \
  "jmp *slots + 32 * stub(%rip)\n" NOPS "jmp *slots + 32 * stub(%rip)\n"                           \
  ".p2align 6, 0xcc\n"
#include "record_x86_64.h"
#elif defined(__aarch64__)
/* x16 is free between a call and its destination; "bti c" (hint 34) accepts br from it. */
#define NOPS                                                                                       \
  "nop\n"                                                                                          \
  "b . + 4\n"
#define LEAD_ON                                                                                    \
  "adrp x16, slots + 32 * stub\n"                                                                  \
  "ldr x16, [x16, :lo12:slots + 32 * stub]\n"                                                      \
  "br x16\n"
#define STUB                                                                                       \
  "hint 34\n" NOPS "adrp x16, stub_page\n"                                                         \
  "ldr x16, [x16, 8 * stub]\n"                                                                     \
  "cbnz x16, recorders + 256 * stub\n" LEAD_ON ".balign 8, 0\n" NOPS LEAD_ON ".balign 64, 0\n"
#include "record_aarch64.h"
#else
#error "no stubs for this machine"
#endif

// clang-format off
/* The frame rules let a sampling profiler unwind from inside a stub. */
__asm__(".pushsection .text.profinfer_stubs, \"ax\", %progbits\n"
        ".balign 64\n"
        ".globl profinfer_stubs, stubs\n"
        ".hidden stubs\n"
        ".type profinfer_stubs, %function\n"
        "profinfer_stubs:\n"
        "stubs:\n"
        ".cfi_startproc\n"
        ".set stub, 0\n"
        ".rept " EXPANDED(STUBS) "\n"
        STUB
        ".set stub, stub + 1\n"
        ".endr\n"
        ".cfi_endproc\n"
        ".size profinfer_stubs, . - profinfer_stubs\n"
        RECORDERS
        ".popsection\n");
// clang-format on
extern __attribute__((visibility("hidden"))) const char stubs[STUBS][64];

/* What the dynamic section of an object says; absent parts are 0. */
struct object {
  const Elf64_Sym *symbols;
  const char *names;
  const uint32_t *gnu_hash;
  const uint32_t *hash;
  const Elf64_Rela *calls; /* relocations of the procedure linkage table */
  uint64_t calls_size;
};

static int equal(const char *a, const char *b) {
  while (*a && *a == *b)
    a++, b++;
  return *a == *b;
}

/* Which hot function bears this name; HOT if none. */
static unsigned which(const char *name) {
  unsigned function = 0;
  while (function < HOT && !equal(name, hot[function]))
    function++;
  return function;
}

/* An address of the dynamic section: the loader has relocated most of them by now, but not those
 * of sections it cannot write. The right reading is the one nearer to that section.
 */
static const void *address(const struct link_map *map, uint64_t value) {
  uint64_t section = (uint64_t)map->l_ld, moved = value + map->l_addr;
  uint64_t as_is_distance = value > section ? value - section : section - value;
  uint64_t moved_distance = moved > section ? moved - section : section - moved;
  return (const void *)(as_is_distance < moved_distance ? value : moved);
}

static struct object read_dynamic(const struct link_map *map) {
  struct object found = {0};
  for (const Elf64_Dyn *entry = map->l_ld; entry && entry->d_tag != DT_NULL; entry++) {
    const void *place = address(map, entry->d_un.d_ptr);
    if (entry->d_tag == DT_SYMTAB)
      found.symbols = place;
    else if (entry->d_tag == DT_STRTAB)
      found.names = place;
    else if (entry->d_tag == DT_GNU_HASH)
      found.gnu_hash = place;
    else if (entry->d_tag == DT_HASH)
      found.hash = place;
    else if (entry->d_tag == DT_JMPREL)
      found.calls = place;
    else if (entry->d_tag == DT_PLTRELSZ)
      found.calls_size = entry->d_un.d_val;
  }
  return found;
}

/* Whether a symbol is the definition of what bears that name, a function (STT_FUNC) or a variable
 * (STT_OBJECT). The resolver of an indirect function (STT_GNU_IFUNC) is neither.
 */
static int defines(const struct object *object, uint32_t index, const char *name, unsigned type) {
  const Elf64_Sym *symbol = &object->symbols[index];
  return ELF64_ST_TYPE(symbol->st_info) == type && symbol->st_shndx != SHN_UNDEF &&
         symbol->st_value && equal(object->names + symbol->st_name, name);
}

static const Elf64_Sym *find_gnu(const struct object *object, const char *name, unsigned type) {
  const uint32_t *table = object->gnu_hash;
  uint32_t buckets = table[0], first = table[1], words = table[2], value = 5381;
  const uint32_t *bucket = table + 4 + 2 * words, *chain = bucket + buckets;
  for (const char *c = name; *c; c++)
    value = value * 33 + (unsigned char)*c;
  uint32_t index = buckets ? bucket[value % buckets] : 0;
  if (index < first || !index)
    return 0;
  for (;; index++) {
    uint32_t hash = chain[index - first]; /* its lowest bit ends the chain */
    if ((hash | 1) == (value | 1) && defines(object, index, name, type))
      return &object->symbols[index];
    if (hash & 1)
      return 0;
  }
}

static const Elf64_Sym *find_sysv(const struct object *object, const char *name, unsigned type) {
  const uint32_t *table = object->hash, *chain = table + 2 + table[0];
  uint32_t value = 0;
  for (const char *c = name; *c; c++) {
    value = (value << 4) + (unsigned char)*c;
    value = (value ^ (value >> 24 & 0xf0)) & 0x0fffffff;
  }
  for (uint32_t i = table[0] ? table[2 + value % table[0]] : 0; i != STN_UNDEF; i = chain[i])
    if (defines(object, i, name, type))
      return &object->symbols[i];
  return 0;
}

static const Elf64_Sym *find(const struct object *object, const char *name, unsigned type) {
  if (!object->symbols || !object->names)
    return 0;
  if (object->gnu_hash)
    return find_gnu(object, name, type);
  return object->hash ? find_sysv(object, name, type) : 0;
}

/* Whether the procedure linkage table has an entry for a hot function. */
static int calls_hot(const struct object *object) {
  if (!object->calls || !object->symbols || !object->names)
    return 0;
  for (uint64_t i = 0; i < object->calls_size / sizeof *object->calls; i++) {
    uint32_t index = ELF64_R_SYM(object->calls[i].r_info);
    if (index && which(object->names + object->symbols[index].st_name) < HOT)
      return 1;
  }
  return 0;
}

static void release(uint64_t object) {
  for (unsigned i = 0; i < STUBS; i++)
    if (slots[i].object == object)
      __atomic_store_n(&slots[i].object, 0, __ATOMIC_RELEASE);
}

/* Takes a free slot for a function; 0 when all are taken: its calls then are not redirected. */
static int take(unsigned function, uint64_t object, uint64_t base, uint64_t real) {
  for (unsigned i = function * COPIES; i < (function + 1) * COPIES; i++) {
    if (slots[i].object)
      continue;
    slots[i].target = 0;
    slots[i].real = real;
    slots[i].base = base;
    /* Last, because ProfInfer may read the table at any time. */
    __atomic_store_n(&slots[i].object, object, __ATOMIC_RELEASE);
    return 1;
  }
  return 0;
}

/* Version 2 (glibc 2.35) asks auditors about symbols bound at once, too, and keeps lazy bindings
 * on the fast path for an auditor without la_pltenter. With an older loader every call of every
 * library would become slow: it is told to leave us out.
 */
EXPORT unsigned int la_version(unsigned int version) { return version >= 2 ? 2 : 0; }

EXPORT void la_activity(uintptr_t *cookie, unsigned int activity) {
  (void)cookie;
  __atomic_store_n(&profinfer_changing, activity != LA_ACT_CONSISTENT, __ATOMIC_RELEASE);
}

/* The loader itself is an object as any. */
static void look_for_rseq(const struct link_map *map, const struct object *object) {
  const Elf64_Sym *offset = find(object, "__rseq_offset", STT_OBJECT);
  const Elf64_Sym *size = offset ? find(object, "__rseq_size", STT_OBJECT) : 0;
  if (size)
    rings_know_rseq((void *)(map->l_addr + offset->st_value),
                    (void *)(map->l_addr + size->st_value));
}

EXPORT unsigned int la_objopen(struct link_map *map, Lmid_t namespace, uintptr_t *cookie) {
  (void)namespace;
  struct object object = read_dynamic(map);
  unsigned flags = 0;
  *cookie = (uintptr_t)map;
  release(*cookie); /* of an object that went without being closed */
  look_for_rseq(map, &object);
  for (unsigned function = 0; function < HOT; function++) {
    const Elf64_Sym *symbol = find(&object, hot[function], STT_FUNC);
    if (symbol && take(function, *cookie, map->l_addr, map->l_addr + symbol->st_value))
      flags = LA_FLG_BINDTO | LA_FLG_BINDFROM;
  }
  if (flags)
    rings_prepare();
  return flags || calls_hot(&object) ? flags | LA_FLG_BINDFROM : 0;
}

/* Pointers from dlsym() lead to the stub as well: a call through them would be missed without
 * anybody noticing. They differ from &function inside the engine, which no engine compares.
 *
 * Lazy bindings come here from several threads at once.
 */
EXPORT uintptr_t la_symbind64(Elf64_Sym *symbol, unsigned int index, uintptr_t *from, uintptr_t *to,
                              unsigned int *flags, const char *name) {
  (void)index, (void)from;
  unsigned function = which(name);
  for (unsigned i = function * COPIES; function < HOT && i < (function + 1) * COPIES; i++) {
    if (slots[i].object != *to)
      continue;
    *flags |= LA_SYMB_NOPLTENTER | LA_SYMB_NOPLTEXIT;
    /* An auditor before us may have answered with a function of its own. The first answer
     * decides where the stub jumps; a binding that shall lead elsewhere is left alone. */
    uint64_t target = 0;
    if (__atomic_compare_exchange_n(&slots[i].target, &target, symbol->st_value, 0,
                                    __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE) ||
        target == symbol->st_value)
      return (uintptr_t)stubs[i];
    break;
  }
  return symbol->st_value;
}

EXPORT unsigned int la_objclose(uintptr_t *cookie) {
  release(*cookie);
  return 0;
}
