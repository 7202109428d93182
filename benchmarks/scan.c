/* The bound: the scan that Transhume's kernels do, in C, as fast as it can be made.
 *
 * A capture (pcap or pcapng, Ethernet, little-endian) is read in blocks and each frame counted by time bin and by the
 * same 48-byte row of addresses: both MAC addresses, family and flags, both IP addresses. VLAN tags in any stack,
 * IPv4, IPv6 with its usual extension headers, ARP claims, the bytes that the transport carried, the earliest and
 * the latest time; and each number of a record that says where something is gets checked before it is believed.
 * Left out is what the made captures don't hold: inner headers, cooked link layers, claims by neighbour discovery,
 * several interfaces. A DHCP answer is looked for, and given up at.
 *
 * scan FILE SCANS [CELLS]: prints CPU and clock seconds, frames, bytes and payload bytes of each scan; the cells of the
 * last one (struct cell, then the row) go to the file CELLS, for whoever checks them.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

typedef uint8_t u8;
typedef uint32_t u32;
typedef uint64_t u64;

#define BLOCK (2u << 20)
#define LONGEST_RECORD (1u << 20)
#define BIN_US 1000000ull
#define TABLE_BITS 14
#define WAITING 16
#define MOST_CELLS (8u << 20)
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

enum { SOURCE_MAC = 1, DESTINATION_MAC = 2, CLAIM = 4 };

/* One cache line: the row, and where its bytes of the present bin are added up. */
struct entry {
    u64 row[6];
    u64 stay; /* the number of the stay in a bin in which it was last seen; 0: a free entry */
    u64 cell;
} __attribute__((aligned(64)));

struct cell {
    u64 bytes, payload, frames;
    u32 bin, entry;
};

/* A frame whose entry is on its way into the cache. */
struct frame {
    u64 row[6], at, bytes, payload;
};

static struct entry *table;
static struct cell *cells;
static struct frame waiting[WAITING];
static u32 waiting_count, bin;
static u64 cell_count, stay, frames_seen, bytes_seen, payload_seen, entries_used;
static u64 bin_from, bin_width, ticks_a_us, earliest, latest;

static inline u32 ld32(const u8 *p) { u32 v; memcpy(&v, p, 4); return v; }
static inline u64 ld64(const u8 *p) { u64 v; memcpy(&v, p, 8); return v; }
static inline u32 be16(const u8 *p) { return (u32)p[0] << 8 | p[1]; }

static struct entry *entry_of(const struct frame *frame)
{
    const u64 *row = frame->row;
    for (u64 at = frame->at;; at = (at + 1) & ((1u << TABLE_BITS) - 1)) {
        struct entry *found = &table[at];
        if (unlikely(!found->stay)) {
            memcpy(found->row, row, sizeof found->row);
            if (++entries_used == 1u << TABLE_BITS)
                abort();
            return found;
        }
        if (likely(!((found->row[0] ^ row[0]) | (found->row[1] ^ row[1]) | (found->row[2] ^ row[2])
                     | (found->row[3] ^ row[3]) | (found->row[4] ^ row[4]) | (found->row[5] ^ row[5]))))
            return found;
    }
}

static void add_waiting(void)
{
    for (u32 i = 0; i < waiting_count; i++) {
        struct entry *entry = entry_of(&waiting[i]);
        if (unlikely(entry->stay != stay)) {
            if (cell_count == MOST_CELLS)
                abort();
            entry->stay = stay;
            entry->cell = cell_count++;
            cells[entry->cell] = (struct cell){.bin = bin, .entry = (u32)(entry - table)};
        }
        struct cell *cell = &cells[entry->cell];
        cell->bytes += waiting[i].bytes;
        cell->payload += waiting[i].payload;
        cell->frames++;
    }
    waiting_count = 0;
}

static inline void count(const u64 row[6], u64 bytes, u64 payload)
{
    u64 x = row[0] * 0x9E3779B97F4A7C15ull + row[1] * 0xC2B2AE3D27D4EB4Full + row[2] * 0x165667B19E3779F9ull
          + row[3] * 0xD6E8FEB86659FD93ull + row[4] * 0xFF51AFD7ED558CCDull + row[5] * 0x94D049BB133111EBull;
    x = (x ^ x >> 32) * 0x9E3779B97F4A7C15ull;
    struct frame *frame = &waiting[waiting_count];
    memcpy(frame->row, row, sizeof frame->row);
    frame->at = x >> (64 - TABLE_BITS);
    frame->bytes = bytes;
    frame->payload = payload;
    __builtin_prefetch(&table[frame->at]);
    if (++waiting_count == WAITING)
        add_waiting();
}

