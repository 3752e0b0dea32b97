/**
 * @file insncount.c
 * @brief A QEMU plugin that counts executed guest instructions per block and marked region.
 *
 * Nothing of it depends on the guest's architecture. The entry points of QEMU that it uses are
 * declared here (QEMU 6 and newer have them), so no header of QEMU need be installed:
 *
 *     gcc -O2 -shared -fPIC insncount.c -o insncount.so
 *     qemu-system-arm ... -plugin ./insncount.so,regions=0x20000100,count=12,skip=0x100:0x140,out=F
 *
 * The guest stores into element i of the array at `regions` to begin region i; region 0 is not
 * counted. Blocks that begin within a `skip` range (the code that marks) are never counted; only
 * their stores are watched.
 *
 * Output, a line for each block and region: address of the first and of the last instruction, number
 * of instructions, region, executions, and how many of these were not followed by the code behind
 * (taken branches).
 */
#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

/* What of the interface is declared is the same in all versions; QEMU asks which one is meant. */
#ifndef PLUGIN_VERSION
#define PLUGIN_VERSION 1
#endif

typedef uint64_t plugin_id;
typedef void (*translate_callback)(plugin_id, void *);
typedef void (*execute_callback)(unsigned int, void *);
typedef void (*memory_callback)(unsigned int, uint32_t, uint64_t, void *);
typedef void (*exit_callback)(plugin_id, void *);

enum { NO_REGISTERS = 0, STORES = 2 };

extern void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, translate_callback);
extern void qemu_plugin_register_vcpu_tb_exec_cb(void *, execute_callback, int, void *);
extern void qemu_plugin_register_vcpu_mem_cb(void *, memory_callback, int, int, void *);
extern void qemu_plugin_register_atexit_cb(plugin_id, exit_callback, void *);
extern size_t qemu_plugin_tb_n_insns(const void *);
extern uint64_t qemu_plugin_tb_vaddr(const void *);
extern void *qemu_plugin_tb_get_insn(const void *, size_t);
extern size_t qemu_plugin_insn_size(const void *);
extern uint64_t qemu_plugin_insn_vaddr(const void *);

EXPORT int qemu_plugin_version = PLUGIN_VERSION;
EXPORT int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv);

/** How often a block ran in one region. */
struct count {
    uint64_t region, executed, taken;
    struct count *next;
};

/**
 * A block of guest code; of its counts the first is the latest used.
 *
 * An instruction before the end of a page can seem longer than it is: QEMU peeks at the one behind
 * it, and takes those bytes for its own. So the code behind begins after `last`, at `end` at most.
 */
struct block {
    uint64_t address, last, end, instructions;
    struct count *counts;
    struct block *next;
};

#define BUCKETS 16384u
#define SKIPS 4

static struct block *table[BUCKETS];
static uint64_t regions, region_count;
static uint64_t skip_from[SKIPS], skip_to[SKIPS];
static int skips;
static const char *out_path;

static uint64_t region;
static struct block *previous;

static void *allocate(size_t bytes)
{
    void *memory = calloc(1, bytes);

    if (memory == NULL) {
        fputs("insncount: out of memory\n", stderr);
        abort();
    }
    return memory;
}

/** The count of @p b in the current region, moved to the front. */
static struct count *current(struct block *b)
{
    struct count **link = &b->counts;
    struct count *c;

    while (*link != NULL && (*link)->region != region) {
        link = &(*link)->next;
    }
    c = *link;
    if (c == NULL) {
        c = allocate(sizeof *c);
        c->region = region;
    } else {
        *link = c->next;
    }
    c->next = b->counts;
    b->counts = c;
    return c;
}

static void on_block(unsigned int cpu, void *data)
{
    struct block *b = data;

    (void)cpu;
    if (region == 0) {
        return;
    }
    if (previous != NULL && (b->address <= previous->last || b->address > previous->end)) {
        current(previous)->taken++;
    }
    current(b)->executed++;
    previous = b;
}

static void on_store(unsigned int cpu, uint32_t info, uint64_t address, void *data)
{
    (void)cpu;
    (void)info;
    (void)data;
    if (address - regions < region_count) {
        region = address - regions;
        previous = NULL;
    }
}

static struct block *find_block(uint64_t address, uint64_t last, uint64_t end, uint64_t instructions)
{
    struct block **head = &table[(address >> 1) % BUCKETS];
    struct block *b;

    for (b = *head; b != NULL; b = b->next) {
        if (b->address == address && b->last == last) {
            return b;
        }
    }
    b = allocate(sizeof *b);
    b->address = address;
    b->last = last;
    b->end = end;
    b->instructions = instructions;
    b->next = *head;
    *head = b;
    return b;
}

static int skipped(uint64_t address)
{
    for (int i = 0; i < skips; i++) {
        if (address >= skip_from[i] && address < skip_to[i]) {
            return 1;
        }
    }
    return 0;
}

static void on_translate(plugin_id id, void *tb)
{
    const uint64_t address = qemu_plugin_tb_vaddr(tb);
    const size_t n = qemu_plugin_tb_n_insns(tb);
    const void *insn;
    struct block *b;
    uint64_t last;

    (void)id;
    if (n == 0) {
        return;
    }
    if (skipped(address)) {
        for (size_t i = 0; i < n; i++) {
            qemu_plugin_register_vcpu_mem_cb(qemu_plugin_tb_get_insn(tb, i), on_store,
                                             NO_REGISTERS, STORES, NULL);
        }
        return;
    }
    insn = qemu_plugin_tb_get_insn(tb, n - 1);
    last = qemu_plugin_insn_vaddr(insn);
    b = find_block(address, last, last + qemu_plugin_insn_size(insn), n);
    qemu_plugin_register_vcpu_tb_exec_cb(tb, on_block, NO_REGISTERS, b);
}

static void on_end(plugin_id id, void *data)
{
    FILE *out = fopen(out_path, "w");

    (void)id;
    (void)data;
    if (out == NULL) {
        perror(out_path);
        return;
    }
    for (size_t i = 0; i < BUCKETS; i++) {
        for (const struct block *b = table[i]; b != NULL; b = b->next) {
            for (const struct count *c = b->counts; c != NULL; c = c->next) {
                fprintf(out, "%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n",
                        b->address, b->last, b->instructions, c->region, c->executed, c->taken);
            }
        }
    }
    if (fclose(out) != 0) {
        perror(out_path);
    }
}

/** Take one argument `name=value`; 0 if it is none of ours. */
static int take(const char *argument)
{
    char *end = NULL;

    if (strncmp(argument, "regions=", 8) == 0) {
        regions = strtoull(argument + 8, NULL, 0);
    } else if (strncmp(argument, "count=", 6) == 0) {
        region_count = strtoull(argument + 6, NULL, 0);
    } else if (strncmp(argument, "out=", 4) == 0) {
        out_path = strdup(argument + 4);
    } else if (strncmp(argument, "skip=", 5) == 0 && skips < SKIPS) {
        skip_from[skips] = strtoull(argument + 5, &end, 0);
        skip_to[skips] = strtoull(end + 1, NULL, 0);
        skips++;
    } else {
        return 0;
    }
    return 1;
}

int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv)
{
    (void)info;
    for (int i = 0; i < argc; i++) {
        if (!take(argv[i])) {
            fprintf(stderr, "insncount: unknown argument %s\n", argv[i]);
            return 1;
        }
    }
    if (out_path == NULL || region_count == 0) {
        fputs("insncount: regions, count and out are needed\n", stderr);
        return 1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translate);
    qemu_plugin_register_atexit_cb(id, on_end, NULL);
    return 0;
}