static void damaged(void)
{
    fputs("the capture is damaged, or holds what this scan doesn't know\n", stderr);
    exit(1);
}

/* What the transport carried; `at` is where its header begins, `left` the bytes of IP from there on. */
static inline u64 carried(const u8 *f, u32 cap, u32 at, u32 protocol, int64_t left)
{
    u32 tcp = likely(at + 12 < cap) ? f[at + 12] >> 4 << 2 : 20;
    left -= (tcp & -(u32)(protocol == 6)) | (8 & -(u32)(protocol == 17)); /* without a branch to mispredict */
    return left > 0 ? (u64)left : 0;
}

static u64 carried_ipv6(const u8 *f, u32 cap, u32 at, u32 protocol, int64_t left)
{
    for (;;) {
        u32 size;
        switch (protocol) {
        case 0: case 43: case 60: case 135:
            if (at + 2 > cap) return left > 0 ? (u64)left : 0;
            size = (f[at + 1] + 1u) * 8;
            break;
        case 51:
            if (at + 2 > cap) return left > 0 ? (u64)left : 0;
            size = (f[at + 1] + 2u) * 4;
            break;
        case 44:
            if (at + 8 > cap) return left > 0 ? (u64)left : 0;
            size = 8;
            if (be16(f + at + 2) & 0xfff8) return left > 8 ? (u64)left - 8 : 0;
            break;
        default:
            return carried(f, cap, at, protocol, left);
        }
        protocol = f[at];
        at += size;
        left -= size;
    }
}

static inline void take(const u8 *f, u32 cap, u32 length, u64 tick)
{
    u64 row[6] = {0}, payload = 0;
    earliest = tick < earliest ? tick : earliest;
    latest = tick > latest ? tick : latest;
    if (unlikely(tick - bin_from >= bin_width)) {
        add_waiting();
        bin = (u32)(tick / bin_width);
        bin_from = bin * bin_width;
        stay++;
    }
    frames_seen++;
    bytes_seen += length;
    if (unlikely(cap < 14)) {
        count(row, length, 0);
        return;
    }
    u64 kind = SOURCE_MAC | DESTINATION_MAC;
    u32 at = 14, tagged = (be16(f + 12) == 0x8100) & (cap >= 18); /* the usual tag, without a branch */
    at += tagged << 2;
    u32 type = be16(f + at - 2);
    while (unlikely(type == 0x8100 || type == 0x88a8 || type == 0x9100 || type == 0x9200) && at + 4 <= cap) {
        type = be16(f + at + 2);
        at += 4;
    }
    u64 family = 0;
    const u8 *ip = f + at;
    if (likely(type == 0x0800)) {
        u32 size = (ip[0] & 15u) * 4;
        if (likely(at + 20 <= cap && ip[0] >> 4 == 4 && size >= 20)) {
            family = 4;
            row[2] = ld32(ip + 12);
            row[4] = ld32(ip + 16);
            u32 total = be16(ip + 2);
            int64_t left = (int64_t)(likely(total) ? total : length - at) - size;
            if (unlikely(ip[9] == 17 && at + size + 4 <= cap && ld32(ip + size) == 0x44004300))
                damaged(); /* from a DHCP server to a client */
            if (likely(!(be16(ip + 6) & 0x1fff)))
                payload = carried(f, cap, at + size, ip[9], left);
            else
                payload = left > 0 ? (u64)left : 0;
        }
    } else if (type == 0x86dd) {
        if (at + 40 <= cap && ip[0] >> 4 == 6) {
            family = 6;
            row[2] = ld64(ip + 8);
            row[3] = ld64(ip + 16);
            row[4] = ld64(ip + 24);
            row[5] = ld64(ip + 32);
            u32 total = be16(ip + 4), protocol = ip[6];
            int64_t left = likely(total) ? (int64_t)total : (int64_t)length - at - 40;
            if (likely(protocol == 6 || protocol == 17))
                payload = carried(f, cap, at + 40, protocol, left);
            else
                payload = carried_ipv6(f, cap, at + 40, protocol, left);
        }
    } else if (type == 0x0806 && at + 28 <= cap && ld64(ip) << 16 == 0x0406000801000000ull) {
        family = 4;
        row[2] = ld32(ip + 14);
        row[4] = ld32(ip + 24);
        if (row[2])
            kind |= CLAIM;
    }
    row[0] = ld64(f);
    row[1] = ld32(f + 8) | family << 32 | kind << 40;
    payload_seen += payload;
    count(row, length, payload);
}

static u64 records(const u8 *b, u64 at, u64 end)
{
    u64 a_second = ticks_a_us * 1000000;
    while (at + 16 <= end) {
        u32 cap = ld32(b + at + 8), fraction = ld32(b + at + 4);
        if (unlikely(fraction > a_second || cap > LONGEST_RECORD))
            damaged();
        if (unlikely(at + 16 + cap > end))
            break;
        take(b + at + 16, cap, ld32(b + at + 12), ld32(b + at) * a_second + fraction);
        at += 16 + cap;
    }
    return at;
}

static u64 blocks(const u8 *b, u64 at, u64 end)
{
    while (at + 12 <= end) {
        u32 type = ld32(b + at), size = ld32(b + at + 4);
        if (unlikely(size < 12 || size & 3 || size > LONGEST_RECORD))
            damaged();
        if (unlikely(at + size > end))
            break;
        if (unlikely(ld32(b + at + size - 4) != size))
            damaged();
        if (likely(type == 6)) {
            u64 tick = (u64)ld32(b + at + 12) << 32 | ld32(b + at + 16);
            u32 cap = ld32(b + at + 20);
            if (unlikely(size < 32 || cap > size - 32 || ld32(b + at + 8) != 0))
                damaged();
            take(b + at + 28, cap, ld32(b + at + 24), tick);
        } else if (type == 1) {
            u32 option = ld32(b + at + 16);
            ticks_a_us = size > 24 && (option & 0xffff) == 9 && b[at + 20] == 9 ? 1000 : 1;
            bin_width = BIN_US * ticks_a_us;
        }
        at += size;
    }
    return at;
}

static void scan(const char *path, u8 *buffer)
{
    cell_count = frames_seen = bytes_seen = payload_seen = bin_from = entries_used = 0;
    stay = 1;
    bin = 0;
    earliest = ~0ull;
    latest = 0;
    memset(table, 0, sizeof *table << TABLE_BITS);
    int file = open(path, O_RDONLY);
    if (file < 0 || read(file, buffer, 24) != 24) {
        perror(path);
        exit(1);
    }
    u32 magic = ld32(buffer);
    int ng = magic == 0x0a0d0d0a;
    ticks_a_us = magic == 0xa1b23c4d ? 1000 : 1;
    bin_width = BIN_US * ticks_a_us;
    u64 have = ng ? 24 : 0;
    for (;;) {
        ssize_t got = read(file, buffer + have, BLOCK);
        if (got <= 0)
            break;
        have += (u64)got;
        u64 done = ng ? blocks(buffer, 0, have) : records(buffer, 0, have);
        memmove(buffer, buffer + done, have - done);
        have -= done;
    }
    add_waiting();
    close(file);
    if (have) {
        fprintf(stderr, "%s: ends within a record\n", path);
        exit(1);
    }
}

static double cpu(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return now.tv_sec + now.tv_nsec * 1e-9;
}

static double clock_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + now.tv_nsec * 1e-9;
}

int main(int count, char **argument)
{
    if (count < 3)
        return 2;
    u8 *buffer = aligned_alloc(4096, BLOCK + LONGEST_RECORD);
    table = aligned_alloc(64, sizeof *table << TABLE_BITS);
    cells = malloc(sizeof *cells * MOST_CELLS);
    for (int left = atoi(argument[2]); left > 0; left--) {
        double cpu_began = cpu(), began = clock_now();
        scan(argument[1], buffer);
        printf("{\"cpu\": %.6f, \"wall\": %.6f, \"frames\": %lu, \"bytes\": %lu, \"payload_bytes\": %lu, "
               "\"first\": %lu, \"last\": %lu}\n",
               cpu() - cpu_began, clock_now() - began, frames_seen, bytes_seen, payload_seen,
               earliest, latest);
    }
    if (count > 3) {
        FILE *out = fopen(argument[3], "wb");
        for (u64 i = 0; i < cell_count; i++) {
            fwrite(&cells[i], sizeof cells[i], 1, out);
            fwrite(table[cells[i].entry].row, sizeof table[0].row, 1, out);
        }
        return fclose(out) != 0;
    }
    return 0;
}
